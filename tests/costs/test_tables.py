"""The tables say what was measured."""

from convmae_det.costs.tables import compute_cost_per_pixel


def test_cost_per_pixel():
    first = {"size": 64, "seconds": 1.0, "operations": {"a": 10, "b": 20}}
    row = {"size": 128, "seconds": 6.0, "operations": {"a": 100, "b": 140}}
    assert compute_cost_per_pixel(row, first) == (1.5, 2.0)
    assert compute_cost_per_pixel(first, first) == (1, 1)
