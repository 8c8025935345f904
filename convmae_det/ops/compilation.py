"""torch.compile, applied to a finished model."""

from torch import nn


def compile_modules(model: nn.Module, kinds: type | tuple[type, ...]) -> None:
    """Compiles every module of `kinds` in the model; the names of its weights stay."""
    for module in model.modules():
        if isinstance(module, kinds):
            module.compile()
