"""Reads a file of weights without ever running code in it.

`torch.load` with `weights_only=True` builds tensors, plain Python values and, beside them, only `argparse.Namespace`,
in which the published checkpoints store their command line. Whatever else a pickle requests is refused.
"""

import argparse
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file

from ..errors import InputError, shorten_error

TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began a file before torch 1.6
RESAVE = "where you trust its source, load it with the program that wrote it and save tensors alone"
DISTRIBUTED = (
    "holds tensors that are spread over processes, as FSDP's are: in the program that wrote it, save "
    "tensor.full_tensor() of each, or what torch.distributed.checkpoint.state_dict.get_model_state_dict gives with "
    "full_state_dict=True"
)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads the content of a .pth, .pt or .safetensors file or URL; the tensors are on the CPU.

    A .safetensors file gives {"model": its tensors} and its metadata, strings. The kind of file follows from its bytes.

    Raises:
        InputError: one sentence for each reason for which a file can't be read, or must not be.
    """
    path = find_local_file(str(path))
    start = path.open("rb").read(512)
    if start.startswith(b"PK\x03\x04"):
        check_archive(path)
    elif start[8:9] == b"{":
        return read_safetensors(path)
    elif not start.startswith(TORCH_LEGACY):
        raise InputError(f"{path} {describe_other_content(start)}")
    return read_torch(path)


def find_local_file(path: str) -> Path:
    """Returns the file at `path`, downloaded if it is a URL.

    Raises:
        InputError: it doesn't exist, is empty, or isn't a single file.
    """
    if "://" in path:
        try:
            from detectron2.utils.file_io import PathManager  # files on the disk are read without Detectron2

            path = PathManager.get_local_path(path)
        except Exception as error:  # each kind of URL has its own errors
            raise InputError(f"{path} can't be downloaded ({shorten_error(error)}): download it yourself") from error
    file = Path(path).expanduser()
    try:
        folder = file if file.is_dir() else file.parent
        if (file == folder or file.suffix == ".distcp" or file.name == ".metadata") and any(folder.glob("*.distcp")):
            raise InputError(
                f"{file} is a distributed checkpoint: make one file of it with dcp_to_torch_save('{folder}', "
                "'weights.pth') of torch.distributed.checkpoint.format_utils, and name that"
            )
        if file.is_dir():
            weights = sorted(f.name for f in file.iterdir() if f.suffix in (".pth", ".pt", ".safetensors"))
            example = f", such as {file / weights[-1]}" if weights else ""
            raise InputError(f"{file} is a folder: name a file of weights{example}")
        if file.stat().st_size == 0:
            raise InputError(f"{file} is empty, as an interrupted download leaves it: fetch it again")
        file.open("rb").close()
    except OSError as error:
        raise InputError(f"{file} can't be opened ({error.strerror}): check the path") from error
    return file


def describe_other_content(start: bytes) -> str:
    """Describes a file that doesn't begin as a file of weights does, and says what to do."""
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights it points to: run git lfs pull in its repository"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights: download it in a browser (Google Drive asks before it sends large files)"
    if start.startswith(b"\x80"):
        return (
            "is a plain pickle, as Detectron2's .pkl files are, which may run code when it is opened, so it was not "
            f"opened: {RESAVE} with torch.save"
        )
    if is_text(start):
        return "is a text file, not weights: name a .pth, .pt or .safetensors file"
    return "is not a file of weights, or its beginning is damaged: fetch it again, or name another"


def is_text(start: bytes) -> bool:
    """Whether a file that begins with `start` is text in UTF-8."""
    try:
        start[:-3].decode()  # the last character may be incomplete
    except UnicodeDecodeError:
        return False
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", start)


def check_archive(path: Path) -> None:
    """Checks that a zip archive is one of torch.save's and complete: torch ignores checksums.

    torch.save compresses nothing: an archive that would unpack to more than its own size is refused, and not unpacked.

    Raises:
        InputError: it isn't.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(entry.file_size for entry in archive.infolist())
            damaged = find_damaged_entry(archive) if unpacked <= size else None
    except Exception as error:  # a damaged archive raises nearly anything
        raise InputError(f"{path} is cut off or damaged ({shorten_error(error)}): fetch it again") from error
    if unpacked > size:
        raise InputError(
            f"{path} has {size:,} bytes, which would unpack to {unpacked:,}, so it was not opened: {RESAVE} with "
            "torch.save"
        )
    if damaged:
        raise InputError(f"{path} is damaged (at {damaged}): fetch it again")
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(f"{path} is a TorchScript program, not weights alone: name the checkpoint it was made from")
    if not any(name.endswith("/data.pkl") for name in names):
        raise InputError(f"{path} is a zip archive without weights: unpack it, and name the file of weights inside")


def find_damaged_entry(archive: zipfile.ZipFile) -> str | None:
    """Finds the first entry with a wrong checksum, or marked as a folder, whose tensor torch would take for empty."""
    entries = archive.infolist()
    folder = next((entry.filename for entry in entries if entry.external_attr & 0x10 and not entry.is_dir()), None)
    checked = any(entry.CRC for entry in entries)  # torch can be set to write no checksums
    return folder or (archive.testzip() if checked else None)


def read_torch(path: Path) -> dict[str, Any]:
    """Reads a file of torch.save's.

    Raises:
        InputError: it can't be read, or isn't a dictionary of plain tensors.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path} {describe_refusal(str(error))}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors: name another file")
    check_tensors(content, path)
    return content


def check_tensors(content: dict[str, Any], path: Path) -> None:
    """Checks that tensors are plain numbers that are stored in the file.

    A few bytes can describe a tensor of any size, all of whose numbers are one, or none.

    Raises:
        InputError: one isn't.
    """
    size = path.stat().st_size
    for name, tensor in iterate_tensors(content):
        if type(tensor).__module__.startswith("torch.distributed"):  # a DTensor
            raise InputError(f"{path} {DISTRIBUTED}")
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        plain = plain and not (tensor.is_quantized or tensor.is_nested or tensor.is_complex())
        if not plain or tensor.numel() * tensor.element_size() > size:
            problem = "larger than the file" if plain else "no plain tensor"
            raise InputError(f"{path} holds {name!r}, {problem}: {RESAVE}, each as tensor.contiguous()")


def check_finite(content: dict[str, Any], path: str | Path) -> None:
    """Checks that no number is NaN or infinite, since training can't continue from it.

    Raises:
        InputError: one is.
    """
    for name, tensor in iterate_tensors(content):
        if tensor.is_floating_point() and not tensor.float().isfinite().all():  # in float32, as in training
            raise InputError(f"{path} holds numbers that are not finite, in {name!r}: take an earlier checkpoint")


def iterate_tensors(content: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields all tensors in dicts, lists and tuples, each once, with a name."""
    waiting, seen = [(name, content)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else str(key), inner) for key, inner in items]


def describe_refusal(message: str) -> str:
    """Describes why torch.load failed with `message`."""
    if "torch.distributed" in message:
        return DISTRIBUTED
    wanted = re.search(r"GLOBAL ([\w.]+)", message) or re.search(r"Unsupported (?:class|global) ([\w.]+)", message)
    if wanted is None:
        return f"is cut off or damaged ({shorten_error(message)}): fetch it again"
    if wanted[1].split(".")[0] == "numpy":
        return (
            f"holds NumPy values ({wanted[1]}) among its tensors, which can't be read safely: {RESAVE}, numbers as "
            "Python's own, float(x) or x.item()"
        )
    return f"asks to run {wanted[1]} when it is opened, so it was refused and nothing ran: {RESAVE}"


def read_safetensors(path: Path) -> dict[str, Any]:
    """Reads the tensors of a .safetensors file under "model", and its metadata.

    Raises:
        InputError: it can't be read.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return metadata | {"model": load_file(path)}
    except Exception as error:  # safetensors has its own kinds
        raise InputError(f"{path} is cut off or damaged ({shorten_error(error)}): fetch it again") from error
