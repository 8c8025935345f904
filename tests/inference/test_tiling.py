"""Large images in tiles: what a detector finds in them, in prediction as in evaluation."""

import json

import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from PIL import Image
from reference.small import detector_cfg, randomise
from scipy import ndimage
from torch import nn

from convmae_det.cli.main import main
from convmae_det.data.detection.tiling import build_tiled_input
from convmae_det.data.large_image import ArrayImage
from convmae_det.data.runs import Runs
from convmae_det.data.tiles import Tile
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.evaluation.coco import describe_instances
from convmae_det.evaluation.metrics import evaluate_results
from convmae_det.inference.predictor import Predictor
from convmae_det.inference.tiling import TiledDetector
from convmae_det.visualization.video import write_video

SIDE = 64  # of tiles, and of what images are resized to
RESIZE = T.AugmentationList([T.ResizeShortestEdge(SIDE, SIDE)])


class BrightParts(nn.Module):
    """A detector that finds what is bright and has 16 pixels or more in its input, exactly."""

    def forward(self, batch):
        return [{"instances": self.find(entry)} for entry in batch]

    def find(self, entry):
        size = entry["height"], entry["width"]
        parts, count = ndimage.label(entry["image"][0].numpy() > 127)
        masks = [parts == number for number in range(1, count + 1) if (parts == number).sum() >= 16]
        runs = [Runs.from_mask(mask).resize(parts.shape, size) for mask in masks]
        boxes = torch.tensor([one.find_extent().box for one in runs], dtype=torch.float32).reshape(-1, 4)
        drawn = [torch.from_numpy(one.to_mask(Tile(0, 0, *size))) for one in runs]
        fields = {"pred_masks": torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.bool)}
        fields |= {"scores": torch.full((len(runs),), 0.9), "pred_classes": torch.zeros(len(runs), dtype=torch.int64)}
        return Instances(size, pred_boxes=Boxes(boxes), **fields)


@pytest.fixture(scope="module")
def scene():
    """A large image with small objects, and one that is larger than tiles; its annotations."""
    pixels, generator = np.zeros((300, 420, 3), np.uint8), np.random.default_rng(0)
    pixels[90:250, 120:320] = 255
    for top in range(4, 280, 24):
        for left in range(4, 400, 24):
            height, width = generator.integers(6, 20, 2)
            if not pixels[top - 2 : top + 22, left - 2 : left + 22].any():
                pixels[top : top + height, left : left + width] = 255
    parts, count = ndimage.label(pixels[..., 0])
    annotations = []
    for number in range(1, count + 1):
        runs = Runs.from_mask(parts == number)
        left, top, right, bottom = runs.find_extent().box
        entry = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": runs.area}
        box = [left, top, right - left, bottom - top]
        annotations.append(entry | {"bbox": box, "segmentation": runs.to_coco(*pixels.shape[:2])})
    image = {"id": 1, "file_name": "scene.png", "height": 300, "width": 420}
    return pixels, {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "bright"}]}


def measure(instances, truth):
    results = [entry | {"category_id": 1} for entry in describe_instances(instances.to("cpu"), 1)]
    scores = evaluate_results(truth, results, ["bbox", "segm"], 1000)
    return len(results), scores["bbox"]["AP@1000"], scores["segm"]["AP@1000"]


@pytest.mark.parametrize("overlap, batch_size", [(0.35, 1), (0.5, 5)])
def test_tiles_find_what_the_shrunk_whole_does_not(scene, overlap, batch_size):
    pixels, truth = scene
    entry = build_tiled_input(ArrayImage(pixels), RESIZE, SIDE)
    (whole,) = BrightParts()([entry])
    (tiled,) = TiledDetector(BrightParts(), RESIZE, SIDE, overlap, batch_size)([entry])
    assert measure(tiled["instances"], truth) == (len(truth["annotations"]), 100, 100)
    assert measure(whole["instances"], truth)[1] < 20


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The configuration and weights of a detector that finds much, none of it right, and images."""
    folder = tmp_path_factory.mktemp("tiles")
    classes = ["DATASETS.CATEGORIES", [[number, str(number)] for number in range(1, 5)], "DATASETS.TRAIN", ()]
    cfg = detector_cfg(*classes, "DATASETS.TEST", ("tiles_test",), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3)
    images, generator = [], np.random.default_rng(0)
    for number, size in enumerate([(60, 64), (90, 130)], 1):
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
    categories = [{"id": number, "name": name} for number, name in classes[1]]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    content = {
        "images": images,
        "categories": categories,
        "annotations": [box | {"segmentation": [[1, 1, 9, 1, 9, 9]]}],
    }
    (folder / "test.json").write_text(json.dumps(content))
    cfg.DATASETS.COCO_FORMAT = [["tiles_test", str(folder / "test.json"), str(folder)]]
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 1, "MODEL.WEIGHTS", str(folder / "model.pth"), "SEED", 0])
    torch.manual_seed(0)
    torch.save({"model": randomise(build_model(cfg)).state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder, cfg


@pytest.fixture
def predictor(place):
    return lambda **options: Predictor(place[0] / "config.yaml", place[0] / "model.pth", "cpu", **options)


@pytest.fixture
def run(place, tmp_path):
    """``run(*words)`` predicts by the command line; the exit status."""
    files = ["--config-file", place[0] / "config.yaml", "--weights", place[0] / "model.pth"]
    return lambda *words: main(["predict", *map(str, [*files, "--output", tmp_path / "out", *words])])


def read_fields(instances):
    return instances.pred_boxes.tensor, instances.scores, instances.pred_classes, instances.pred_masks.to_tensor()


def test_an_image_that_fits_into_a_tile_is_taken_as_it_is(place, predictor):
    path = place[0] / "1.png"
    expected, found = predictor()(path), predictor(tile=SIDE)(path)
    assert len(found) and all(map(torch.equal, read_fields(expected), read_fields(found)))


def test_prediction_is_evaluation(place, run, tmp_path):
    """Also of what follows from INPUT.TILE, in the order of other images, and with tiles that pass together."""
    cfg = place[1].clone()
    cfg.merge_from_list(["INPUT.TILE", SIDE, "OUTPUT_DIR", str(tmp_path)])
    DetectionTrainer.evaluate(cfg)
    expected = json.loads((tmp_path / "inference/coco_instances_results.json").read_text())
    assert run("--tile", SIDE, "--no-pictures", *sorted(place[0].glob("*.png"))) == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert [entry | {"file_name": ""} for entry in found] == [entry | {"file_name": ""} for entry in expected]
    assert {entry["image_id"] for entry in found} == {1, 2} and found[-1]["segmentation"]["size"] == [90, 130]


def test_pictures_of_large_images_are_shrunk(place, run, tmp_path, monkeypatch):
    monkeypatch.setattr("convmae_det.inference.pictures.DRAWN_SIDE", 40)
    assert run("--tile", SIDE, "--annotations", place[0] / "test.json", place[0]) == 0
    sizes = [Image.open(tmp_path / "out" / name).size for name in ("1.jpg", "2.jpg")]
    assert max(*sizes[0], *sizes[1]) < 2000 and (tmp_path / "out/overview.png").exists()


def test_frames_of_a_video_are_taken_in_tiles(run, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 130, 3), dtype=np.uint8)
    with write_video(tmp_path / "street.mp4", 5) as write:
        for frame in frames:
            write(frame)
    assert run("--tile", SIDE, "--track", tmp_path / "street.mp4") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert {entry["frame"] for entry in found} == {0, 1} and (tmp_path / "out/street.mp4").exists()


@pytest.mark.parametrize(
    "words, problem",
    [
        (["--tile", "16"], "TEST.TILE is 16; it must be at least 32 pixels"),
        (["--tile", "-5"], "TEST.TILE is -5; it must"),
        (["--tile", "64", "--overlap", "1"], "TEST.TILE_OVERLAP is 1.0; it must lie between 0 and 0.9"),
        (
            ["--overlap", "0.3"],
            "TEST.TILE_OVERLAP is 0.3; it must stay 0.2 where images are taken whole: set TEST.TILE",
        ),
        (["--overlap", "0.2"], "an overlap of 0.2 is one of tiles, but images are taken whole"),
    ],
)
def test_tiles_that_cannot_be_cut_are_named(place, run, capsys, words, problem):
    assert run(*words, place[0] / "1.png") == 1
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("copies", [0, 1])
def test_a_damaged_window_is_named(place, run, tmp_path, capsys, copies):
    """Also one that is not read before its tile, since the whole image comes from a smaller copy of it."""
    path = tmp_path / "large.tif"
    how, pixels = {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"}, np.ones((90, 130, 3), np.uint8)
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, subifds=copies, **how)
        for _ in range(copies):
            writer.write(pixels[::2, ::2], subfiletype=1, **how)
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[3]
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"damaged!"
    path.write_bytes(content)
    assert run("--tile", SIDE, path, place[0] / "1.png") == 1
    assert f"{path} can't be read as an image" in capsys.readouterr().err
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert {entry["file_name"].rpartition("/")[2] for entry in found} == {"1.png"}
