"""Folders of masks: image files that have a value or a colour for each object, or a file for each object.

Four layouts are told apart by the names of images: STEM.png, and CLASS/STEM.png, with all objects of an image;
STEM/CLASS_1.png and STEM_CLASS_1.png with one.
"""

import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ....errors import InputError
from ...image import report_errors
from .account import Account
from .objects import DataSet, Labelled, LabelledImage, make_mask
from .reading import report_file
from .source import Source, check_folder, check_stems, list_images

FORM = "a mask with a value or a colour for each object"
SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
LOSSY = (".jpg", ".jpeg", ".webp")
VOID = 255  # in a palette, beside other values: what belongs to no object
MANY = 64  # more values than this may be those of a photograph
NUMBER = re.compile(r"[ _.-]*\d+$")
NO_CLASS = re.compile(r"(mask|masks|[0-9a-f]{16,})?")  # names of files of one object that name no class


def read_masks(source: Source, account: Account) -> DataSet:
    """Reads a data set whose objects are masks.

    Args:
        source: `annotations` is the folder of masks, `images` another, or the folder "images" beside it; `category` the
            class of objects where files and folders name none
        account: of masks without an image, and of smoothed edges

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    masks, root = _find_folders(source)
    inside = Path(os.path.abspath(masks))
    paths = [path for path in list_images(root) if inside not in Path(os.path.abspath(path)).parents]
    check_stems(paths, root, ".png")
    stems = {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}
    files: dict[Path, list[tuple[Path, str]]] = {path: [] for path in paths}
    for mask in list_images(masks):
        if mask.suffix.lower() in LOSSY:
            raise InputError(f"{mask} is no mask, for its format changes values: save masks as PNG")
        if mask.suffix.lower() not in SUFFIXES or not (
            found := _assign(mask.relative_to(masks), stems, source.category)
        ):
            account.leave_out("masks, for which there is no image of that name", mask.name)
        else:
            files[stems[found[0]]].append((mask, found[1]))
    empty = [path.name for path, found in files.items() if not found]
    account.note("images without a mask are taken as images without objects", empty[0] if empty else "", len(empty))
    images = [
        LabelledImage(path, masks, functools.partial(_list_objects, found, account)) for path, found in files.items()
    ]
    return DataSet(images, root, FORM)


def _find_folders(source: Source) -> tuple[Path, Path]:
    """Finds the folders of masks and of images.

    Raises:
        InputError: they are not there, or the same.
    """
    check_folder(source.annotations)
    inner = source.annotations / "masks"
    masks = inner if inner.is_dir() and not source.images else source.annotations
    root = source.images or masks.parent / "images"
    if not root.is_dir() and not source.images:
        raise InputError(f"{masks} holds masks: name the folder of their images by --images")
    check_folder(root)
    if masks.resolve() == root.resolve():
        raise InputError(f"{masks} is the folder of masks as of images: put the masks into a folder of their own")
    return masks, root


def _assign(mask: Path, stems: dict[str, Path], category: str) -> tuple[str, str] | None:
    """Finds the image that a mask belongs to, by its stem, and the class; None if there is no image of that name.

    Raises:
        InputError: it could be meant in two ways.
    """
    name, folder = mask.with_suffix("").as_posix(), mask.parent.as_posix()
    if name in stems:
        return name, category
    found = []
    if folder in stems:
        found.append((folder, _find_class(mask.stem, category)))
    first, _, rest = name.partition("/")
    if rest in stems:
        found.append((rest, first))
    if len(found) > 1:
        raise InputError(
            f"the mask {mask} could be of {found[0][0]} or of {found[1][0]}: rename the image {found[0][0]}"
        )
    if found:
        return found[0]
    for match in reversed(list(re.finditer(r"[ _.-]", name))):  # the longest stem
        if name[: match.start()] in stems:
            return name[: match.start()], _find_class(name[match.end() :], category)
    return None


def _find_class(name: str, category: str) -> str:
    """Finds the class in the name of a file of one object, such as cat_1; `category` if there is none."""
    rest = NUMBER.sub("", name) if not name.isdigit() else ""
    return category if NO_CLASS.fullmatch(rest.lower()) or NO_CLASS.fullmatch(name.lower()) else rest


def _list_objects(files: Sequence[tuple[Path, str]], account: Account, width: int, height: int) -> list[Labelled]:
    objects = []
    for path, label in files:
        with report_errors(path), Image.open(path) as image:
            values = _read_values(image)
            is_palette = image.mode == "P"
        with report_file(path, FORM):
            if values.shape != (height, width):
                raise ValueError(f"it is {values.shape[1]}×{values.shape[0]} pixels, but its image {width}×{height}")
            for pixels in _split_values(values, path, is_palette, account):
                found = make_mask(label, pixels, (0, 0), (width, height), path.name)
                objects += [found] if found else []
    return objects


def _read_values(image: Image.Image) -> np.ndarray:
    """Reads a number for each pixel, or 65536 red + 256 green + blue of colours; 0 is the background: (H, W)."""
    if image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16"):
        return np.array(image).astype(np.int64)
    if image.mode not in ("RGB", "RGBA", "LA", "PA"):
        raise ValueError(f"its pixels, of the mode {image.mode}, are neither numbers nor colours")
    pixels = np.array(image.convert("RGBA")).astype(np.int64)
    if (pixels[..., :3] == pixels[..., :1]).all():  # grey
        return np.where(pixels[..., 3] > 0, pixels[..., 0], 0)
    colours = pixels[..., 0] * 65536 + pixels[..., 1] * 256 + pixels[..., 2]
    return np.where(pixels[..., 3] > 0, colours, 0)


def _split_values(values: np.ndarray, path: Path, is_palette: bool, account: Account) -> Iterator[np.ndarray]:
    """Splits the pixels of a mask by their values: (H, W) bool of each object."""
    found = np.unique(values[values != 0])
    if is_palette and len(found) > 1 and found[-1] == VOID:
        account.note("masks have a palette, whose value 255 is taken for no object", path.name)
        found = found[:-1]
    steps = np.diff(found)
    if not is_palette and len(found) > 2 and found[-1] == 255 and np.ptp(steps) > 1:
        account.note("masks have smoothed edges, which were cut at the half", path.name)
        yield values > 127
        return
    if len(found) > MANY and _is_photograph(values):
        raise ValueError(
            f"it has {len(found)} values or colours, most pixels another than their neighbour, as a photograph"
        )
    for value in found:
        yield values == value


def _is_photograph(values: np.ndarray) -> bool:
    """Whether most pixels that are not background differ from the next in their row."""
    here, following = values[:, :-1], values[:, 1:]
    objects = (here != 0) | (following != 0)
    return bool(np.count_nonzero((here != following) & objects) > np.count_nonzero(objects) / 2)
