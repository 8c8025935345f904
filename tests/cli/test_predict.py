import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from pycocotools.coco import COCO
from reference.small import detector_cfg, randomise

from convmae_det.cli import predict
from convmae_det.cli.main import main
from convmae_det.data.shapes import CATEGORIES, register_shapes, write_shapes
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.errors import InputError
from convmae_det.inference.predictor import Predictor
from convmae_det.visualization.video import write_video

NAMES = ["a.png", "b.jpg", "inner/a.png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A drawn data set, and the configuration and weights of a detector for it that finds much, none of it right."""
    place = tmp_path_factory.mktemp("predict")
    write_shapes(place / "shapes", train=1, val=3, size=64)
    register_shapes(place / "shapes")
    cfg = detector_cfg("DATASETS.TRAIN", ("shapes_train",), "DATASETS.TEST", ("shapes_val",))
    cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "OUTPUT_DIR", str(place), "SEED", 0])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "MODEL.WEIGHTS", str(place / "model.pth")])
    torch.manual_seed(0)
    torch.save({"model": randomise(build_model(cfg)).state_dict()}, cfg.MODEL.WEIGHTS)
    (place / "config.yaml").write_text(cfg.dump())
    yield place, cfg
    register_shapes()


@pytest.fixture
def folder(tmp_path, place, monkeypatch):
    """The current folder, with images of several sizes below it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, size in zip(NAMES, [(64, 64), (100, 70), (30, 80)], strict=True):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path


@pytest.fixture
def run(folder, place):
    def run(*words, output="out"):
        files = ["--config-file", str(place[0] / "config.yaml"), "--weights", str(place[0] / "model.pth")]
        return predict.main([*files, "--output", output, *map(str, words)])

    return run


def results(output="out"):
    return json.loads(Path(output, "results.json").read_text())


def files(output="out"):
    return sorted(str(path.relative_to(output)) for path in Path(output).rglob("*") if path.is_file())


@pytest.mark.parametrize("pairs", [[], ["MODEL.MASK_ON", "False"]], ids=["masks", "boxes"])
def test_results_are_those_of_evaluation(run, place, folder, pairs):
    root, cfg = place[0], place[1].clone()
    cfg.merge_from_list([*pairs, "OUTPUT_DIR", str(folder / "evaluation")])
    DetectionTrainer.evaluate(cfg)
    expected = json.loads((folder / "evaluation/inference/coco_instances_results.json").read_text())
    annotations = root / "shapes/annotations/instances_val.json"
    assert run(root / "shapes/val", "--annotations", annotations, "--no-pictures", *pairs) == 0
    found, images = results(), COCO(annotations).imgs
    assert all(images[entry["image_id"]]["file_name"] == entry.pop("file_name") for entry in found)
    assert found == expected and len(found) > 10
    assert all("segmentation" in entry for entry in found) == (not pairs)
    assert len(COCO(annotations).loadRes("out/results.json").anns) == len(found)
    assert files() == ["results.json"]


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_precision_is_said(run, capsys, name):
    assert run("images", "--no-pictures", "--precision", name) == 0
    assert f"Precision: {name}, as TEST.PRECISION says" in capsys.readouterr().err


def test_every_image_of_a_folder_is_drawn_under_its_own_name(run, capsys):
    assert run("images") == 0
    assert files() == ["a.jpg", "b.jpg", "inner/a.jpg", "overview.png", "results.json"]
    assert {(entry["file_name"], entry["image_id"]) for entry in results()} == set(zip(NAMES, (1, 2, 3), strict=True))
    assert Image.open("out/b.jpg").size == (4 * 70, 4 * 100)  # enlarged
    assert capsys.readouterr().out.startswith(f"{len(results())} objects in 3 images: out/results.json")


def test_results_of_others_stay(run, folder):
    (folder / "out").mkdir()
    (folder / "out/results.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    with pytest.raises(InputError, match=r"holds results\.json, which predict didn't write"):
        run("images", "--no-pictures")
    assert "file_name" not in results()[0] and files() == ["results.json"]


def test_a_second_run_finds_the_same(run, folder):
    assert run("images", output="images/found") == 0
    first = results("images/found")
    assert run("images", "images/**/*.???", output="images/found") == 0
    assert results("images/found") == first
    with pytest.raises(InputError, match="contains only files in --output"):
        run("images/found", output="images/found")


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        (["x/1/a.png", "x/2/a.png"], ["1/a.jpg", "2/a.jpg"]),
        (["x/a.png", "x/a.jpg"], ["a.jpg.jpg", "a.png.jpg"]),
        (["x/1/a.png", "x/1/a.png", "x/1/../1/a.png"], ["a.jpg"]),
    ],
)
def test_no_two_pictures_have_the_same_name(run, folder, names, drawn):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(name)
    assert run(*names) == 0
    assert files() == [*drawn, "overview.png", "results.json"]


def test_images_called_by_numbers_have_these_as_ids(run, folder):
    for name in ("000000000139.jpg", "7.jpg"):
        (folder / "images/a.png").rename(folder / name) if name[0] == "0" else Image.new("RGB", (9, 9)).save(name)
    assert run("000000000139.jpg", "7.jpg", "--no-pictures") == 0
    assert {(entry["file_name"], entry["image_id"]) for entry in results()} == {("000000000139.jpg", 139), ("7.jpg", 7)}


def test_what_can_not_be_read_is_named_and_skipped(run, folder, capsys):
    Path("images/aa.png").write_bytes(b"no image")
    Path("images/b.mp4").write_bytes(b"no video")
    assert run("images", "images/b.mp4", "--batch-size", 2) == 1
    said = capsys.readouterr().err
    assert "skipped: " in said and "images/aa.png can't be read" in said and "b.mp4 can't be opened" in said
    assert "2 of 5 inputs could not be read" in said
    assert {entry["file_name"] for entry in results()} == set(NAMES)


def test_thresholds_and_classes_choose_what_is_kept(run, place):
    assert run("images", "--no-pictures") == 0
    everything = results()
    threshold = sorted(entry["score"] for entry in everything)[len(everything) // 2]
    assert run("images", "--score-threshold", threshold) == 0
    assert results() == [entry for entry in everything if entry["score"] >= threshold]
    halves = {name: threshold if number % 2 else 0.0 for number, name in enumerate(CATEGORIES, start=1)}
    Path("chosen.json").write_text(json.dumps({"overall": 0.5, "classes": halves}))
    assert run("images", "--score-threshold", "auto", "--thresholds", "chosen.json") == 0
    assert results() == [e for e in everything if e["score"] >= (threshold if e["category_id"] % 2 else 0)]
    assert json.loads(Path("out/thresholds.json").read_text()) == {"source": "chosen.json", "classes": halves}
    names, first = CATEGORIES, everything[0]["category_id"]
    for classes in ([names[first - 1]], [str(first)]):
        assert run("images", "--no-pictures", "--classes", *classes) == 0
        assert results() == [entry for entry in everything if entry["category_id"] == first]
    with pytest.raises(InputError, match=rf"--classes: dog is none .* {names[0]} \(1\), {names[1]} \(2\)"):
        run("images", "--classes", "dog")


def test_ground_truth_is_shown_beside(run, place, folder, capsys):
    val = place[0] / "shapes/val"
    annotations = place[0] / "shapes/annotations/instances_val.json"
    assert run("images", val, "--annotations", annotations) == 0
    assert capsys.readouterr().out.startswith("3 of 6 inputs are left out")
    name = next(val.iterdir()).stem
    drawn = Image.open(next(Path("out").rglob(f"{name}.jpg")))
    assert drawn.width > 2 * 384 > drawn.height
    with pytest.raises(InputError, match="none of the inputs is an image that"):
        run("images", "--annotations", annotations)


def test_a_video_is_drawn_frame_by_frame(run, folder):
    pixels = np.asarray(Image.open("images/a.png"))
    with write_video("clip.mp4", 10) as write:
        for shift in range(5):
            write(np.roll(pixels, 8 * shift, axis=1))
    assert run("clip.mp4", "--batch-size", 2, "--max-frames", 4) == 0
    assert files() == ["clip.mp4", "overview.png", "results.json"]
    found = {(entry["file_name"], entry["frame"], entry["image_id"]) for entry in results()}
    assert found <= {("clip.mp4", frame, frame + 1) for frame in range(4)} and len(found) > 1
    assert not any("track_id" in entry for entry in results())
    drawn = cv2.VideoCapture("out/clip.mp4")
    assert [drawn.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)] == [4, 10]


def test_objects_of_a_video_are_followed(run, folder, monkeypatch):
    """Most of what is found in a frame, whatever its score, is found again in one like it."""
    monkeypatch.setattr("convmae_det.inference.tracking.HIGH", 0.0)
    monkeypatch.setattr("convmae_det.inference.tracking.NEW", 0.0)
    with write_video("clip.mp4", 10) as write:
        for _ in range(2):
            write(np.full((64, 64, 3), 90, np.uint8))
    assert run("clip.mp4", "--track") == 0
    first, second = ({entry["track_id"] for entry in results() if entry["frame"] == frame} for frame in (0, 1))
    assert first == set(range(1, len(first) + 1)) and len(first & second) > 0.7 * len(first) > 0


def test_a_webcam_is_named_by_its_number(run, capsys):
    assert run("99") == 1
    assert "webcam 99 can't be opened" in capsys.readouterr().err


def test_interrupted_it_leaves_what_is_done(run, monkeypatch, capsys):
    prepare = Predictor.prepare

    def stopping(self, image):
        if str(image).endswith("inner/a.png"):
            raise KeyboardInterrupt
        return prepare(self, image)

    monkeypatch.setattr(Predictor, "prepare", stopping)
    assert run("images") == 130
    assert [name for name in files() if "parts" not in name] == ["a.jpg", "b.jpg", "overview.png", "results.json"]
    assert {entry["file_name"] for entry in results()} == set(NAMES[:2])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["MODEL.MASK_ON", "False"], "no input is named"),
        (["nothing.png"], "nothing.png doesn't exist"),
        (["images/*.bmp"], r"images/\*.bmp matches no file"),
        (["empty"], "holds no images"),
        (["images", "--max-frames", "0"], "--max-frames is 0"),
        (["images", "--track"], "--track follows objects through videos"),
        (["images", "--score-threshold", "2"], "score threshold is 2"),
        (["images", "--score-threshold", "auto"], "there is no inference/thresholds.json"),
        (["images", "--thresholds", "chosen.json"], "has no effect without --score-threshold auto"),
        (["images", "--annotations", "none.json"], "none.json can't be read"),
        (["images/b.jpg", "--output", "images"], "would replace .*b.jpg"),
        (["images", "--output", "images/a.png/out"], "can't be made"),
    ],
)
def test_what_is_wrong_is_said(run, folder, words, sentence):
    (folder / "empty").mkdir()
    before = files(".")
    with pytest.raises(InputError, match=sentence):
        run(*words)
    assert files(".") == before


def test_the_command_ends_with_the_sentence(folder, capsys):
    assert main(["predict", "--config-file", "x.yaml", "--weights", "x.pth", "--output", "out", "nothing.png"]) == 1
    assert capsys.readouterr().err.startswith("error: nothing.png")


def test_a_threshold_that_is_no_number(capsys):
    assert main(["predict", "--config-file", "x", "--weights", "x", "--output", "o", "--score-threshold", "Auto"]) == 2
    assert "'Auto' is neither a number from 0 to 1 nor auto" in capsys.readouterr().err


def test_a_video_that_is_cut_short_is_named(run, folder, capsys):
    writer = cv2.VideoWriter("a.avi", cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    for frame in np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8):
        writer.write(frame)
    writer.release()
    assert run("a.avi", output="whole") == 0
    Path("a.avi").write_bytes(Path("a.avi").read_bytes()[: Path("a.avi").stat().st_size // 2])
    assert run("a.avi", "--max-frames", 2, output="some") == 0
    capsys.readouterr()
    assert run("a.avi") == 1
    assert "a.avi ends after" in capsys.readouterr().err and results()


def test_pages_that_are_left_out_are_said(run, folder, capsys):
    pages = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    pages[0].save("images/c.tif", save_all=True, append_images=pages[1:])
    assert run("images", "--no-pictures") == 0
    assert "1 of 4 files have several pages or frames, 3 in all" in capsys.readouterr().err


def test_photos_are_left_as_they_are_stored_where_training_did(run, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save("turned.jpg", exif=exif)
    for ignored, size in ((True, [40, 80]), (False, [80, 40])):
        assert run("turned.jpg", "--no-pictures", "INPUT.IGNORE_EXIF", ignored, output=f"{ignored}") == 0
        assert {tuple(entry["segmentation"]["size"]) for entry in results(f"{ignored}")} == {tuple(size)}
