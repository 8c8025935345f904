"""Bounds are counts over what a card does in a second."""

import pytest
from reference.small import AUTOENCODER, CLASSIFIER, DETECTOR, ENCODER

from convmae_det.costs.bounds import STATE, compute_bound, compute_bounds, count_on_gpu
from convmae_det.costs.cards import CARDS, Card
from convmae_det.costs.network import Pass, Workload, count_parameters
from convmae_det.errors import InputError

CHECKPOINT = "MODEL.CONVMAE.ACTIVATION_CHECKPOINT"
SETTINGS = [*map(str, ENCODER + AUTOENCODER)]
CARD = Card("a card", "bfloat16", rate=100.0, bandwidth=10.0, memory=1000.0, source="its data sheet")


@pytest.mark.parametrize(("operations", "moved", "rate"), [(400, 10, 2.0), (400, 100, 0.8)])
def test_the_longer_time_is_the_bound(operations, moved, rate):
    bound = compute_bound({"operations": operations, "bytes": moved}, CARD, 8)
    assert (bound["seconds_of_operations"], bound["seconds_of_bytes"]) == (operations / 100, moved / 10)
    assert bound["images_per_second"] == rate


@pytest.mark.parametrize("settings", [AUTOENCODER, DETECTOR], ids=["pretraining", "detector"])
def test_counts_grow_with_the_images_alone(tmp_path, settings):
    """Weights count once a pass, whatever the batch."""
    (tmp_path / "own.yaml").write_text("VERSION: 2\n")

    def bounds(images, train):
        workload = Workload(str(tmp_path / "own.yaml"), [*map(str, ENCODER + settings)], "cpu", images, train)
        (row,) = compute_bounds(workload, CARD)["sizes"]
        model = Pass(workload.cfg, row["size"], 1, train=False)
        return row, model.count_operations().total(), count_parameters(model.model).total()

    (two, operations, parameters), (three, *_), (four, *_) = (bounds(images, True) for images in (2, 3, 4))
    forward = bounds(2, False)[0]
    assert two["size"] == 64 and two["operations"] == 3 * 2 * operations == 3 * forward["operations"]
    for count in ("operations", "bytes", "held"):
        assert four[count] - three[count] == three[count] - two[count] > 0
    assert forward["held"] == 4 * parameters and two["held"] > STATE * parameters
    assert 0 < forward["bytes"] < two["bytes"]


def test_recomputed_activations_are_held_no_more(tmp_path):
    """And are computed by the kernels by which they were at first, or torch would refuse them."""
    (tmp_path / "own.yaml").write_text("VERSION: 2\n")
    plain, recomputed = (
        count_on_gpu(Workload(str(tmp_path / "own.yaml"), [*SETTINGS, CHECKPOINT, flag], "cpu").cfg, 64, 4, train=True)
        for flag in ("False", "True")
    )
    assert recomputed.kept < plain.kept and recomputed.kernels.total() > plain.kernels.total()


def test_what_can_t_be_counted_is_named(tmp_path):
    (tmp_path / "own.yaml").write_text("VERSION: 2\n")
    with pytest.raises(InputError, match="--gpu counts pretraining and detectors, but .*own.yaml describes a classif"):
        compute_bounds(Workload(str(tmp_path / "own.yaml"), [*map(str, ENCODER + CLASSIFIER)], "cpu"), CARD)
    workload = Workload(str(tmp_path / "own.yaml"), [*map(str, ENCODER + DETECTOR)], "cpu")
    with pytest.raises(InputError, match="--sizes holds 16"):
        compute_bounds(workload, CARD, [16])


def test_cards_say_what_they_are():
    assert list(CARDS) == ["H100", "A100", "4090", "T4"]
    assert str(CARDS["T4"]) == "NVIDIA T4 (65 TFLOP/s in float16, 0.32 TB/s, 16 GB: NVIDIA T4 data sheet)"
