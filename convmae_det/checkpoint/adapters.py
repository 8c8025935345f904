"""Adapters (engine/adapters.py) in state dicts: merged into the weights beside them for use, apart to be resumed."""

from collections.abc import Mapping

import torch

KEY = "adapters"  # in the checkpoints of a run
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"  # peft's, in names of parameters


def merge_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the weights of a model without adapters that computes what this one does, (out, in) each."""
    merged = {name.replace(BASE, "."): value for name, value in state.items() if not name.endswith((DOWN, UP))}
    for layer in _list_layers(state):
        base, down, up = state[f"{layer}{BASE}weight"], state[f"{layer}{DOWN}"], state[f"{layer}{UP}"]
        merged[f"{layer}.weight"] = torch.addmm(base, up, down)
    return merged


def select_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns what :func:`merge_adapters` loses: adapters, and the weights beside them by their merged names."""
    bases = {f"{layer}.weight": state[f"{layer}{BASE}weight"] for layer in _list_layers(state)}
    return bases | {name: value for name, value in state.items() if name.endswith((DOWN, UP))}


def _list_layers(state: Mapping[str, torch.Tensor]) -> list[str]:
    return [name.removesuffix(UP) for name in state if name.endswith(UP)]
