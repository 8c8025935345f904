"""Which precision a network runs in: one decision for training, evaluation, prediction and the tools.

Mixed precision means torch.autocast. It pays off where the device has instructions for the narrow type; elsewhere the
type is emulated, which is slower than float32.
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

# Layers of Detectron2 whose outputs are final numbers, not inputs of a network: features that boxes are pooled from,
# and the last layers of its heads.
FLOAT32_LAYERS = [
    "backbone",
    "objectness_logits",
    "anchor_deltas",
    "cls_score",
    "conv_seg",
    "bbox_pred",
    "ctrness",
    "predictor",
    "score_lowres",
]


class Precision(NamedTuple):
    """A data type for autocast, and why it was chosen."""

    dtype: torch.dtype | None  # of autocast; None: float32 throughout
    reason: str
    cost: str = ""  # a sentence if the type is emulated: what that costs, and what to set instead

    def __str__(self) -> str:
        """Returns text such as "bfloat16, which NVIDIA H100 has (SOLVER.AMP.DTYPE auto)"."""
        return f"{format_dtype(self.dtype)}, {self.reason}"


def choose_training_precision(cfg: CfgNode) -> Precision:
    """Chooses what SOLVER.AMP means on MODEL.DEVICE; float16 needs loss scaling.

    Raises:
        InputError: see :func:`choose_precision`.
    """
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return Precision(None, "because SOLVER.AMP.ENABLED is False")
    return choose_precision(amp.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE", AMP_DTYPES)


def choose_evaluation_precision(cfg: CfgNode) -> Precision:
    """Chooses what TEST.PRECISION means on MODEL.DEVICE.

    "trained" means what SOLVER.AMP chooses there, but never an emulated type: the machine of training may have had a
    type that this one lacks.

    Raises:
        InputError: see :func:`choose_precision`.
    """
    name, amp, device = cfg.TEST.PRECISION, cfg.SOLVER.AMP, cfg.MODEL.DEVICE
    if name != TRAINED:
        return choose_precision(name, device, "TEST.PRECISION", (TRAINED, *DTYPES))
    if amp.ENABLED and is_emulated(amp.DTYPE, device):
        return find_best_precision(device)
    return choose_training_precision(cfg)


def choose_precision(name: str, device: str, key: str, names: tuple[str, ...] = DTYPES) -> Precision:
    """Chooses the precision that `name` stands for on `device`.

    Args:
        name: one of `names`
        device: cpu, cuda or cuda:N
        key: the configuration key or option that the user has set to `name`
        names: the values that `key` may have

    Raises:
        InputError: another name, or float16 without a GPU.
    """
    if name not in names:
        raise InputError(f"{key} is {name!r}; it must be one of {', '.join(names)}")
    require_gpu(name, device, key)
    if name == "auto":
        best = find_best_precision(device)
        return best._replace(reason=f"{best.reason} ({key} auto)")
    cost = ""
    if is_emulated(name, device):
        cost = (
            f"{key} {name} is emulated, because {describe_device(device)} has no instructions for it: a pass takes "
            "longer than in float32, a processor's convolutions up to 20 times as long. Set it to auto, which takes "
            f"{format_dtype(find_best_precision(device).dtype)} here"
        )
    return Precision(None if name == "float32" else getattr(torch, name), f"as {key} says", cost)


def require_gpu(name: str, device: str, key: str) -> None:
    """Checks that float16 is only used on a GPU.

    Raises:
        InputError: `name`, the value of `key`, is float16, and `device` is not a GPU.
    """
    if name == "float16" and not is_gpu(device):
        raise InputError(f"{key} float16 needs a GPU, but the device is {device}; use auto")


def find_best_precision(device: str) -> Precision:
    """Returns bfloat16, or float16 on a GPU without it, if `device` has instructions for it; else float32."""
    if has_bfloat16(device):
        return Precision(torch.bfloat16, f"which {describe_device(device)} has")
    reason = f"because {describe_device(device)} has no bfloat16 instructions"
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
    return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # for versions without get_capabilities


def is_gpu(device: str) -> bool:
    return device.startswith("cuda")


def describe_device(device: str) -> str:
    return torch.cuda.get_device_name(device) if is_gpu(device) else "this processor"


def format_dtype(dtype: torch.dtype | None) -> str:
    return str(dtype or torch.float32).removeprefix("torch.")


def log_precision(precision: Precision, what: str = "Precision") -> None:
    """Logs the precision of a run, and a warning if it is emulated."""
    logger.info(f"{what}: {precision}")
    if precision.cost:
        logger.warning(precision.cost)


def autocast(device: str | torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Returns torch's context of mixed precision; it does nothing if `dtype` is None."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None)


def speed_up_float32(device: str, precision: str = "") -> str:
    """Lets a GPU multiply what remains in float32 as TF32: with float32's range, and ten bits of mantissa.

    That is more than mixed precision leaves of what is multiplied, and several times as fast as all 23 bits.

    Args:
        device: what the model is on
        precision: FLOAT32_PRECISION, a name of ``torch.set_float32_matmul_precision``; empty: as said

    Returns:
        Text for a log line: "", or a phrase that says so
    """
    if not is_gpu(device):
        return ""
    torch.set_float32_matmul_precision(precision or "high")
    return f", FLOAT32_PRECISION {precision}" if precision else ", float32 multiplied as TF32"


def keep_outputs_in_float32(model: nn.Module) -> None:
    """Makes FLOAT32_LAYERS of a detector return float32 under autocast, with forward hooks.

    Detectron2 computes with these outputs in the type that they have. The eight bits of bfloat16's mantissa can't rank
    scores, nor locate a box or mask among a thousand pixels.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in FLOAT32_LAYERS:
            module.register_forward_hook(_cast_output)


def _cast_output(
    module: nn.Module, inputs: tuple, output: torch.Tensor | dict[str, torch.Tensor]
) -> torch.Tensor | dict[str, torch.Tensor]:
    return {name: _cast_tensor(x) for name, x in output.items()} if isinstance(output, dict) else _cast_tensor(output)


def _cast_tensor(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # none in a float32 network's trace
