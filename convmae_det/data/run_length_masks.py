"""The masks of an image's objects as runs: their memory grows with outlines, not with objects times pixels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .runs import Runs
from .tiles import Tile


class RunLengthMasks:
    """Masks of n objects in an image of H×W pixels, in `pred_masks` of Detectron2's Instances.

    A number selects a mask, (H, W) bool; a slice, numbers or a tensor (n) bool select RunLengthMasks. For everything
    else it passes as the tensor (n, H, W) bool that it stands for: attributes, operators and functions of torch and
    NumPy draw that tensor, which then needs its n·H·W bytes.

    Attributes:
        runs: of each object
        image_size: (H, W)
    """

    dtype, device, ndim = torch.bool, torch.device("cpu"), 3

    def __init__(self, runs: Sequence[Runs], size: tuple[int, int]):
        self.runs, self.image_size = list(runs), (int(size[0]), int(size[1]))

    @classmethod
    def from_masks(cls, masks: Any, size: tuple[int, int]) -> "RunLengthMasks":
        """Reads masks, (n, H, W) bool; those that are runs already stay as they are."""
        if isinstance(masks, cls):
            return masks
        return cls([Runs.from_mask(torch.as_tensor(mask).bool().cpu().numpy()) for mask in masks], size)

    @classmethod
    def from_coco(cls, masks: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> "RunLengthMasks":
        """Reads COCO's run lengths, compressed or not."""
        return cls([Runs.from_coco(dict(mask)) for mask in masks], size)

    @classmethod
    def cat(cls, parts: Sequence["RunLengthMasks"]) -> "RunLengthMasks":
        """Joins the masks of several parts of the objects of one image."""
        return cls([runs for part in parts for runs in part.runs], parts[0].image_size)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.image_size))

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return RunLengthMasks(self.runs[item], self.image_size)
        if item is None or item is Ellipsis or isinstance(item, tuple):
            return self.to_tensor()[item]
        chosen = torch.as_tensor(item, device="cpu")
        if chosen.ndim == 0 and chosen.dtype != torch.bool:
            return torch.from_numpy(self.runs[int(chosen)].to_mask(Tile(0, 0, *self.image_size)))
        if chosen.ndim != 1:
            return self.to_tensor()[chosen]
        numbers = torch.arange(len(self))[chosen if len(chosen) else chosen.long()]
        return RunLengthMasks([self.runs[number] for number in numbers.tolist()], self.image_size)

    def crop(self, number: int) -> tuple[np.ndarray, int, int]:
        """Draws the part of a mask that holds all its pixels: (h, w) bool, and the rows above and columns before it."""
        extent = self.runs[number].find_extent()
        return self.runs[number].to_mask(extent), extent.top, extent.left

    def to(self, *args: Any, **options: Any) -> Any:
        """Returns itself, for it is on no device; as another type than bool the tensor."""
        if any(isinstance(value, torch.dtype) for value in (*args, *options.values())):
            return self.to_tensor().to(*args, **options)
        return self

    def clone(self) -> "RunLengthMasks":
        return RunLengthMasks(self.runs, self.image_size)

    def resize(self, size: tuple[int, int]) -> "RunLengthMasks":
        """Resizes the masks with their image, to (height, width), by the nearest pixel."""
        return RunLengthMasks([runs.resize(self.image_size, size) for runs in self.runs], size)

    def to_coco(self) -> list[dict[str, Any]]:
        """Converts them to COCO's compressed run lengths."""
        return [runs.to_coco(*self.image_size) for runs in self.runs]

    def to_tensor(self) -> torch.Tensor:
        """Draws all masks, (n, H, W) bool."""
        masks = torch.zeros(self.shape, dtype=torch.bool)
        for number, mask in enumerate(masks):
            part, top, left = self.crop(number)
            mask[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
        return masks

    def __repr__(self) -> str:
        return f"RunLengthMasks({len(self)} of {self.image_size[1]}×{self.image_size[0]} pixels)"

    # As the tensor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(torch.Tensor, name):  # asked for by copy, pickle and notebooks
            raise AttributeError(f"neither RunLengthMasks nor tensors have an attribute {name!r}")
        return getattr(self.to_tensor(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Sequence = (), options: Any = None) -> Any:
        def draw(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)([draw(part) for part in value])
            return draw_masks(value)

        return function(*draw(tuple(arguments)), **{name: draw(value) for name, value in (options or {}).items()})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.to_tensor().numpy().astype(dtype or bool, copy=False)

    __hash__ = object.__hash__

    def __invert__(self) -> Any:
        return ~self.to_tensor()


def _apply_to_tensor(name: str) -> Any:
    def operate(masks: RunLengthMasks, other: Any) -> Any:
        return getattr(masks.to_tensor(), name)(draw_masks(other))

    return operate


def draw_masks(value: Any) -> Any:
    """Draws masks that are runs as a tensor; anything else stays."""
    return value.to_tensor() if isinstance(value, RunLengthMasks) else value


COMPARISONS, OPERATIONS = ("eq", "ne", "lt", "le", "gt", "ge"), ("add", "sub", "mul", "truediv", "and", "or", "xor")
for _name in (*COMPARISONS, *OPERATIONS, *(f"r{name}" for name in OPERATIONS)):  # r: with the masks on the right
    setattr(RunLengthMasks, f"__{_name}__", _apply_to_tensor(f"__{_name}__"))
