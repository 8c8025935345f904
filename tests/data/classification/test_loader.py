"""Batches of a classifier are functions of seed and position, also where images are mixed."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import posterize

from convmae_det.data.classification.loader import build_test_loader, build_train_dataset, build_train_loader
from convmae_det.data.classification.mapper import EvaluationMapper, TrainingMapper, build_rand_augment
from convmae_det.data.classification.mixing import Mixing
from convmae_det.errors import InputError


def take(cfg, batches, start=0):
    return list(itertools.islice(build_train_loader(cfg, start), batches))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys() and batch["file_names"] == other["file_names"]
        for name in batch.keys() - {"file_names", "skipped"}:
            assert torch.equal(batch[name], other[name]), name


def join(batches):
    keys = batches[0].keys() - {"file_names", "skipped"}
    joined = {key: torch.cat([batch[key] for batch in batches]) for key in keys}
    return joined | {"file_names": [name for batch in batches for name in batch["file_names"]]}


def test_a_step_is_the_same_however_it_is_cut_and_whenever_it_comes(colours_cfg):
    whole = take(colours_cfg(), 4)
    assert_same(take(colours_cfg(), 2, start=2), whole[2:])
    halves = take(colours_cfg("SOLVER.ACCUMULATION_STEPS", 2), 8)
    assert_same([join(halves[i : i + 2]) for i in range(0, 8, 2)], [join([batch]) for batch in whole])


def test_workers_give_the_same(colours_cfg):
    assert_same(take(colours_cfg("DATALOADER.NUM_WORKERS", 1), 2), take(colours_cfg(), 2))


def test_reading_leaves_the_random_state_alone(colours_cfg):
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.rand(), torch.rand(1)
    np.random.seed(1)
    torch.manual_seed(1)
    take(colours_cfg(), 1)
    assert (np.random.rand(), torch.rand(1)) == expected


def test_mixed_targets_are_those_of_neighbours(colours_cfg):
    plain = colours_cfg("INPUT.CLASSIFICATION.MIXUP", 0.0, "INPUT.CLASSIFICATION.CUTMIX", 0.0)
    for batch, single in zip(take(colours_cfg(), 6), take(plain, 6), strict=True):
        assert torch.allclose(batch["targets"].sum(1), torch.ones(4))
        for image in range(4):
            own, other = (int(single["labels"][place]) for place in (image, image ^ 1))
            assert set(batch["targets"][image].nonzero().flatten().tolist()) <= {own, other}
            mixed = batch["targets"][image, other] if own != other else None
            if mixed is not None and mixed == 0:
                assert torch.equal(batch["images"][image], single["images"][image])


def test_mixup_blends_pixels_as_it_does_targets(colours_cfg):
    samples = [{"image": torch.full((3, 8, 8), value), "label": label, "draw": 7, "file_name": "", "skipped": []}
               for label, value in enumerate((0.0, 100.0))]  # fmt: skip
    batch = Mixing.from_config(colours_cfg("INPUT.CLASSIFICATION.CUTMIX", 0.0))(samples)
    assert torch.allclose(batch["images"].mean(dim=(1, 2, 3)), 100 * batch["targets"][:, 1])
    batch = Mixing.from_config(colours_cfg("INPUT.CLASSIFICATION.MIXUP", 0.0))(samples)
    assert torch.allclose(batch["images"].mean(dim=(1, 2, 3)), 100 * batch["targets"][:, 1], atol=1e-4)
    assert set(batch["images"].unique().tolist()) == {0.0, 100.0}


@pytest.mark.parametrize("parts", [4, 1])
def test_an_odd_part_has_no_pairs(colours_cfg, parts):
    options = ["SOLVER.ACCUMULATION_STEPS", 4] if parts == 4 else ["SOLVER.IMS_PER_BATCH", 3]
    with pytest.raises(InputError, match=r"^SOLVER.IMS_PER_BATCH is \d; it must be a multiple of"):
        build_train_loader(colours_cfg(*options))


def test_pixels_stay_bytes_without_erasing_and_mixing(colours_cfg):
    off = [word for name in ("MIXUP", "CUTMIX", "RANDOM_ERASING") for word in (f"INPUT.CLASSIFICATION.{name}", 0.0)]
    (batch,) = take(colours_cfg(*off), 1)
    assert batch["images"].dtype == torch.uint8 and batch["labels"].dtype == torch.int64


def test_erasing_is_noise_about_the_mean(colours_cfg):
    node = "INPUT.CLASSIFICATION."
    options = [f"{node}RAND_AUGMENT", "", "INPUT.RANDOM_FLIP", "none"]
    cfg = colours_cfg(f"{node}RANDOM_ERASING", 1.0, *options)
    dataset, mapper = build_train_dataset(cfg), TrainingMapper(cfg)
    plain = TrainingMapper(colours_cfg(f"{node}RANDOM_ERASING", 0.0, *options))
    torch.manual_seed(0)
    erased = mapper(dataset[0])["image"]
    torch.manual_seed(0)
    image = plain(dataset[0])["image"].float()
    changed = ((erased - image).abs() > 1e-3).any(0)
    assert 0 < changed.sum() < changed.numel()


def test_bgr_is_augmented_as_rgb(colours_cfg):
    samples = {}
    for format in ("RGB", "BGR"):
        cfg = colours_cfg("INPUT.FORMAT", format, "INPUT.CLASSIFICATION.RANDOM_ERASING", 0.0)
        if format == "BGR":
            cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_MEAN[::-1]
        mapper = TrainingMapper(cfg)
        dataset = build_train_dataset(cfg)
        off = colours_cfg("INPUT.FORMAT", format)
        off.INPUT.CLASSIFICATION.MIXUP = off.INPUT.CLASSIFICATION.CUTMIX = off.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0
        off.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_MEAN
        samples[format] = take(off, 3)
        assert mapper(dataset[0])["image"].shape == (3, 32, 32)
    for rgb, bgr in zip(samples["RGB"], samples["BGR"], strict=True):
        assert torch.equal(rgb["images"], bgr["images"].flip(1))


def test_what_has_no_bits_left_is_black():
    augment = build_rand_augment("rand-m10-p1.0-inc1", [124, 116, 104], 32)
    posterizing = [op for op in augment.ops if op.name.startswith("Posterize")]
    assert posterizing and not any(op.aug_fn is posterize for op in augment.ops)
    image = Image.effect_noise((32, 32), 50).convert("RGB")
    assert all(not np.asarray(op(image)).any() for op in posterizing)
    few = posterizing[0].aug_fn(image, 3)
    assert few == ImageOps.posterize(image, 3)


def test_the_middle_is_evaluated_as_published(tmp_path, colours_cfg):
    """Pillow's bicubic resizing of the shorter side to 256 for 224, then the middle: the published evaluation."""
    pixels = np.random.default_rng(1).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((500, 300), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    cfg = colours_cfg("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 224)
    found = EvaluationMapper(cfg)({"file_name": str(tmp_path / "a.png"), "label": 1})["image"]
    resized = image.resize((int(256 * 500 / 300), 256), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 224) / 2), 16
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    assert found.shape == (3, 224, 224)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_each_test_image_once_and_damaged_ones_do_not_count(colours_cfg, colours_folder, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted((colours_folder / "test").rglob("*.png"))]
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = tmp_path / "test.csv"
    table.write_text("\n".join(["path,label", *rows, "broken.png,red"]))
    cfg = colours_cfg("DATASETS.CLASS_FOLDERS", [["test", str(table)]])
    batches = list(build_test_loader(cfg, "test"))
    labels = torch.cat([batch["labels"] for batch in batches]).tolist()
    assert labels == [0] * 3 + [1] * 3 + [2] * 3 + [-1]
    ((name, reason),) = [skipped for batch in batches for skipped in batch["skipped"]]
    assert name == str(tmp_path / "broken.png") and reason.startswith("can't be read as an image")
