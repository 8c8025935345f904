"""The published UPerNet computes here what it computes there; its scales become part of the weights, exactly."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch.testing import assert_close as assert_tensors_close

from convmae_det.checkpoint import Strictness, load_weights
from convmae_det.checkpoint.conversion import to_official, to_ours
from convmae_det.checkpoint.inspection import describe_file
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.weights import read_weights
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError
from convmae_det.inference.feature_extractor import create_encoder
from convmae_det.inference.weight_conversion import convert_weights

KEYS = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "build_convmae_upernet_backbone"),
    *("MODEL.SEM_SEG_HEAD.NAME", "UPerHead", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    *("MODEL.UPERNET.AUXILIARY_DIM", 16),
]
HEADS = ("backbone.e4.", "sem_seg_head.")


@pytest.fixture(scope="module")
def path(golden):
    return golden / "upernet_tiny_checkpoint.pth"


@pytest.fixture(scope="module")
def published(path):
    return read_checkpoint(path)["state_dict"]


@pytest.fixture(scope="module")
def reference(golden):
    return {name: torch.tensor(array) for name, array in np.load(golden / "upernet_tiny.npz").items()}


@pytest.fixture
def segmentor_config(config):
    def segmentor_config(*options, **keys):
        cfg = config(**dict(DEPTHS=[2, 2, 3], IMAGE_SIZE=128, RELATIVE_POSITION="blocks") | keys)
        cfg.merge_from_list([*KEYS, *options])
        return cfg

    return segmentor_config


def assert_close(result, reference, tolerance=1e-5):
    assert result.shape == reference.shape
    assert (result - reference).abs().max() <= tolerance * reference.abs().max()


def assert_is_reference(model, reference):
    with torch.no_grad():
        features = model.eval().backbone(reference["images"])
        for name, tensor in features.items():
            assert_close(tensor, reference[name])
        assert_close(model.sem_seg_head.layers(features), reference["logits"])
        assert_close(model.sem_seg_head.auxiliary_head(features["e3"]), reference["auxiliary"])


def test_features_and_logits(path, segmentor_config, reference):
    model = build_model(segmentor_config())
    report = load_weights(model, path, strictness=Strictness.WHOLE)
    assert not report.new and not report.resized and len(report.matched) == len(model.state_dict())
    assert_is_reference(model, reference)


def test_it_is_described(path):
    facts = describe_file(path)
    assert facts["kind"] == "UPerNet of the first published code"
    assert facts["classes"] == "5: a, b, c, d, e" and facts["relative position"] == "blocks: 8×8"


def test_its_classes_are_known(path, segmentor_config, caplog, tmp_path):
    """Others have their own names for the same classes, so that a difference is only said."""
    model = build_model(segmentor_config())
    model.class_names = list("abcde")
    load_weights(model, path, strictness=Strictness.WHOLE)
    assert "trained on the classes" not in caplog.text
    model.class_names = list("vwxyz")
    load_weights(model, path, strictness=Strictness.WHOLE)
    assert "trained on the classes a, b, c, d, e: are these, in this order, v, w, x, y, z?" in caplog.text
    torch.save({"model": model.state_dict(), "class_names": list("abcde")}, tmp_path / "ours.pth")
    with pytest.raises(InputError, match="trained on the classes a, b, c, d, e"):
        load_weights(model, tmp_path / "ours.pth", strictness=Strictness.WHOLE)


def test_another_number_of_classes_starts_anew(path, segmentor_config):
    model = build_model(segmentor_config("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3))
    report = load_weights(model, path)
    layers = ("sem_seg_head.conv_seg", "sem_seg_head.auxiliary_head.conv_seg")
    assert report.new.keys() == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_the_auxiliary_head_comes_and_goes(path, segmentor_config, tmp_path, published):
    alone = build_model(segmentor_config("MODEL.UPERNET.AUXILIARY_DIM", 0))
    report = load_weights(alone, path, strictness=Strictness.WHOLE)
    assert not report.new and all("auxiliary_head" in name for name in report.left_out if name != "meta")
    without = {name: tensor for name, tensor in published.items() if not name.startswith("auxiliary_head.")}
    torch.save({"state_dict": without}, tmp_path / "without.pth")
    report = load_weights(build_model(segmentor_config()), tmp_path / "without.pth")
    assert report.new and all("auxiliary_head" in name for name in report.new)


def test_it_is_converted_there_and_back(path, published, segmentor_config, reference, tmp_path):
    """What comes back computes the same with scales of one; all else is the same bit for bit."""
    state, _ = convert_weights(read_weights(path))
    write_checkpoint({"model": state}, tmp_path / "ours.pth")
    weights = read_weights(tmp_path / "ours.pth")
    assert weights.format.name == "UPerNet"
    model = build_model(segmentor_config())
    load_weights(model, tmp_path / "ours.pth", strictness=Strictness.WHOLE)
    assert_is_reference(model, reference)

    back, _ = convert_weights(weights, to="official")
    assert back.keys() == published.keys()
    changed = ("gamma_1", "gamma_2", "attn.proj.weight", "attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")
    for name, tensor in published.items():
        if "blocks3" in name and name.endswith("gamma_1"):
            assert torch.equal(back[name], torch.ones_like(tensor))
        elif not ("blocks3" in name and name.endswith(changed)):
            assert torch.equal(back[name], tensor), name
    again = to_ours(back, "backbone.")
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scales_become_part_of_the_layers_before_them(published, dtype):
    """Products of half precision are not rounded to it again, which would change what the file computes."""
    kept = torch.promote_types(dtype, torch.float32)
    block = "backbone.blocks3.1."
    scaled = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in published.items()}
    tokens = torch.randn(5, 48, dtype=dtype).double()
    ours = to_ours(scaled, "backbone.")
    for scale, layer in (("gamma_1", "attn.proj"), ("gamma_2", "mlp.fc2")):
        weight, bias = (scaled[f"{block}{layer}.{part}"].double() for part in ("weight", "bias"))
        inputs = tokens.repeat(1, weight.shape[1] // 48)
        expected = scaled[block + scale].double() * torch.nn.functional.linear(inputs, weight, bias)
        folded = [ours[f"backbone.encoder.stage3.blocks.1.{layer}.{part}"] for part in ("weight", "bias")]
        assert folded[0].dtype == folded[1].dtype == kept
        result = torch.nn.functional.linear(inputs, *(tensor.double() for tensor in folded))
        assert_tensors_close(result, expected, rtol=0, atol=50 * torch.finfo(kept).eps * float(expected.abs().max()))
    assert not any("gamma" in name for name in ours)


def test_a_scale_of_another_size_is_refused(published):
    wrong = published | {"backbone.blocks3.0.gamma_2": torch.ones(7)}
    with pytest.raises(InputError, match="^backbone.blocks3.0.gamma_2, .*mlp.fc2.weight: name a checkpoint"):
        to_ours(wrong, "backbone.")


def test_a_scale_that_some_blocks_lack_is_missing(published, tmp_path):
    torch.save({name: tensor for name, tensor in published.items() if "blocks3.1.gamma_2" not in name}, tmp_path / "a")
    with pytest.raises(InputError, match=r"^\S+/a: backbone.blocks3.1.gamma_2 is missing, which other blocks have"):
        read_weights(tmp_path / "a")


@pytest.mark.parametrize(("rows", "problem"), [(224, "fill no square"), (196, "14 displacements a side")])
def test_a_table_of_no_grid_is_refused(published, rows, problem):
    wrong = published | {"backbone.blocks3.0.attn.relative_position_bias_table": torch.zeros(rows, 4)}
    with pytest.raises(InputError, match=f"^backbone.blocks3.0.attn.relative_position_bias_table.*{problem}"):
        to_ours(wrong, "backbone.")


def test_pretraining_begins_it(golden, segmentor_config):
    model = build_model(segmentor_config())
    report = load_weights(model, golden / "mae_tiny_checkpoint.pth")
    tables = [name for name in report.new if "block_biases" in name]
    assert len(tables) == 3 and all(not model.state_dict()[name].any() for name in tables)
    assert all(name in tables or name.startswith(HEADS) for name in report.new)
    assert list(report.resized) == ["backbone.encoder.stage3.position_embedding.table"]


def test_its_encoder_begins_others(path, config, golden):
    """What they don't have is left out, each with its reason."""
    for keys, meta, names in (
        (dict(IMAGE_SIZE=128), "GeneralizedRCNN", ("backbone.bottom_up.encoder.",)),
        (dict(PRETRAIN_IMAGE_SIZE=128), "ImageClassifier", ("encoder.",)),
    ):
        cfg = config(**dict(DEPTHS=[2, 2, 3]) | keys)
        cfg.MODEL.META_ARCHITECTURE = meta
        report = load_weights(build_model(cfg), path)
        assert all(name.startswith(names) for name in report.matched) and len(report.matched) > 90
        reasons = {"tables": "RELATIVE_POSITION", "heads": "the segmentor's"}
        for name, reason in report.left_out.items():
            if name != "meta":
                assert reasons["heads" if name.startswith(HEADS) else "tables"] in reason


def test_its_encoder_serves_plain_pytorch(path, reference):
    encoder = create_encoder(pretrained=path, features=["e1", "e2", "e3"]).eval()
    with torch.no_grad():
        for name, tensor in encoder(reference["images"]).items():
            assert_close(tensor, reference[name])


def test_only_tables_of_blocks_are_published_with_scales(golden):
    tensors = read_checkpoint(golden / "det_window8_checkpoint.pth")["model"]
    ours = to_ours(tensors, "backbone.bottom_up.")
    assert not any("gamma" in name for name in to_official(ours, "backbone.bottom_up."))
