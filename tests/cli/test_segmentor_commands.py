"""A trained segmentor in the commands: masks, shares and pictures of files; data as they are trained on; refusals."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reference.small import segmentor_cfg

from convmae_det import SegmentationPredictor
from convmae_det.cli.main import main
from convmae_det.data.shapes import SEMANTIC_CLASSES, write_shapes
from convmae_det.inference.export.onnx import build_onnx_runner
from convmae_det.inference.export.segmentor import TraceablePool
from convmae_det.inference.export.torchscript import build_torchscript_runner
from convmae_det.inference.export.verification import FORMATS
from convmae_det.modeling.upernet import POOLED_SIZES
from convmae_det.visualization.segmentation import draw_segmentation


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with config.yaml, model.pth, data and a photo, of a segmentor that knows nothing."""
    folder = tmp_path_factory.mktemp("segmentor")
    write_shapes(folder / "shapes", train=2, val=1, size=64)
    shapes, classes = folder / "shapes", list(SEMANTIC_CLASSES)
    entries = [[part, str(shapes / part), str(shapes / "masks" / part), classes] for part in ("train", "val")]
    cfg = segmentor_cfg(
        *("DATASETS.SEMANTIC", entries, "DATASETS.TRAIN", ("train",), "DATASETS.TEST", ("val",)),
        *("DATASETS.CATEGORIES", [[number, name] for number, name in enumerate(SEMANTIC_CLASSES)]),
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
        *("INPUT.SEGMENTATION.CROP_SIZE", 64),
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.sem_seg_head.conv_seg.weight)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "photos").mkdir()
    for name, size in (("a", (70, 50)), ("b", (64, 64))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png")
    return folder


def network(folder):
    return ["--config-file", str(folder / "config.yaml"), "--weights", str(folder / "model.pth")]


def test_predict_writes_masks_shares_and_pictures(trained, tmp_path, capsys):
    (trained / "photos" / "c.png").write_bytes(b"no image")
    assert main(["predict", *network(trained), "--output", str(tmp_path), str(trained / "photos")]) == 1
    (trained / "photos" / "c.png").unlink()
    assert "2 masks in" in capsys.readouterr().out
    predictor = SegmentationPredictor(trained / "config.yaml", trained / "model.pth", device="cpu")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", *SEMANTIC_CLASSES] and [row[0] for row in rows[1:]] == ["a.png", "b.png"]
    for row in rows[1:]:
        (expected,) = predictor([str(trained / "photos" / row[0])])
        mask = Image.open(tmp_path / "masks" / row[0])
        assert mask.mode == "P" and np.array_equal(np.asarray(mask), expected.numpy())
        shares = np.bincount(expected.ravel(), minlength=5) / expected.numel()
        assert [float(share) for share in row[1:]] == pytest.approx(shares, abs=1e-6)
        assert Image.open(tmp_path / f"{row[0][0]}.jpg").width >= 384
    assert (tmp_path / "overview.png").is_file()


@pytest.mark.parametrize("name", ["masks/a.png", "results.csv"])
def test_masks_and_tables_of_others_stay(trained, tmp_path, capsys, name):
    for other in {name, "results.csv"}:
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("file,mIoU\n")
    words = ["predict", *network(trained), "--output", str(tmp_path), str(trained / "photos"), "--no-pictures"]
    assert main(words) == 1
    assert f"holds {name.partition('/')[0]}, which predict didn't write" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "file,mIoU\n"
    for _ in range(2):  # its own results it replaces
        assert main([*words, "--output", str(tmp_path / "own")]) == 0


@pytest.mark.parametrize("option", [["--score-threshold", "0.5"], ["--batch-size", "2"], ["--max-frames", "3"]])
def test_options_of_detectors_are_refused(trained, tmp_path, capsys, option):
    words = ["predict", *network(trained), "--output", str(tmp_path / "out"), str(trained / "photos"), *option]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"error: {option[0]} is ")


@pytest.mark.parametrize("split", ["train", "test"])
def test_visualize_draws_masks(trained, tmp_path, split):
    words = ["--config-file", str(trained / "config.yaml"), "--split", split, "--output", str(tmp_path / "data.png")]
    assert main(["visualize", *words]) == 0
    assert Image.open(tmp_path / "data.png").width > 400


@pytest.mark.parametrize("format", FORMATS)
def test_export_writes_a_file_that_gives_the_same(trained, tmp_path, capsys, format):
    photo, path = str(trained / "photos" / "a.png"), tmp_path / "x"
    assert main(["export", *network(trained), "--format", format, "--image", photo, "--output", str(path)]) == 0
    assert capsys.readouterr().out.count("largest difference") == 2
    predictor = SegmentationPredictor(trained / "config.yaml", trained / "model.pth", device="cpu")
    image = predictor.prepare(photo)["image"]  # larger than the photo, whose logits are resized after that
    run = build_onnx_runner if format == "onnx" else partial(build_torchscript_runner, device="cpu")
    (logits,) = run(path.read_bytes())(image)
    with torch.no_grad():
        expected = predictor.model([{"image": image}])[0]["sem_seg"]
    assert torch.allclose(logits, expected, atol=1e-4 * expected.abs().max())


@given(height=st.integers(1, 20), width=st.integers(1, 20), size=st.sampled_from(POOLED_SIZES))
def test_the_exported_pooling_is_that_of_the_network(height, width, size):
    maps = torch.randn(1, 2, height, width)
    assert torch.allclose(TraceablePool(size)(maps), torch.nn.AdaptiveAvgPool2d(size)(maps), atol=1e-6)


def test_drawing_leaves_what_has_no_class(trained):
    pixels = np.full((200, 400, 3), 100, np.uint8)
    labels = np.full((200, 400), 255, np.uint8)
    labels[:, 200:] = 1
    drawn = draw_segmentation(pixels, labels, ["ground", "blue"])
    assert (drawn[:200, :200] == 100).all() and (drawn[:200, 200:] != 100).any(-1).all()
    assert drawn.shape[0] > 200  # the legend
