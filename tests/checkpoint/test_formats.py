"""Files are told apart by the names in them; networks of others are refused by their name."""

import pytest
import timm
import torch
import torchvision
from detectron2.modeling import build_model

from convmae_det.checkpoint.finding import find_model_tensors
from convmae_det.checkpoint.formats import recognise_format
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.errors import InputError


def published(golden, name="mae_tiny"):
    return find_model_tensors(read_checkpoint(golden / f"{name}_checkpoint.pth"), name)[0]


@pytest.mark.parametrize(
    "file, kind",
    [
        ("mae_tiny", "published pretraining checkpoint"),
        ("det_window8", "detector of the first published code"),
        ("vitdet_window7", "detector of the second published code"),
        ("upernet_tiny", "UPerNet of the first published code"),
    ],
)
def test_published_files(golden, file, kind):
    assert recognise_format(published(golden, file), "file").name == kind


def test_published_encoder_and_classifiers(golden):
    encoder = {name: tensor for name, tensor in published(golden).items() if "decode" not in name}
    assert recognise_format(encoder, "file").name == "published encoder"
    for head in ("head.weight", "head.1.weight"):  # fine-tuned, or linear probe behind a batch norm
        assert recognise_format([*encoder, head, "fc_norm.weight"], "file").name == "published classifier"


@pytest.mark.parametrize(
    "builder, kind",
    [
        ("build_convmae_fpn_backbone", "detector with FPN"),
        ("build_convmae_sfp_backbone", "detector with simple feature pyramid"),
    ],
)
def test_our_detectors(config, builder, kind):
    cfg = config(ARCH="tiny")
    cfg.MODEL.BACKBONE.NAME = builder
    names = build_model(cfg).state_dict()
    assert recognise_format(names, "file").name == kind
    assert recognise_format([name.replace(".bottom_up", "").replace(".net", "") for name in names], "file").prefix == (
        "backbone.encoder."
    )


def test_our_pretraining_and_encoder(pretraining_config):
    model = build_model(pretraining_config())
    assert recognise_format(model.state_dict(), "file").name == "pretraining checkpoint"
    assert recognise_format([n for n in model.state_dict() if n.startswith("encoder.")], "file").prefix == "encoder."
    assert recognise_format(model.encoder.state_dict(), "file").prefix == ""


FOREIGN = {
    "Swin Transformer": lambda: timm.create_model("swin_tiny_patch4_window7_224"),
    "plain ViT": lambda: timm.create_model("vit_tiny_patch16_224"),
    "plain ViT (": lambda: timm.create_model("beit_base_patch16_224"),
    "ConvNeXt": lambda: timm.create_model("convnext_atto"),
    "ConvNeXt (torchvision)": torchvision.models.convnext_tiny,
    "ResNet": torchvision.models.resnet18,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_networks_of_others_are_refused_by_name(kind, prefix):
    with torch.device("meta"):
        names = [prefix + name for name in FOREIGN[kind]().state_dict()]
    with pytest.raises(InputError) as refusal:
        recognise_format(names, "some/file.pth")
    assert str(refusal.value).startswith(f"some/file.pth holds the weights of another network, {kind}")
    assert "docs/checkpoints.md" in str(refusal.value)


def test_other_foreign_names():
    for names, kind in [
        (["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "decoder_embed.weight"], "plain ViT"),
        (["vit.embeddings.patch_embeddings.projection.weight"], "plain ViT"),
        (["backbone.bottom_up.stem.conv1.weight", "backbone.fpn_lateral2.weight"], "ResNet"),
        (["model.layer.weight"], "no ConvMAE encoder"),
    ]:
        with pytest.raises(InputError, match=f"^file .*{kind}"):
            recognise_format(names, "file")


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes(golden, wrapper, prefix):
    tensors = published(golden)
    saved = {prefix + name: tensor for name, tensor in tensors.items()}
    content = {wrapper: saved, "epoch": 3} if wrapper else saved | {"epoch": 3}
    found, entries = find_model_tensors(content, "file")
    assert found.keys() == tensors.keys() and entries == {"epoch": 3}


def test_the_model_comes_before_its_average(golden):
    tensors = published(golden)
    found, entries = find_model_tensors({"model_ema": {"other": torch.zeros(1)}, "model": tensors}, "file")
    assert found.keys() == tensors.keys() and "model_ema" in entries


@pytest.mark.parametrize("content", [{}, {"optimizer": {"state": {}}, "epoch": 1}, {"model": {}}, {"model": {"a": 1}}])
def test_files_without_weights(content):
    with pytest.raises(InputError, match="^file holds no weights"):
        find_model_tensors(content, "file")
