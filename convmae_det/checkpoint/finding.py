"""Finds the weights in a file: under any keys, after any prefix, with what wrappers add to their names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from ..errors import InputError
from .formats import BEFORE_ENCODER, recognise_format

# Where a file keeps the model itself, rather than an average of it; the first that exists is used.
MAIN = ("model", "state_dict", "model_state_dict", "module")
# What DistributedDataParallel, AveragedModel, torch.compile, FSDP, activation checkpointing and peft put into names.
WRAPPER = r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer)\."


class FoundEncoder(NamedTuple):
    """An encoder in a file, with the dictionary of tensors that contains it."""

    tensors: dict[str, torch.Tensor]  # all of the dictionary, by their names without wrappers
    prefix: str  # of the encoder's names there,
    saved_prefix: str  # and as the file has it
    keys: tuple[str, ...]  # that lead to the dictionary
    entries: dict[str, Any]  # what else the file holds: epoch, optimizer, …

    def __str__(self) -> str:
        return ".".join([*self.keys, self.saved_prefix]).removesuffix(".") or "top"


def find_encoder(checkpoint: Mapping[str, Any], path: Any, key: str = "") -> FoundEncoder:
    """Finds the encoder in a file.

    Args:
        checkpoint: the content of the file
        path: of the file, for errors
        key: chooses one of several encoders: the keys and prefix that lead to it, or some of these words

    Raises:
        InputError: there is none, or several match.
    """
    encoders = []
    for keys, state in iterate_state_dicts(checkpoint):
        tensors = remove_wrappers(state)
        for saved_name, name in zip(state, tensors, strict=True):
            saved = re.match(r"(.*\.|)(?=(patch_embed1|stage1)\.)", saved_name)
            if saved and (before := BEFORE_ENCODER.fullmatch(name)):
                encoders.append(
                    FoundEncoder(tensors, before[1], saved[0], keys, select_other_entries(keys, checkpoint))
                )
    if not encoders:
        recognise_format(find_model_tensors(checkpoint, path)[0], path)  # raises, naming the other network
    if key:
        chosen = [it for it in encoders if str(it) == key] or [it for it in encoders if f".{key}." in f".{it}."]
    else:
        first = min(rank_keys(it.keys) for it in encoders)
        chosen = [it for it in encoders if rank_keys(it.keys) == first]
    if len(chosen) == 1:
        return chosen[0]
    places = ", ".join(map(str, chosen or encoders))
    if chosen:
        advice = f"take one with convmae-det convert INPUT OUTPUT --to official --key {chosen[0]}"
        raise InputError(f"{path} holds {len(chosen)} encoders, at {places}: {advice}")
    raise InputError(f"{path} holds no encoder at {key}, but at {places}: name that, or a word of it, with --key")


def find_model_tensors(checkpoint: Mapping[str, Any], path: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Finds the tensors of a file's model by name, and its other entries (epoch, optimizer, …).

    Args:
        checkpoint: the content of the file
        path: of the file, for errors

    Raises:
        InputError: there are no tensors.
    """
    saved = [(keys, tensors) for keys, tensors in iterate_state_dicts(checkpoint) if len(keys) < 2]
    if not saved:
        found = f"only {', '.join(map(str, checkpoint))}" if checkpoint else "nothing"
        raise InputError(f"{path} holds no weights, {found}: name a file whose tensors lie under {', '.join(MAIN)}")
    keys, tensors = min(saved, key=lambda item: rank_keys(item[0]))
    return remove_wrappers(tensors), select_other_entries(keys, checkpoint)


def iterate_state_dicts(checkpoint: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Yields each dictionary of tensors in a file, with the keys that lead to it; outer ones first."""
    waiting, seen = [((), checkpoint)], set()
    for keys, node in waiting:
        if id(node) not in seen:
            seen.add(id(node))
            if tensors := {str(name): value for name, value in node.items() if isinstance(value, torch.Tensor)}:
                yield keys, tensors
            waiting += [((*keys, str(key)), value) for key, value in node.items() if isinstance(value, Mapping)]


def select_other_entries(keys: tuple[str, ...], checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a file without the tensors that `keys` lead to."""
    if keys:
        return {str(key): value for key, value in checkpoint.items() if str(key) != keys[0]}
    return {str(key): value for key, value in checkpoint.items() if not isinstance(value, torch.Tensor)}


def rank_keys(keys: tuple[str, ...]) -> int:
    """Returns the position of the last key in MAIN: the model itself comes before averages of it."""
    return MAIN.index(keys[-1]) if keys and keys[-1] in MAIN else len(MAIN)


def remove_wrappers(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Removes WRAPPER from the names of tensors, in the same order; changes none if two names would become equal."""
    bare = {re.sub(WRAPPER, "", name): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else dict(tensors)
