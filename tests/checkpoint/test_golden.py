"""Networks of the published code, run there, give the same here: golden files, through load_weights alone."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from convmae_det.checkpoint import load_weights
from convmae_det.checkpoint.conversion import to_official

MAE = {
    "mae_tiny": dict(decoder_depth=2),
    "mae_tiny_rawpix": dict(decoder_depth=1, MLP_RATIOS=[8, 8, 4]),
}
DECOMPOSED = dict(
    IMAGE_SIZE=224, WINDOW_SIZE=7, WINDOW_SHIFT=False, GLOBAL_BLOCKS=[1, 4, 7, 10], RELATIVE_POSITION="decomposed"
)


def assert_close(result, reference, tolerance=1e-4):
    """Within `tolerance` of the reference's largest value."""
    reference = torch.as_tensor(reference)
    assert result.shape == reference.shape
    assert (result - reference).abs().max() <= tolerance * reference.abs().max()


@pytest.fixture(params=MAE)
def reconstructed(request, golden, pretraining_config):
    """A golden pretraining network, loaded and run: the model, what it gives, and what it should."""
    cfg = pretraining_config(**MAE[request.param])
    if request.param == "mae_tiny_rawpix":
        cfg.MODEL.MAE.MASK_RATIO, cfg.MODEL.MAE.NORM_PIX_LOSS = 0.6, False
    model = build_model(cfg)
    report = load_weights(model, golden / f"{request.param}_checkpoint.pth")
    assert not report.new and not report.resized and len(report.matched) == len(model.state_dict())
    reference = np.load(golden / f"{request.param}.npz")
    result = model.reconstruct(torch.tensor(reference["images"]), torch.tensor(reference["noise"]))
    return model, result, reference


def test_reconstruction(reconstructed):
    _, result, reference = reconstructed
    hidden = torch.tensor(reference["mask"]).bool()
    assert torch.equal(result.visible, ~hidden)
    raster = torch.tensor(reference["ids_keep"]).argsort(dim=1)  # the published code keeps the order of the noise
    latent = torch.tensor(reference["latent"]).take_along_dim(raster[..., None], dim=1)
    assert_close(result.latent.detach(), latent)
    assert_close(result.prediction[0][hidden[0]].detach(), torch.tensor(reference["pred"])[0][hidden[0]])
    assert result.loss.item() == pytest.approx(reference["loss"].item(), rel=1e-4)


def test_gradients(reconstructed):
    model, result, reference = reconstructed
    result.loss.backward()
    gradients = to_official({name: parameter.grad for name, parameter in model.named_parameters()})
    names = reference["grad_names"].tolist()
    assert set(gradients) == set(names)
    for name, norm in zip(names, reference["grad_norms"].tolist(), strict=True):
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-7), name


@pytest.mark.parametrize(
    "file, name", [("det_window8", "det_window8"), ("handoff_window8_pretrain", "handoff_window8")]
)
def test_first_detector_and_hand_off(golden, config, file, name):
    model = build_model(config(IMAGE_SIZE=256, WINDOW_SIZE=8, WINDOW_SHIFT=False)).eval()
    report = load_weights(model, golden / f"{file}_checkpoint.pth")
    resized = [] if file == name else ["backbone.bottom_up.encoder.stage3.position_embedding.table"]
    assert list(report.resized) == resized
    reference = np.load(golden / f"{name}.npz")
    with torch.no_grad():
        features = model.backbone.bottom_up(torch.tensor(reference["images"]))
    for stage in range(4):
        assert_close(features[f"e{stage + 1}"], reference[f"s{stage}"])


@pytest.mark.parametrize("builder", ["build_convmae_sfp_backbone", "build_convmae_fpn_backbone"])
def test_second_detector(golden, config, builder):
    """Also under the other pyramid: the file's names don't decide where its encoder goes."""
    cfg = config(**DECOMPOSED)
    cfg.MODEL.BACKBONE.NAME = builder
    model = build_model(cfg).eval()
    report = load_weights(model, golden / "vitdet_window7_checkpoint.pth")
    backbone = model.backbone.net if "sfp" in builder else model.backbone.bottom_up
    assert len(report.matched) == len(backbone.state_dict())
    reference = np.load(golden / "vitdet_window7.npz")
    for image in range(2):  # 224×224, and 192×256, on which windows are padded
        with torch.no_grad():
            e3 = backbone(torch.tensor(reference[f"images{image}"]))["e3"]
        assert_close(e3, reference[f"last_feat{image}"])
