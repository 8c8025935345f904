"""Images with masks: they are found, checked before training, cropped together, and read again for evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image
from reference.small import segmentor_cfg

from convmae_det.data.configuration import read_config
from convmae_det.data.image import DEFAULT
from convmae_det.data.segmentation.data_sets import list_data_set
from convmae_det.data.segmentation.loader import (
    build_test_loader,
    build_train_dataset,
    build_train_loader,
    check_test_data,
)
from convmae_det.data.segmentation.mapper import EvaluationMapper, TrainingMapper
from convmae_det.data.segmentation.masks import read_mask
from convmae_det.errors import InputError

CLASSES = ["ground", "blue", "green", "red"]
SIZE = (40, 56)


def write(folder, name, number=0):
    """An image whose colour says the class: three parts of ground, blue and green, or red."""
    mask = np.full(SIZE, 255, np.uint8)
    mask[:, :20], mask[:, 20:36], mask[:20, 36:] = 0, 1 + number % 3, 2
    pixels = np.array([[90, 90, 90], [0, 0, 255], [0, 255, 0], [255, 0, 0]] + [[9, 9, 9]] * 252, np.uint8)[mask]
    for part, array in (("images", pixels), ("masks", mask)):
        path = folder / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return mask


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a", "inner/b", "c")):
        write(tmp_path, name, number)
    return tmp_path


def configure(folder, *options, classes=CLASSES):
    entry = ["own", str(folder / "images"), str(folder / "masks"), classes]
    return segmentor_cfg(
        *("DATASETS.SEMANTIC", [entry], "DATASETS.TRAIN", ("own",), "DATASETS.TEST", ("own",)),
        *("DATASETS.CATEGORIES", [[number, label] for number, label in enumerate(CLASSES)]),
        *("INPUT.SEGMENTATION.CROP_SIZE", 32, "INPUT.MIN_SIZE_TEST", 32, "INPUT.MAX_SIZE_TEST", 99),
        *("DATALOADER.NUM_WORKERS", 0, "SEED", 3, "SOLVER.IMS_PER_BATCH", 2, *options),
    )


def test_images_and_masks_are_paired_by_their_names(folder):
    found = list_data_set(configure(folder), "own")
    names = [str(folder / "images" / f"{name}.png") for name in ("a", "c", "inner/b")]
    assert [image["file_name"] for image in found] == names
    assert all(image["sem_seg_file_name"] == image["file_name"].replace("/images/", "/masks/") for image in found)
    assert len({found.digest(), list_data_set(configure(folder), "own").digest()}) == 1


def test_classes_come_from_a_file_and_set_the_number(folder):
    (folder / "names.txt").write_text("\ufeff" + "\n".join(CLASSES) + "\n\n", encoding="utf-8")  # as Windows does
    entry = ["own", str(folder / "images"), str(folder / "masks"), str(folder / "names.txt")]
    pairs = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "DATASETS.SEMANTIC", str([entry])]
    cfg = read_config("", [*pairs, "DATASETS.TRAIN", "('own',)", "DATASETS.TEST", "()"])
    assert cfg.DATASETS.CATEGORIES == [[number, label] for number, label in enumerate(CLASSES)]
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 4


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "1"])
def test_masks_of_all_kinds_hold_their_numbers(tmp_path, mode):
    numbers = (np.arange(64).reshape(8, 8) % (2 if mode == "1" else 200)).astype(np.uint8)
    path = str(tmp_path / ("mask.tif" if mode == "I" else "mask.png"))  # Pillow writes no PNG of it any more
    if mode == "P":
        image = Image.fromarray(numbers).convert("P")
        image.putdata(numbers.ravel())
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    elif mode == "1":
        image = Image.fromarray(numbers.astype(bool))
    else:
        image = Image.fromarray(numbers.astype({"L": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]))
    image.save(path)
    assert np.array_equal(read_mask(path, DEFAULT), numbers)


def spoil(folder, kind):
    mask = folder / "masks" / "c.png"
    values = np.asarray(Image.open(mask))
    match kind:
        case "missing":
            mask.unlink()
        case "size":
            Image.fromarray(values[:30]).save(mask)
        case "values":
            Image.fromarray(np.where(values == 2, 7, values)).save(mask)
        case "colours":
            Image.fromarray(values).convert("RGB").save(mask)
        case "jpeg":
            Image.fromarray(values).save(mask.with_suffix(".jpg"))
            mask.unlink()
        case "twice":
            Image.fromarray(values).save(mask.with_suffix(".tif"))
        case "shared":
            Image.fromarray(values).save(folder / "images" / "c.bmp")
        case "damaged":
            mask.write_bytes(mask.read_bytes()[:60])
        case "empty":
            for path in (folder / "masks").rglob("*.png"):
                Image.fromarray(np.full(SIZE, 255, np.uint8)).save(path)


@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("missing", r"images/c.png has no mask: there is no .*masks/c.png \(1 of 3 images have none\)"),
        ("size", r"masks/c.png is 56×30 pixels, but its image .*images/c.png is 56×40"),
        ("values", r"masks/c.png holds 7, but its 4 classes are 0 to 3, .*IGNORE_VALUE 255"),
        ("colours", r"masks/c.png is no mask, but a picture in RGB"),
        ("jpeg", r"masks/c.jpg is no mask, but a picture in JPEG"),
        ("twice", r"masks/c.png and .*masks/c.tif are masks of the same name"),
        ("shared", r"images/c.bmp and .*images/c.png have the same mask, .*masks/c.png: keep one of them"),
        ("damaged", r"masks/c.png can't be read as an image"),
        ("empty", r"No pixel in the masks of own has a class"),
    ],
)
def test_what_is_wrong_is_said_before_training_and_before_evaluation(folder, kind, sentence):
    spoil(folder, kind)
    for check in (build_train_dataset, check_test_data):
        with pytest.raises(InputError, match=sentence) as error:
            check(configure(folder))
        assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    "entry, sentence",
    [
        (["own", "images", "masks"], "make it .*name, image folder, mask folder, classes"),
        (["own", "images", "masks", ["one"]], "at least two different names"),
        (["own", "images", "masks", ["one", "one"]], "at least two different names"),
        (["own", "images", "masks", ["on", True]], "hold True, which is no name: put names .* in quotes"),
        (["own", "images", "masks", ["one", ["two"]]], r"hold \['two'\], which is no name"),
        (["own", "images", "masks", "no.txt"], "no.txt, the classes of own .* can't be read"),
        (["own", "nowhere", "masks", CLASSES], "nowhere, the folder of images of own"),
        (["own", "images", "nowhere", CLASSES], "nowhere, the folder of masks of own"),
        (["other", "images", "masks", CLASSES], "There is no data set own .*lists other"),
        (["own", "images", "masks", CLASSES[::-1]], "The classes of own are red, .*those of the model ground"),
    ],
)
def test_entries_that_can_not_be_used(folder, monkeypatch, entry, sentence):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=sentence):
        list_data_set(configure(folder, "DATASETS.SEMANTIC", [entry]), "own")


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_crops_of_image_and_mask_stay_together(folder, image_format):
    """Colours say the class: away from the borders between classes they still agree."""
    cfg = configure(folder, "INPUT.FORMAT", image_format, "INPUT.SEGMENTATION.PHOTOMETRIC", False)
    mapper, item = TrainingMapper(cfg), list_data_set(cfg, "own")[0]
    seen = set()
    for seed in range(12):
        np.random.seed(seed)
        sample = mapper(item)
        image, mask = sample["image"], sample["sem_seg"]
        assert image.shape == (3, 32, 32) and image.dtype == torch.uint8
        assert mask.shape == (32, 32) and mask.dtype == torch.int64
        image = image if image_format == "RGB" else image.flip(0)
        blue = (image[2] > 200) & (image[1] < 60)
        green = (image[1] > 200) & (image[2] < 60)
        assert set(mask[blue].tolist()) <= {1} and set(mask[green].tolist()) <= {2}
        seen |= set(mask.unique().tolist())
    assert seen == {0, 1, 2, 255}


def test_masks_of_16_bits_are_cropped_as_those_of_8(folder):
    cfg = configure(folder)
    mapper, item, samples = TrainingMapper(cfg), list_data_set(cfg, "own")[0], []
    values = np.asarray(Image.open(item["sem_seg_file_name"]))
    for dtype in (np.uint8, np.uint16):
        Image.fromarray(values.astype(dtype)).save(item["sem_seg_file_name"])
        np.random.seed(0), torch.manual_seed(1)
        samples.append(mapper(item)["sem_seg"])
    assert torch.equal(*samples) and len(samples[0].unique()) > 1


def test_what_a_crop_does_not_fill_has_no_class_and_no_colour(folder):
    cfg = configure(folder, "INPUT.SEGMENTATION.MIN_SCALE", 0.5, "INPUT.SEGMENTATION.MAX_SCALE", 0.5)
    sample = TrainingMapper(cfg)(list_data_set(cfg, "own")[0])
    assert (sample["sem_seg"][16:] == 255).all() and (sample["sem_seg"][:16] != 255).any()
    mean = torch.tensor([round(value) for value in cfg.MODEL.PIXEL_MEAN])
    assert (sample["image"][:, 16:] == mean[:, None, None]).all()


def test_colours_change_alone(folder):
    cfg = configure(folder, "INPUT.RANDOM_FLIP", "none", "INPUT.SEGMENTATION.MAX_CLASS_SHARE", 1.0)
    item, samples = list_data_set(cfg, "own")[0], []
    for photometric in (False, True):
        cfg.INPUT.SEGMENTATION.PHOTOMETRIC = photometric
        np.random.seed(0), torch.manual_seed(1)
        samples.append(TrainingMapper(cfg)(item))
    assert torch.equal(samples[0]["sem_seg"], samples[1]["sem_seg"])
    assert not torch.equal(samples[0]["image"], samples[1]["image"])


def test_the_stream_does_not_depend_on_its_start(folder):
    cfg = configure(folder)
    dataset = build_train_dataset(cfg)
    first = iter(build_train_loader(cfg, 0, dataset))
    batches = [next(first) for _ in range(3)]
    (again,) = (next(iter(build_train_loader(cfg, 2, dataset))) for _ in range(1))
    assert len(again) == 2
    for one, other in zip(batches[2], again, strict=True):
        assert torch.equal(one["image"], other["image"]) and torch.equal(one["sem_seg"], other["sem_seg"])


def test_evaluation_sees_whole_images_resized(folder):
    cfg = configure(folder)
    images = [batch[0] for batch in build_test_loader(cfg, "own")]
    assert [image["image_id"] for image in images] == [0, 1, 2]
    assert all(image["image"].shape == (3, 32, 45) for image in images)
    assert all((image["height"], image["width"]) == SIZE for image in images)
    assert EvaluationMapper(configure(folder, "INPUT.MIN_SIZE_TEST", 0))(images[0])["image"].shape == (3, *SIZE)


@pytest.mark.parametrize(
    "key, value",
    [
        ("INPUT.SEGMENTATION.CROP_SIZE", 0),
        ("INPUT.SEGMENTATION.MIN_SCALE", 0.0),
        ("INPUT.SEGMENTATION.MAX_SCALE", 0.1),
        ("INPUT.SEGMENTATION.MAX_CLASS_SHARE", 0.0),
        ("INPUT.RANDOM_FLIP", "both"),
        ("INPUT.FORMAT", "HSV"),
    ],
)
def test_values_with_which_nothing_can_be_trained(folder, key, value):
    with pytest.raises(InputError, match=f"^{key} is "):
        TrainingMapper(configure(folder, key, value))
