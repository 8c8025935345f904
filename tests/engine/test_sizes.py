"""Crops of pretraining that are not square, of any number of channels: from the file to a detector."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import autoencoder_cfg, detector_cfg

from convmae_det.checkpoint import load_weights
from convmae_det.cli import main as front_door
from convmae_det.config.building import build_encoder_arguments
from convmae_det.config.keys import set_key
from convmae_det.data.image import read_image
from convmae_det.data.pretraining.mapper import PretrainingMapper, choose_crop
from convmae_det.data.squares import read_square
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.errors import InputError
from convmae_det.inference.reconstruction import reconstruct_files

SIZE = [64, 96]
KEY = "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE"


def build_cfg(folder, channels=3, size=SIZE):
    cfg = autoencoder_cfg("SEED", 1, "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4)
    cfg.merge_from_list(["DATASETS.IMAGE_FOLDERS", [["mine", str(folder)]], "DATASETS.TRAIN", ("mine",)])
    cfg.merge_from_list(["DATASETS.TEST", (), "SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 2])
    cfg.merge_from_list(["INPUT.FORMAT", "bands", "MODEL.PIXEL_MEAN", [120.0] * channels])
    cfg.merge_from_list(["MODEL.PIXEL_STD", [60.0] * channels])
    set_key(cfg, KEY, size, "a test")
    return cfg


def write_images(folder, channels=3, count=3):
    folder.mkdir()
    generator = np.random.default_rng(channels)
    for number in range(count):
        np.save(folder / f"{number}.npy", generator.integers(0, 256, (70, 90, channels)).astype(np.uint8))


def test_a_number_and_two_are_valid():
    cfg = autoencoder_cfg()
    for text, grid in (
        ("64", (4, 4)),
        ("[64, 96]", (4, 6)),
        ("(96, 64)", (6, 4)),
        ("80", (5, 5)),
        ("[32, 32]", (2, 2)),
    ):
        set_key(cfg, KEY, text, "a test")
        assert build_encoder_arguments(cfg)["grid"] == grid
    for text in ("[64]", "[64, 96, 32]", "[64, 40]", "[0, 64]", "[-16, 16]", "[64, 96.0]", "['a', 'b']", "a", "64.5"):
        with pytest.raises(InputError, match=f"{KEY}"):
            set_key(cfg, KEY, text, "a test")
            build_encoder_arguments(cfg)
    with pytest.raises(InputError, match="positive multiple of 16"):
        PretrainingMapper(build_cfg("", size=[64, 40]))


def test_crops_have_the_shape_of_what_they_become(tmp_path):
    shapes = torch.tensor([choose_crop(300, 300, (0.2, 0.5), 1.5)[2:] for _ in range(200)])
    ratios = shapes[:, 1] / shapes[:, 0]
    assert ratios.min() > 1.5 * 0.73 and ratios.max() < 1.5 * 1.36 and 1.4 < ratios.log().mean().exp() < 1.6
    assert choose_crop(30, 3000, (0.5, 0.6), 1.5) == (0, 1470, 30, 60)  # the middle of one that is too long
    torch.manual_seed(3)
    square = [choose_crop(50, 70, (0.2, 1.0)) for _ in range(5)]
    torch.manual_seed(3)
    assert [choose_crop(50, 70, (0.2, 1.0), 1.0) for _ in range(5)] == square


@pytest.mark.parametrize("height, width, part", [(64, 96, (64, 96)), (200, 96, (64, 96)), (64, 500, (64, 96))])
def test_middles_have_the_shape(tmp_path, height, width, part):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    top, left = (height - part[0]) // 2, (width - part[1]) // 2
    expected = pixels[top : top + part[0], left : left + part[1]]
    assert np.array_equal(read_square(str(tmp_path / "a.png"), SIZE).permute(1, 2, 0), expected)


def test_the_middle_of_a_pixel(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "a.png")
    assert read_square(str(tmp_path / "a.png"), SIZE).shape == (3, *SIZE)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_from_files_to_a_detector(tmp_path, catalog, channels):
    """A resumed run is the undisturbed one bit for bit; reconstructions and the detector take what it leaves."""
    write_images(tmp_path / "images", channels)
    cfg = build_cfg(tmp_path / "images", channels)
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path / "whole"), "VIS_PERIOD", 4])
    PretrainingTrainer(cfg).train()
    part = cfg.clone()
    part.merge_from_list(["OUTPUT_DIR", str(tmp_path / "part")])
    first = PretrainingTrainer(part)
    first.max_iter = 2
    first.train()
    second = PretrainingTrainer(part)
    second.resume_or_load(resume=True)
    assert second.start_iter == 2
    second.train()
    whole, resumed = (torch.load(tmp_path / run / "model_final.pth") for run in ("whole", "part"))
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in whole["model"].items())
    assert whole["model"]["encoder.stage3.position_embedding.table"].shape == (1, 4, 6, 16)

    weights = str(tmp_path / "whole/model_final.pth")
    ((panels, loss),) = reconstruct_files(cfg, weights, [str(tmp_path / "images/0.npy")])
    assert panels.shape == (4, *SIZE, 3) and np.isfinite(loss)
    assert next((tmp_path / "whole/reconstructions").iterdir()).suffix == ".png"

    keys = ["INPUT.FORMAT", cfg.INPUT.FORMAT, "MODEL.PIXEL_MEAN", cfg.MODEL.PIXEL_MEAN]
    detector = build_model(detector_cfg(*keys, "MODEL.PIXEL_STD", cfg.MODEL.PIXEL_STD))
    report = load_weights(detector, weights)
    assert any("position_embedding" in name for name in report.resized) and not report.adapted
    assert not [name for name in report.new if "stage" in name and "bias" not in name]
    image = torch.from_numpy(read_image(tmp_path / "images/0.npy", "bands")[:64, :64].copy())
    with torch.no_grad():
        detector.eval()([{"image": image.permute(2, 0, 1)}])


def test_it_is_converted_for_detectron2_and_not_to_the_published_layout(tmp_path, capsys):
    cfg = build_cfg(tmp_path)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "mae.pth")
    (tmp_path / "detector.yaml").write_text(detector_cfg("DATASETS.TRAIN", ("x",), "DATASETS.TEST", ()).dump())
    words = ["convert", str(tmp_path / "mae.pth"), str(tmp_path / "out.pth")]
    assert front_door.main([*words, "--config-file", str(tmp_path / "detector.yaml")]) == 0
    assert "4×6" in capsys.readouterr().out
    assert (tmp_path / "out.pth").is_file()
