import gc
import itertools
import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import autoencoder_cfg, detector_cfg, randomise

from convmae_det import precision
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.errors import InputError
from convmae_det.inference.predictor import Predictor

CATEGORIES = [[7, "dog"], [90, "cat"], [91, "cow"], [200, "traffic light"]]
SIZES = [(64, 64), (100, 70), (40, 120), (128, 128), (30, 90), (50, 35)]  # height, width; in part padded alike


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with a detector's configuration and weights, and a.png, b.png, … of SIZES."""
    folder = tmp_path_factory.mktemp("prediction")
    cfg = detector_cfg("DATASETS.TRAIN", (), "DATASETS.TEST", (), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    cfg.DATASETS.CATEGORIES = CATEGORIES
    (folder / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    torch.save({"model": randomise(build_model(cfg)).state_dict()}, folder / "model.pth")
    generator = np.random.default_rng(0)
    for name, size in zip("abcdef", SIZES, strict=True):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def make(folder):
    def make(*pairs, **options):
        return Predictor(folder / "config.yaml", folder / "model.pth", pairs=list(map(str, pairs)), **options)

    return make


@pytest.fixture(scope="module")
def predictor(make):
    return make()


@pytest.fixture(scope="module")
def paths(folder):
    return sorted(folder.glob("?.png"))


def assert_same(found, expected, tolerance=0.0):
    assert found.image_size == expected.image_size and len(found) == len(expected)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    for a, b in ((found.scores, expected.scores), (found.pred_boxes.tensor, expected.pred_boxes.tensor)):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert (found.pred_masks != expected.pred_masks).sum() <= tolerance * found.pred_masks.numel()


def test_it_finds_what_evaluation_finds(predictor, paths):
    mapper, found = DetectionMapper(predictor.cfg, False), 0
    for path in paths:
        with torch.no_grad():
            (expected,) = predictor.model([mapper({"file_name": str(path)})])
        assert_same(predictor(path), expected["instances"])
        found += len(expected["instances"])
    assert found > len(paths)


def test_images_of_every_kind(predictor, paths):
    path = paths[1]
    expected, image = predictor(path), Image.open(path)
    kinds = [str(path), image, np.asarray(image), image.convert("RGBA"), np.asarray(image)[:, ::-1][:, ::-1]]
    for kind in kinds:
        assert_same(predictor(kind), expected)
    grey = image.convert("L")
    expected = predictor(grey.convert("RGB"))
    for kind in (grey, np.asarray(grey), np.asarray(grey)[..., None]):
        assert_same(predictor(kind), expected)
    assert expected.pred_masks.shape[1:] == SIZES[1] and expected.pred_boxes.device.type == "cpu"


def test_an_image_is_turned_upright_and_left_as_it_is(predictor, paths):
    image = Image.open(paths[2])
    turned = image.rotate(90, expand=True)
    turned.getexif()[0x0112] = 6  # turn by 90 degrees clockwise to show it
    assert_same(predictor(turned), predictor(image))
    assert turned.getexif()[0x0112] == 6


def test_each_class_may_have_its_own_threshold(predictor, make, paths, folder):
    found = predictor(paths[0])
    names = [name for _, name in CATEGORIES]
    least = [found.scores[found.pred_classes == number].median().item() for number in range(len(names))]
    path = folder / "inference" / "thresholds.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"overall": 0.5, "classes": dict(zip(names, least, strict=True))}))
    strict = make(score_threshold="auto")
    assert strict.score_thresholds == least and strict.thresholds_file == str(path)
    kept = strict(paths[0])
    assert_same(kept, found[found.scores >= torch.tensor(least)[found.pred_classes]])
    assert 0 < len(kept) < len(found) and set(kept.pred_classes.tolist()) == set(range(len(names)))
    other = folder / "other.json"
    other.write_text(json.dumps({"overall": 0.5, "classes": {"dog": 0.5}}))
    with pytest.raises(InputError, match="other.json has thresholds of dog, but the detector's classes are dog, cat"):
        make(score_threshold="auto", thresholds=other)
    path.unlink()
    with pytest.raises(InputError, match="there is no inference/thresholds.json beside the weights"):
        make(score_threshold="auto")


@pytest.mark.parametrize("format", ["BGR", "RGB"])
def test_arrays_are_rgb_whatever_the_model_takes(make, paths, format):
    predictor = make("INPUT.FORMAT", format)
    inputs = [predictor.prepare(kind)["image"] for kind in (paths[0], np.asarray(Image.open(paths[0])))]
    assert torch.equal(*inputs)


@pytest.mark.parametrize("batch_size", [2, 16])
def test_company_changes_nothing(predictor, make, paths, batch_size):
    """Images of one padded size share a batch; padding to the largest would change results in the first digit."""
    together, calls = make(batch_size=batch_size), []
    together.model.register_forward_pre_hook(lambda model, inputs: calls.append(len(inputs[0])))
    for found, path in zip(together(paths), paths, strict=True):
        assert_same(found, predictor(path), tolerance=1e-4)
    assert sum(calls) == len(paths) and 1 < max(calls) <= batch_size


def test_endless_inputs_are_read_only_a_few_ahead(make, paths):
    predictor, read = make(batch_size=3), []

    def images():
        for index in itertools.count():
            read.append(index)
            yield predictor.prepare(paths[index % 5 if index % 4 else 5]) | {"number": index}

    seen = []
    for image, _ in itertools.islice(predictor.stream(images()), 30):
        seen.append(image["number"])
        assert len(read) - len(seen) < 4 * 3 + 3
        assert set(range(len(read) - 20)) <= set(seen)
    assert len(set(seen)) == 30


def test_frames_of_one_size_keep_their_order(make, paths):
    predictor = make(batch_size=3)
    frames = (predictor.prepare(paths[0]) | {"number": number} for number in range(7))
    assert [image["number"] for image, _ in predictor.stream(frames)] == list(range(7))


def test_many_images_leave_nothing_behind(predictor, paths):
    def tensors():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    predictor(paths)
    before = tensors()
    for _ in range(3):
        predictor(paths)
    assert tensors() <= before


def test_the_threshold_leaves_out_what_is_less_certain(predictor, make, paths):
    found = predictor(paths[0])
    threshold = found.scores.median().item()
    kept = make(score_threshold=threshold)(paths[0])
    assert_same(kept, found[found.scores >= threshold])
    assert 0 < len(kept) < len(found)


@pytest.mark.parametrize(
    ("has", "pairs", "argument", "expected"),
    [
        (True, ["SOLVER.AMP.ENABLED", True], None, torch.bfloat16),
        (False, ["SOLVER.AMP.ENABLED", True], None, torch.float32),
        (False, ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16"], None, torch.float32),
        (True, ["SOLVER.AMP.ENABLED", True], "float32", torch.float32),
        (True, ["TEST.PRECISION", "float32"], "bfloat16", torch.bfloat16),
        (True, [], None, torch.float32),
    ],
)
def test_it_runs_in_the_precision_of_training_or_another(make, paths, monkeypatch, has, pairs, argument, expected):
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: has)
    narrow, seen = make(*pairs, precision=argument), set()
    narrow.model.roi_heads.box_head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    found = narrow(paths[0])
    assert seen == {expected} and (narrow.precision.dtype or torch.float32) == expected
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32 and len(found)
    assert found.pred_masks.dtype == torch.bool


def test_what_is_found_can_be_changed_though_nothing_is_kept_for_gradients(make, paths):
    predictor, seen = make(), set()
    predictor.model.backbone.register_forward_hook(lambda *_: seen.add(torch.is_inference_mode_enabled()))
    found = predictor(paths[0])
    assert seen == {True}
    found.pred_boxes.scale(2, 2)
    found.scores.mul_(0.5)
    assert not any(tensor.is_inference() for tensor in (found.pred_boxes.tensor, found.scores, found.pred_masks))


def test_evaluation_finds_the_same_in_mixed_precision(make, paths):
    narrow = make(precision="bfloat16")
    mapper = DetectionMapper(narrow.cfg, False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (expected,) = narrow.model([mapper({"file_name": str(paths[0])})])
    assert_same(narrow(paths[0]), expected["instances"])


def test_classes_have_their_names_and_original_ids(predictor, make, paths):
    assert predictor.class_names == ["dog", "cat", "cow", "traffic light"]
    assert predictor.category_ids == [7, 90, 91, 200]
    found = predictor(paths[0])
    entries = predictor.to_coco(found, 139)
    assert [entry["category_id"] for entry in entries] == [predictor.category_ids[k] for k in found.pred_classes]
    assert {entry["image_id"] for entry in entries} == {139}


def test_classes_without_names_are_numbered(make):
    predictor = make("DATASETS.CATEGORIES", [])
    assert predictor.class_names == ["class 0", "class 1", "class 2", "class 3"]
    assert predictor.category_ids == [1, 2, 3, 4]


def test_only_objects_from_the_threshold_on_are_drawn(predictor, paths):
    image, found = Image.open(paths[3]), predictor(paths[3])
    empty = np.asarray(predictor.draw(image, found[:0]))
    assert empty.shape == (384, 384, 3)
    assert np.array_equal(empty, predictor.draw(image, found, 1.0))
    assert not np.array_equal(empty, predictor.draw(image, found, found.scores.max().item()))


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["DATASETS.CATEGORIES", CATEGORIES[:3], "MODEL.ROI_HEADS.NUM_CLASSES", 4], "3.*MODEL.ROI_HEADS.NUM_CLASSES"),
        (["MODEL.META_ARCHITECTURE", "MaskedAutoencoder"], "describes a MaskedAutoencoder, but prediction needs"),
        (["MODEL.FPN.OUT_CHANNELS", 8], "model.pth"),
        (
            ["INPUT.FORMAT", "L"],
            r"PIXEL_MEAN is \[.*\]; it must have as many numbers as INPUT.FORMAT L has channels, 1",
        ),
        (["INPUT.MAX_SIZE_TEST", 0], "INPUT.MAX_SIZE_TEST is 0"),
    ],
)
def test_configurations_that_will_not_do(make, pairs, sentence):
    with pytest.raises(InputError, match=sentence):
        make(*pairs)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"score_threshold": 50}, "score threshold is 50"),
        ({"score_threshold": "high"}, "score threshold is 'high'"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"device": "gpu"}, "'gpu'"),
        ({"precision": "half"}, "TEST.PRECISION is 'half'"),
        ({"precision": "float16", "device": "cpu"}, "TEST.PRECISION float16 needs a GPU"),
    ],
)
def test_options_that_will_not_do(make, options, sentence):
    with pytest.raises(InputError, match=sentence):
        make(**options)


def test_weights_without_a_whole_detector_are_refused(folder, tmp_path):
    config, path = folder / "config.yaml", tmp_path / "weights.pth"
    state = torch.load(folder / "model.pth", weights_only=True)["model"]
    torch.save({"model": {name: value for name, value in state.items() if "mask_head" not in name}}, path)
    with pytest.raises(InputError, match="weights.pth .*lacks 7 weights, such as roi_heads.mask_head"):
        Predictor(config, path)
    torch.save({"model": build_model(autoencoder_cfg()).state_dict()}, path)
    with pytest.raises(InputError, match=r"weights.pth .*lacks \d+ weights.*take a checkpoint of train_net.py"):
        Predictor(config, path)
    with pytest.raises(InputError, match="nowhere.pth"):
        Predictor(config, tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="nowhere.yaml"):
        Predictor(tmp_path / "nowhere.yaml", path)


def test_the_thinnest_image_is_an_image(predictor):
    assert predictor(np.zeros((1, 2000, 3), dtype=np.uint8)).image_size == (1, 2000)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("nowhere.png", "nowhere.png can't be read"),
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8, 5), dtype=np.uint8), r"\(8, 8, 5\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), "no pixels"),
        (torch.zeros(3, 8, 8), "a Tensor is not an image"),
        (Image.fromarray(np.full((4, 4), -3.0, dtype=np.float32)), "mode F can't be used"),
    ],
    ids=lambda value: "" if isinstance(value, (np.ndarray, torch.Tensor, Image.Image)) else value,
)
def test_what_is_no_image_is_refused(predictor, image, sentence):
    with pytest.raises(InputError, match=sentence):
        predictor(image)


# Test-time augmentation

SAME_SIZE = ("TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (64,), "TEST.AUG.MAX_SIZE", 64)


def test_augmentation_that_changes_nothing_changes_nothing(make, predictor, paths):
    same = make(*SAME_SIZE, "TEST.AUG.FLIP", False)
    for path in paths:
        assert_same(same(path), predictor(path), 1e-4)


def test_with_mirrored_images_a_mirrored_image_has_mirrored_predictions(make, predictor, paths):
    mirrored = make(*SAME_SIZE, "TEST.AUG.MIN_SIZES", (48, 64))
    with Image.open(paths[0]) as image:
        image = image.convert("RGB")
    found, turned = mirrored(image), mirrored(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert len(found) == len(turned) > 0
    boxes = turned.pred_boxes.tensor[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([64, 0, 64, 0])
    for ours, other in ((found.scores, turned.scores), (found.pred_boxes.tensor, boxes)):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3)
    assert (found.pred_masks != turned.pred_masks.flip(-1)).float().mean() < 1e-3
    plain = predictor(image)
    assert len(plain) != len(found) or not torch.allclose(plain.scores, found.scores)


def test_the_images_of_an_augmented_batch_do_not_depend_on_each_other(make, paths):
    options = (*SAME_SIZE, "TEST.AUG.MIN_SIZES", (32, 64))
    alone, together = make(*options), make(*options, batch_size=len(SIZES))
    for path, found in zip(paths, together(paths), strict=True):
        assert_same(found, alone(path), 1e-5)


def test_augmented_images_are_made_of_the_image_at_its_own_size(make, paths):
    assert make(*SAME_SIZE).prepare(paths[3])["image"].shape == (3, *SIZES[3])
