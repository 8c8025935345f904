"""A panoptic FPN in the commands: segments of files in COCO's panoptic format, and data as they are trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import detector_cfg

from convmae_det import PanopticPredictor
from convmae_det.cli.main import main
from convmae_det.data.detection.panoptic_file import read_panoptic_file
from convmae_det.data.detection.segments import read_segments
from convmae_det.data.shapes import CATEGORIES, write_shapes
from convmae_det.inference.panoptic_results import choose_ids


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with config.yaml, model.pth, data and photos, of a panoptic FPN that knows nothing."""
    folder = tmp_path_factory.mktemp("panoptic")
    write_shapes(folder / "shapes", train=2, val=1, size=64)
    entries = [
        [
            f"own_{split}",
            str(folder / "shapes" / split),
            str(folder / f"shapes/annotations/panoptic_{split}.json"),
            str(folder / "shapes/panoptic" / split),
        ]
        for split in ("train", "val")
    ]
    for _, _, path, _ in entries:
        content = json.loads(Path(path).read_text())
        content["categories"].append({"id": 9, "name": "sky", "isthing": 0})
        Path(path).write_text(json.dumps(content))
    cfg = detector_cfg(
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "INPUT.MASK_FORMAT", "bitmask", "DATASETS.PANOPTIC", entries),
        *("DATASETS.TRAIN", ("own_train",), "DATASETS.TEST", ("own_val",), "MODEL.ROI_HEADS.NUM_CLASSES", 4),
        *("DATASETS.CATEGORIES", [[number, name] for number, name in enumerate(CATEGORIES, start=1)]),
        *("DATASETS.STUFF_CATEGORIES", [[5, "background"], [9, "sky"]], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 1),
        *("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.sem_seg_head.predictor.weight)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "photos").mkdir()
    for name, size in (("a", (70, 50)), ("b", (1, 1))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png")
    return folder


def network(folder):
    return ["--config-file", str(folder / "config.yaml"), "--weights", str(folder / "model.pth")]


def test_predict_writes_the_format_that_training_reads(trained, tmp_path, capsys):
    assert main(["predict", *network(trained), "--output", str(tmp_path), str(trained / "photos")]) == 0
    assert "segments in 2 images" in capsys.readouterr().out
    content = read_panoptic_file(tmp_path / "panoptic.json")
    assert [category["name"] for category in content["categories"]] == [*CATEGORIES, "background", "sky"]
    predictor = PanopticPredictor(trained / "config.yaml", trained / "model.pth", device="cpu")
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        (found,) = predictor([str(trained / "photos" / image["file_name"])])
        ids = read_segments(str(tmp_path / "panoptic" / annotation["file_name"]))
        assert ids.shape == found.ids.shape == (image["height"], image["width"])
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in annotation["segments_info"]}
        for segment, entry in zip(found.segments, annotation["segments_info"], strict=True):
            assert np.array_equal(ids == entry["id"], found.ids.numpy() == segment.id)
            assert entry["area"] == segment.area == (ids == entry["id"]).sum()
            assert ("score" in entry) == segment.isthing == (entry["category_id"] <= 4)
            rows, columns = np.nonzero(ids == entry["id"])
            x, y, width, height = entry["bbox"]
            assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert Image.open(tmp_path / "a.jpg").width >= 384 and (tmp_path / "overview.png").is_file()


def test_segments_of_a_class_have_colours_of_their_own(trained):
    predictor = PanopticPredictor(trained / "config.yaml", trained / "model.pth", device="cpu")
    (found,) = predictor([str(trained / "photos/a.png")])
    ids = choose_ids([segment._replace(category=0, id=number) for number, segment in enumerate(found.segments * 5, 1)])
    assert len(set(ids.values())) == len(ids) and 0 not in ids.values()


@pytest.mark.parametrize("option", [["--score-threshold", "0.5"], ["--batch-size", "2"], ["--track"]])
def test_options_of_detectors_are_refused(trained, tmp_path, capsys, option):
    words = ["predict", *network(trained), "--output", str(tmp_path / "out"), str(trained / "photos"), *option]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"error: {option[0]} is ")


def test_a_configuration_without_names_numbers_the_stuff(trained):
    pairs = [
        "DATASETS.STUFF_CATEGORIES",
        "[]",
        "DATASETS.PANOPTIC",
        "[]",
        "DATASETS.TRAIN",
        "()",
        "DATASETS.TEST",
        "()",
    ]
    predictor = PanopticPredictor(trained / "config.yaml", trained / "model.pth", device="cpu", pairs=pairs)
    assert predictor.class_names == [*CATEGORIES, "stuff 0", "stuff 1"] and predictor.category_ids[4:] == [5, 6]


def test_its_encoder_alone_is_exported(trained, tmp_path, capsys):
    words = ["export", *network(trained), "--format", "torchscript", "--image", str(trained / "photos/a.png")]
    assert main([*words, "--output", str(tmp_path / "x.pt")]) == 1
    assert "its encoder can be exported: add --encoder" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "test"])
def test_visualize_draws_segments(trained, tmp_path, split):
    words = ["--config-file", str(trained / "config.yaml"), "--split", split, "--output", str(tmp_path / "data.png")]
    assert main(["visualize", *words]) == 0
    assert (tmp_path / "data.png").is_file()


def test_labels_and_panoptic_files_of_others_stay(trained, tmp_path, capsys):
    write_shapes(tmp_path / "shapes", train=1, val=1, size=64)
    truth = tmp_path / "shapes/panoptic"
    before = sorted((path, path.read_bytes()) for path in truth.rglob("*.png"))
    assert predict(trained, tmp_path / "shapes") == 1
    assert "holds panoptic, which predict didn't write: name another folder" in capsys.readouterr().err
    assert sorted((path, path.read_bytes()) for path in truth.rglob("*.png")) == before
    for _ in range(2):  # its own results it replaces
        assert predict(trained, tmp_path / "out") == 0


def test_images_whose_names_differ_by_their_endings_alone_keep_their_own_segments(trained, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(("a.png", "a.bmp", "a.png.bmp")):
        Image.new("RGB", (20 + number, 30)).save(photos / name)
    assert predict(trained, tmp_path / "out", photos) == 0
    content = json.loads((tmp_path / "out/panoptic.json").read_text())
    names = {annotation["image_id"]: annotation["file_name"] for annotation in content["annotations"]}
    assert len(set(names.values())) == 3
    for image in content["images"]:
        assert Image.open(tmp_path / "out/panoptic" / names[image["id"]]).size == (image["width"], image["height"])


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["TEST.TILE", "64"], "TEST.TILE is 64"),
        (["MODEL.MASK_ON", "False"], "MODEL.MASK_ON is False"),
        (["TEST.SLIDING_WINDOW", "64", "TEST.SLIDING_STRIDE", "32"], "TEST.SLIDING_WINDOW is 64"),
        (["TEST.DETECTIONS_PER_IMAGE", "0"], "TEST.DETECTIONS_PER_IMAGE is 0"),
    ],
)
def test_keys_that_cannot_be_followed_are_refused(trained, tmp_path, capsys, pairs, sentence):
    assert predict(trained, tmp_path / "out", trained / "photos", *pairs) == 1
    assert sentence in capsys.readouterr().err


def predict(trained, output, inputs=None, *pairs):
    return main(["predict", *network(trained), "--output", str(output), str(inputs or trained / "photos"), *pairs])
