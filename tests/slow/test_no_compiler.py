"""MODEL.COMPILE where there is no compiler, each in a process of its own, since PyTorch looks for one once."""

import os
import subprocess
import sys

import pytest

SLOW = pytest.mark.slow
VARIABLES = [{"CXX": "/no/compiler"}, pytest.param({"CXX": "false"}, marks=SLOW), pytest.param({}, marks=SLOW)]


@pytest.mark.parametrize("variables", VARIABLES, ids=str)
def test_a_compiler_is_missed(variables):
    code = """import logging; from torch import nn, ones; logging.basicConfig()
from convmae_det.ops.compilation import compile_modules
model = nn.Sequential(nn.Linear(4, 4))
compile_modules(model, nn.Linear); print(model(ones(2, 4)).shape, model[0]._compiled_call_impl is None)"""
    result = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=os.environ | variables)
    assert result.stdout == f"torch.Size([2, 4]) {bool(variables)}\n", result.stderr
    assert result.stderr.count("nothing can be compiled here") == bool(variables)
    assert "Traceback" not in result.stderr
