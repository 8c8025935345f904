"""The benchmark measures in the type that is asked for, and says what it costs."""

import logging

import pytest

from benchmarks import benchmark, steps
from convmae_det import precision
from convmae_det.errors import InputError


@pytest.fixture
def measured_in(monkeypatch):
    """``measured_in(dtype, has_bfloat16)``: the type that workloads are made with."""

    def measured_in(dtype, has_bfloat16):
        seen = []
        monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: has_bfloat16)
        monkeypatch.setattr(steps, "measure", lambda kinds, sizes, args: seen.append(args.dtype))
        monkeypatch.setattr(steps, "report", lambda result: None)
        benchmark.main(["pretrain", "--device=cpu", "--threads=1", f"--dtype={dtype}"])
        return seen

    return measured_in


def test_auto_is_what_the_processor_has(measured_in, caplog):
    assert measured_in("auto", has_bfloat16=True) == ["bfloat16"]
    assert measured_in("auto", has_bfloat16=False) == measured_in("float32", has_bfloat16=True) == ["float32"]
    assert measured_in("bfloat16", has_bfloat16=True) == ["bfloat16"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_emulated_is_warned_of(measured_in, caplog):
    assert measured_in("bfloat16", has_bfloat16=False) == ["bfloat16"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("--dtype bfloat16 is emulated") and "auto, which takes float32 here" in warning


def test_float16_is_for_gpus(measured_in):
    with pytest.raises(InputError, match="--dtype float16 needs a GPU"):
        measured_in("float16", has_bfloat16=True)
