"""In which precision a network runs: one decision for training, evaluation, prediction and the tools.

Mixed precision is autocast's. It is worth having where device and processor have instructions for the narrow type;
elsewhere that is emulated, and slower than float32.
"""

import logging
import platform
from typing import NamedTuple

import torch
from torch import nn
from yacs.config import CfgNode

from .errors import InputError

logger = logging.getLogger(__name__)

AMP_DTYPES = ("auto", "bfloat16", "float16")  # of SOLVER.AMP.DTYPE
DTYPES = ("auto", "float32", "bfloat16", "float16")
TRAINED = "trained"  # beside DTYPES, for TEST.PRECISION
X86_BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert")  # instructions, as torch.cpu.get_capabilities calls them

# Layers of Detectron2 after which numbers are read, no longer fed to a network: features that boxes are pooled from,
# and the last layers of its heads.
READ = [
    "backbone",
    "objectness_logits",
    "anchor_deltas",
    "cls_score",
    "bbox_pred",
    "ctrness",
    "predictor",
    "score_lowres",
]


class Precision(NamedTuple):
    dtype: torch.dtype | None  # of autocast; None: float32 throughout
    reason: str
    cost: str = ""  # of a type that is emulated, and what to set instead; a sentence

    def __str__(self) -> str:
        """Such as "bfloat16, which NVIDIA H100 has (SOLVER.AMP.DTYPE auto)"."""
        return f"{name_of(self.dtype)}, {self.reason}"


def training_precision(cfg: CfgNode) -> Precision:
    """What SOLVER.AMP comes to on MODEL.DEVICE; float16 needs loss scaling. Raises InputError: see choose_precision."""
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return Precision(None, "for SOLVER.AMP.ENABLED is False")
    return choose_precision(amp.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE", AMP_DTYPES)


def evaluation_precision(cfg: CfgNode) -> Precision:
    """What TEST.PRECISION comes to on MODEL.DEVICE.

    "trained" is what SOLVER.AMP decides there, but never emulated: a type that the machine of training had, and this
    one lacks, is nothing to insist on.

    Raises:
        InputError: see choose_precision.
    """
    name, amp, device = cfg.TEST.PRECISION, cfg.SOLVER.AMP, cfg.MODEL.DEVICE
    if name != TRAINED:
        return choose_precision(name, device, "TEST.PRECISION", (TRAINED, *DTYPES))
    if amp.ENABLED and is_emulated(amp.DTYPE, device):
        return best_precision(device)
    return training_precision(cfg)


def choose_precision(name: str, device: str, key: str, names: tuple[str, ...] = DTYPES) -> Precision:
    """The precision that `name` stands for on `device` (cpu, cuda or cuda:N).

    `key`: what the user has set to `name`, and may set to `names`. Raises InputError: another name, or float16 without
    a GPU.
    """
    check_name(name, key, names)
    require_gpu(name, device, key)
    if name == "auto":
        best = best_precision(device)
        return best._replace(reason=f"{best.reason} ({key} auto)")
    cost = ""
    if is_emulated(name, device):
        cost = (
            f"{key} {name} is emulated, for {describe(device)} has no instructions for it: a pass takes longer than in "
            "float32, a processor's convolutions up to 20 times as long. Set it to auto, which takes "
            f"{name_of(best_precision(device).dtype)} here"
        )
    return Precision(None if name == "float32" else getattr(torch, name), f"as {key} says", cost)


def check_name(name: str, key: str, names: tuple[str, ...]) -> None:
    """Raises InputError for a `name`, to which `key` is set, that is none of `names`."""
    if name not in names:
        raise InputError(f"{key} is {name!r}; it must be one of {', '.join(names)}")


def require_gpu(name: str, device: str, key: str) -> None:
    """Raises InputError for float16 without a GPU, to which `key` is set."""
    if name == "float16" and not is_gpu(device):
        raise InputError(f"{key} float16 needs a GPU, but the device is {device}; use auto")


def best_precision(device: str) -> Precision:
    """bfloat16 or else, on a GPU, float16, if `device` has instructions for it; never anything emulated."""
    if has_bfloat16(device):
        return Precision(torch.bfloat16, f"which {describe(device)} has")
    reason = f"for {describe(device)} has no bfloat16 instructions"
    return Precision(torch.float16 if is_gpu(device) else None, reason)


def is_emulated(name: str, device: str) -> bool:
    """Whether `device` has no instructions for the type `name`."""
    return (name == "bfloat16" and not has_bfloat16(device)) or (name == "float16" and not is_gpu(device))


def has_bfloat16(device: str) -> bool:
    """Whether a GPU, or this processor with PyTorch's oneDNN, has instructions for bfloat16."""
    if is_gpu(device):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor_has_bfloat16()


def processor_has_bfloat16() -> bool:
    """Whether the processor itself computes in bfloat16.

    On x86 oneDNN says that it has bfloat16 from AVX-512 on, and emulates it where that is all there is. On ARM its
    answer is that of the processor.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in X86_BFLOAT16)
    return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # older than get_capabilities


def is_gpu(device: str) -> bool:
    return device.startswith("cuda")


def describe(device: str) -> str:
    return torch.cuda.get_device_name(device) if is_gpu(device) else "this processor"


def name_of(dtype: torch.dtype | None) -> str:
    return str(dtype or torch.float32).removeprefix("torch.")


def announce(precision: Precision, what: str = "Precision") -> None:
    """The line that says in which precision a run is, and a warning of what it costs if it is emulated."""
    logger.info(f"{what}: {precision}")
    if precision.cost:
        logger.warning(precision.cost)


def autocast(device: str | torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """A context of mixed precision; for None, none."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None)


def read_in_float32(model: nn.Module) -> None:
    """From now on the layers READ of a detector give float32 under autocast, too.

    Detectron2 takes on the type of what it reads: eight bits don't rank scores, nor say where a box or mask lies among
    a thousand pixels.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in READ:
            module.register_forward_hook(_in_float32)


def _in_float32(
    module: nn.Module, inputs: tuple, output: torch.Tensor | dict[str, torch.Tensor]
) -> torch.Tensor | dict[str, torch.Tensor]:
    return {name: _widened(x) for name, x in output.items()} if isinstance(output, dict) else _widened(output)


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # nothing in a float32 network's trace
