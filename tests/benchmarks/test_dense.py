"""The benchmark of dense scenes times what gives equal results, and draws its curves."""

import argparse
import json

import pytest
from PIL import Image

from benchmarks import dense
from convmae_det.errors import InputError


def arguments(*words):
    parser = argparse.ArgumentParser()
    dense.add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args(list(words))


def test_a_run_gives_its_figures_and_curves(tmp_path, capsys):
    path = tmp_path / "curves.png"
    words = ("--objects", "20", "110", "--size", "96", "--stock-up-to", "20", "--plot", str(path))
    result = json.loads(json.dumps(dense.measure(arguments(*words))))
    dense.report(result)
    assert "20" in capsys.readouterr().out and Image.open(path).width > 500
    few, many = result["rows"]
    assert set(few["seconds"]) == set(few["peak"]) == set(dense.WORKLOADS)
    assert "results, Detectron2" not in many["seconds"] and 0 < few["kept"] < many["kept"]


def test_bad_counts_are_named():
    with pytest.raises(InputError, match="--objects"):
        dense.measure(arguments("--objects", "0"))
