"""A share of the training images: nested, by name and seed alone, and what all trainings see."""

import random

import pytest
from detectron2.config import CfgNode
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.data.share import choose_share
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.errors import InputError


def images(number: int) -> list[dict]:
    return [{"file_name": f"{i:05}.jpg"} for i in range(number)]


def names(dataset) -> list[str]:
    return [dataset[i]["file_name"] for i in range(len(dataset))]


@given(st.integers(1, 300), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 2**31))
def test_shares_are_nested(number, share, other, seed):
    low, high = sorted((share, other))
    few, many = (choose_share(images(number), part, seed) for part in (low, high))
    assert set(names(few)) <= set(names(many)) <= set(names(images(number)))
    assert len(few) == len(set(names(few))) == max(1, round(low * number))


def test_the_order_of_the_data_set_does_not_matter():
    shuffled = images(100)
    random.Random(0).shuffle(shuffled)
    assert names(choose_share(shuffled, 0.2, 7)) == names(choose_share(images(100), 0.2, 7))


def test_seeds_choose_differently():
    assert names(choose_share(images(100), 0.2, 1)) != names(choose_share(images(100), 0.2, 2))


def test_all_is_the_data_set_itself():
    dataset = images(5)
    assert choose_share(dataset, 1.0, -1) is dataset


@pytest.mark.parametrize("number", [0, 1, 2])
def test_items_without_a_name(number):
    assert len(choose_share([object()] * 10, 0.1 * number, 0)) == max(1, number)


def test_an_epoch_is_the_share(shapes_cfg):
    cfg: CfgNode = shapes_cfg("DATASETS.TRAIN_SHARE", 0.5, "SOLVER.MAX_EPOCHS", 3)
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TEST = "MaskedAutoencoder", ()
    trainer = PretrainingTrainer(cfg)
    assert len(trainer.dataset) == 2 and trainer.max_iter == 6


@pytest.mark.parametrize(
    "pair, message",
    [
        (("DATASETS.TRAIN_SHARE", 0.0), "DATASETS.TRAIN_SHARE is 0.0; it must be above 0"),
        (("SEED", -1), "SEED is -1; it must be at least 0 where DATASETS.TRAIN_SHARE is 0.5"),
        (("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"), "SAMPLER_TRAIN is 'Repeat.*TRAIN_SHARE"),
    ],
)
def test_what_goes_with_it(shapes_cfg, pair, message):
    cfg = shapes_cfg("DATASETS.TRAIN_SHARE", 0.5, *pair)
    cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
    with pytest.raises(InputError, match=message):
        PretrainingTrainer(cfg)
