"""Damaged and senseless checkpoints are loaded whole or refused in a sentence; no model gets a number that is none."""

import copy
import io
import math

import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from reference.faults import Tally, counts, examples
from reference.small import detector_cfg
from safetensors.torch import save

from convmae_det.checkpoint import load_weights
from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.conversion import to_official

SHAPES = [(), (0,), (1,), (3,), (0, 4), (1, 0, 0, 8), (2, 2), (1, 9, 16), (1, 3, 5, 16), (2, 2, 2, 2), (8, 3, 4, 4)]
ODD = [None, True, 7, -1, "text", b"bytes", [], [1, 2], {}, {"a": 1}, (1,), math.nan, torch.nn.Parameter(torch.ones(3))]
DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
DTYPES += [torch.float8_e4m3fn]


def odd_tensors() -> list[torch.Tensor]:
    indices = torch.tensor([[0, 1]])
    return [
        torch.zeros(()).expand(10**6, 10**6),  # four bytes that stand for four terabytes
        torch.empty(4, 4, device="meta"),
        torch.sparse_coo_tensor(indices, torch.ones(2), (3,), check_invariants=True),
        torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        torch.full((3,), 1e300, dtype=torch.float64),  # infinite as float32
    ]


@pytest.fixture(scope="module")
def model():
    return build_model(detector_cfg())


@pytest.fixture(scope="module")
def contents(model):
    """Of a run, and of an encoder alone in either layout."""
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = model.state_dict()
    prefix = "backbone.bottom_up."
    encoder = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    run = {"model": state, "optimizer": optimizer.state_dict(), "iteration": 3}
    return [run, {"model": encoder}, {"model": to_official(encoder, prefix)}, dict(encoder)]


@st.composite
def damage_to_content(draw, content: dict) -> dict:
    """Other values at random places of the tree."""
    content = copy.copy(content)
    node = content
    while True:
        key = draw(st.sampled_from(list(node)))
        if not isinstance(node[key], dict) or not node[key] or draw(st.integers(0, 4)) == 0:
            break
        node[key] = copy.copy(node[key])
        node = node[key]
    value = node[key]
    match draw(st.sampled_from(["shape", "number", "dtype", "odd", "odd tensor", "drop", "rename", "swap"])):
        case "shape":
            node[key] = torch.ones(draw(st.sampled_from(SHAPES)))
        case "number" if isinstance(value, torch.Tensor) and value.numel() and value.is_floating_point():
            node[key] = value.clone()
            node[key].view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(
                st.sampled_from([math.nan, math.inf, -math.inf, 1e38])
            )
        case "dtype" if isinstance(value, torch.Tensor):
            node[key] = value.to(draw(st.sampled_from(DTYPES)))
        case "odd tensor":
            node[key] = draw(st.sampled_from(odd_tensors()))
        case "drop":
            del node[key]
        case "rename":
            node[draw(st.sampled_from(["", "x", 3, "model", "module.x", "matching_heuristics"]))] = node.pop(key)
        case "swap":
            node[key] = node[draw(st.sampled_from(list(node)))]
        case _:
            node[key] = draw(st.sampled_from(ODD))
    return content


@st.composite
def damaged(draw, contents: list[dict], originals: list[bytes]) -> bytes:
    if draw(st.booleans()):
        content = draw(damage_to_content(draw(st.sampled_from(contents))))
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=draw(st.integers(0, 3)) > 0)
        return buffer.getvalue()
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        edge = draw(st.sampled_from([100, 3000, len(content)]))
        place = draw(st.integers(0, edge - 1))
        place = len(content) - 1 - place if draw(st.booleans()) else place
        match draw(st.sampled_from(["set", "cut", "end", "number"])):
            case "set":
                content[place : place + 1] = [draw(st.integers(0, 255))]
            case "cut":
                del content[place : place + draw(st.integers(1, 5000))]
            case "end":
                del content[place:]
            case "number":
                content[place : place + 8] = draw(st.sampled_from([0, 2**31 - 1, 2**40, 2**63, 2**64 - 1])).to_bytes(
                    8, "little"
                )
        content = content or bytearray(b"P")
    return bytes(content)


def files(contents: list[dict]) -> list[bytes]:
    result = []
    for content in contents:
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            result.append(buffer.getvalue())
    return result


def check(model: torch.nn.Module) -> None:
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@counts(40, 1000)
def test_damaged_weights(count, model, contents, tmp_path):
    originals, path, tally = files(contents), tmp_path / "weights.pth", Tally()
    originals.append(save(contents[-1], {"epoch": "3"}))
    fresh = copy.deepcopy(model)

    @examples(count)
    @given(damaged(contents, originals))
    def run(content):
        path.write_bytes(content)
        tally(load_weights, fresh, path)
        check(fresh)

    run()
    tally.report("damaged checkpoints, load_weights")
    assert min(tally.outcomes[kind] for kind in ("survived", "refused")) > 0


@counts(40, 1000)
def test_damaged_runs(count, model, contents, tmp_path):
    originals, path, tally = files(contents[:1]), tmp_path / "model_0000003.pth", Tally()

    @examples(count)
    @given(damaged(contents[:1], originals))
    def run(content):
        path.write_bytes(content)
        fresh = copy.deepcopy(model)
        optimizer = torch.optim.AdamW(fresh.parameters())
        tally(Checkpointer(fresh, str(tmp_path), optimizer=optimizer).load, str(path))
        check(fresh)

    run()
    tally.report("damaged checkpoints, Checkpointer.load")
    assert min(tally.outcomes[kind] for kind in ("survived", "refused")) > 0
