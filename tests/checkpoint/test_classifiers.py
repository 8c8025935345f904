"""Published classifiers and linear probes compute here what they compute there, and come back bit for bit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from convmae_det.checkpoint import Strictness, load_weights
from convmae_det.checkpoint.conversion import to_official
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.weights import read_weights
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError
from convmae_det.inference.weight_conversion import convert_weights
from convmae_det.solver.optimizer import build_optimizer

FILES = {"cls_tiny": False, "cls_tiny_probe": True}


@pytest.fixture
def classifier_config(config):
    """classifier_config(probe, classes, **keys of MODEL.CONVMAE)"""

    def classifier_config(probe=False, classes=7, **keys):
        cfg = config(**dict(DEPTHS=[2, 2, 3], PRETRAIN_IMAGE_SIZE=64) | keys)
        cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
        cfg.MODEL.CLASSIFIER.NUM_CLASSES, cfg.MODEL.CLASSIFIER.PROBE = classes, probe
        return cfg

    return classifier_config


@pytest.fixture(params=FILES)
def loaded(request, golden, classifier_config):
    """A golden classifier: the model, its file and the reference."""
    path = golden / f"{request.param}_checkpoint.pth"
    model = build_model(classifier_config(FILES[request.param]))
    report = load_weights(model, path)
    assert not report.new and not report.resized and len(report.matched) == len(model.state_dict())
    return model, path, np.load(golden / f"{request.param}.npz")


def assert_close(result, reference, tolerance=1e-4):
    reference = torch.as_tensor(reference)
    assert result.shape == reference.shape
    assert (result - reference).abs().max() <= tolerance * reference.abs().max()


def test_logits(loaded):
    model, _, reference = loaded
    images = torch.tensor(reference["images"])
    with torch.no_grad():
        assert_close(model.eval().pool(images), reference["pooled"])
        assert_close(model.logits(images), reference["logits"])


def test_scores_are_the_probabilities_of_pixels(loaded):
    model, _, reference = loaded
    images = torch.tensor(reference["images"])
    pixels = images * model.pixel_std + model.pixel_mean
    with torch.no_grad():
        found = model.eval()([{"image": image} for image in pixels])
        again = model({"images": pixels})
    expected = torch.tensor(reference["logits"]).softmax(1)
    assert_close(torch.stack([image["scores"] for image in found]), expected, 1e-3)
    assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(found, again, strict=True))


def test_it_comes_back_bit_for_bit(loaded, tmp_path):
    model, path, _ = loaded
    published = read_checkpoint(path)["model"]
    for state in (to_official(model.state_dict()), convert_weights(read_weights(path), to="official")[0]):
        assert state.keys() == published.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in published.items())
    write_checkpoint({"model": model.state_dict()}, tmp_path / "ours.pth")
    state, _ = convert_weights(read_weights(tmp_path / "ours.pth"), to="official")
    assert state.keys() == published.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in published.items())


@pytest.fixture
def trained(golden, classifier_config):
    """The fine-tuned classifier after the backward pass of the reference, its configuration and the reference."""
    cfg, reference = classifier_config(), np.load(golden / "cls_tiny.npz")
    model = build_model(cfg).train()
    load_weights(model, golden / "cls_tiny_checkpoint.pth")
    pixels = torch.tensor(reference["images"]) * model.pixel_std + model.pixel_mean
    losses = model({"images": pixels, "targets": torch.tensor(reference["targets"])})
    losses["loss_classification"].backward()
    return cfg, model, losses, reference


def test_loss_and_gradients(trained):
    _, model, losses, reference = trained
    assert_close(losses["loss_classification"], reference["loss"])
    gradients = to_official({name: parameter.grad for name, parameter in model.named_parameters()})
    names, norms = reference["grad_names"].tolist(), torch.tensor(reference["grad_norms"])
    assert sorted(gradients) == sorted(names)
    assert_close(torch.stack([gradients[name].norm() for name in names]), norms.float())


def test_rates_and_decay_of_every_parameter(trained):
    cfg, model, _, reference = trained
    cfg.SOLVER.LAYER_DECAY, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.BASE_LR = 0.65, 0.05, 1.0
    groups = build_optimizer(cfg, model).param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    official = dict(model.named_parameters())
    names = dict(zip(to_official(official), official, strict=True))
    columns = (reference[key].tolist() for key in ("grad_names", "lr_scale", "decay"))
    for name, scale, decay in zip(*columns, strict=True):
        assert found[id(official[names[name]])] == (pytest.approx(scale), pytest.approx(decay)), name


def test_hard_labels_and_smoothing(classifier_config):
    cfg = classifier_config(classes=5)
    cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING = 0.1
    model = build_model(cfg).train()
    torch.nn.init.normal_(model.head.weight)
    images, labels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 4, 2, 2])
    logits = model.logits((images.float() - model.pixel_mean) / model.pixel_std)
    smooth = F.one_hot(labels, 5) * 0.9 + 0.1 / 5
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    samples = [{"image": image, "label": label} for image, label in zip(images, labels.tolist(), strict=True)]
    for batch in (
        {"images": images, "labels": labels},
        samples,
        {"images": images, "targets": F.one_hot(labels, 5).float()},
    ):
        torch.testing.assert_close(model(batch)["loss_classification"], expected)


def test_a_probe_trains_its_linear_layer_alone(classifier_config):
    cfg = classifier_config(probe=True, DROP_PATH_RATE=0.5)
    model = build_model(cfg).train()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.1.weight", "head.1.bias"]
    batch = {"images": torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8), "labels": torch.arange(6)}
    assert torch.equal(*(model(batch)["loss_classification"] for _ in range(2)))  # nothing is dropped
    before = model.head[0].running_mean.clone()
    cfg.SOLVER.OPTIMIZER = "LARS"
    optimizer = build_optimizer(cfg, model)
    model(batch)["loss_classification"].backward()
    optimizer.step()
    assert not torch.equal(model.head[0].running_mean, before)


def test_lars_is_that_of_the_published_probe(classifier_config):
    """The step of a weight is as long as 0.001 of its norm, times the rate; that of a bias its gradient."""
    cfg = classifier_config(probe=True)
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.BASE_LR = "LARS", 0.0, 2.0
    model = build_model(cfg)
    layer, optimizer = model.head[1], build_optimizer(cfg, model)
    before = [p.detach().clone() for p in (layer.weight, layer.bias)]
    steps = [torch.zeros_like(p) for p in before]
    for _ in range(2):
        gradients = [torch.randn_like(p) for p in before]
        layer.weight.grad, layer.bias.grad = (gradient.clone() for gradient in gradients)
        gradients[0] *= 0.001 * before[0].norm() / gradients[0].norm()
        for value, step, gradient in zip(before, steps, gradients, strict=True):
            value.sub_(step.mul_(0.9).add_(gradient), alpha=2.0)
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before[0])
    torch.testing.assert_close(layer.bias.detach(), before[1])


@pytest.mark.parametrize("file", ["mae_tiny", "cls_tiny", "cls_tiny_probe", "handoff_window8_pretrain"])
@pytest.mark.parametrize("probe", [False, True])
def test_any_encoder_begins_a_classifier(golden, classifier_config, file, probe):
    """With the head of its own kind and number of classes, or a new one."""
    deep = {"DEPTHS": [2, 2, 11]} if "handoff" in file else {}
    model = build_model(classifier_config(probe, classes=9, PRETRAIN_IMAGE_SIZE=128, **deep))
    report = load_weights(model, golden / f"{file}_checkpoint.pth")
    heads = {name for name in model.state_dict() if name.startswith("head.") and not name.startswith("head.0")}
    assert heads <= report.new.keys()
    table = "encoder.stage3.position_embedding.table"
    assert (table in report.resized) == (read_weights(golden / f"{file}_checkpoint.pth").shape.position_grid != (8, 8))


def test_a_classifier_begins_a_detector(golden, config, classifier_config, tmp_path):
    model = build_model(classifier_config())
    load_weights(model, golden / "cls_tiny_checkpoint.pth")
    write_checkpoint({"model": model.state_dict()}, tmp_path / "ours.pth")
    states = []
    for path in (golden / "cls_tiny_checkpoint.pth", tmp_path / "ours.pth"):
        torch.manual_seed(0)
        detector = build_model(config(DEPTHS=[2, 2, 3], IMAGE_SIZE=64))
        report = load_weights(detector, path)
        left = {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
        assert {name for name, why in report.left_out.items() if why == "the classifier's head"} == left
        states.append(detector.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    own = model.state_dict()["encoder.stage3.blocks.2.attn.qkv.weight"]
    assert torch.equal(states[0]["backbone.bottom_up.encoder.stage3.blocks.2.attn.qkv.weight"], own)


def test_a_classifier_is_evaluated_only_whole(golden, classifier_config):
    for probe, classes in ((False, 9), (True, 7)):
        with pytest.raises(InputError, match="is not of the model that the configuration describes"):
            path = golden / "cls_tiny_checkpoint.pth"
            load_weights(build_model(classifier_config(probe, classes)), path, strictness=Strictness.WHOLE)


@pytest.mark.parametrize("probe", [False, True])
def test_the_other_kind_of_head_is_named(golden, classifier_config, probe):
    path = golden / ("cls_tiny_checkpoint.pth" if probe else "cls_tiny_probe_checkpoint.pth")
    with pytest.raises(InputError, match=f"its head is that of MODEL.CLASSIFIER.PROBE {not probe}: set this"):
        load_weights(build_model(classifier_config(probe)), path, strictness=Strictness.WHOLE)


@pytest.mark.parametrize("keys", [dict(ARCH="tiny"), dict(EMBED_DIMS=[8, 12, 16], DEPTHS=[1, 2, 1], NUM_HEADS=2)])
@pytest.mark.parametrize("size", [(32, 96), (64, 64)])
def test_other_widths_and_sizes(classifier_config, keys, size):
    model = build_model(classifier_config(classes=3, **keys)).eval()
    logits = model.logits(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3) and logits.isfinite().all()
    back = to_official(model.state_dict())
    assert {"pos_embed", "fc_norm.weight", "head.weight"} <= back.keys() and not [n for n in back if "encoder" in n]


def test_defaults_alone_build_a_classifier():
    from detectron2.config import get_cfg

    from convmae_det.config import add_convmae_config

    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "ImageClassifier", "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.head.out_features == 1000 and model.head.in_features == 768
