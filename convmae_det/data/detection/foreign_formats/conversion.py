"""From what a reader gives to the content of files in COCO's format, one for each split."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ....errors import InputError
from ...image import Decoding, read_size
from ..outlines import compute_area
from .account import Account
from .cvat import read_cvat
from .darknet import read_darknet
from .datumaro import read_datumaro
from .label_studio import read_label_studio
from .labelme import read_labelme
from .mask_files import read_masks
from .naming import check_distinct
from .objects import DataSet, Labelled, LabelledImage
from .openimages import read_openimages
from .reading import report_file
from .source import Source, is_tail
from .splitting import TRAIN, VAL, split_images
from .via import read_via
from .voc import read_voc
from .yolo import read_yolo

# Of the image's sides, at least a pixel: a box that goes further beyond them is for another image, or not relative.
TOLERANCE = 0.02

ORDER = ("", TRAIN, VAL, "test")  # of splits

READERS: dict[str, Callable[[Source, Account], DataSet]] = {
    "yolo": read_yolo,
    "darknet": read_darknet,
    "voc": read_voc,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "label-studio": read_label_studio,
    "via": read_via,
    "openimages": read_openimages,
    "datumaro": read_datumaro,
    "masks": read_masks,
}


class Conversion(NamedTuple):
    """The result of a conversion.

    Attributes:
        contents: of a file in COCO's format for each split; the only one's name is "" where there are none
        root: folder of the images
        account: what was left out
    """

    contents: dict[str, dict]
    root: Path
    account: Account


def convert(
    source: Source,
    name: str,
    *,
    categories: Sequence[str] | None = None,
    chosen: Path | None = None,
    share: float | None = None,
    seed: int = 0,
) -> Conversion:
    """Converts annotations to COCO's format; the images stay where they are.

    Args:
        source: the data set
        name: of its format, a key of READERS
        categories: names in the order of their ids; None: as the format has them, or those that occur, in alphabetical
            order
        chosen: a text file: only the images named there, one a line
        share: of the images that become the split "train", the others being "val", with classes in the same proportions
            as far as possible; None: the format's own splits
        seed: of the choice of these

    Returns:
        The contents, in which images, annotations and categories have ids from 1.

    Raises:
        InputError: something is missing, can't be read or can't be meant, or there is no object at all.
    """
    account = Account()
    data = READERS[name](source, account)
    images = _select(_check_distinct(list(data.images), share is not None, account), chosen, data.root)
    objects = _list_objects(images, data.form, source.decoding)
    names = _name_classes(data, categories, objects)
    named_in = "--categories" if categories else data.named_in
    content = _build_content(images, objects, data.root, names, named_in, account)
    unnamed = sorted(set(data.available) - {image.path for image in images}) if not chosen else []
    account.leave_out(
        f"images in {data.root}, for which there are no annotations", unnamed[0].name if unnamed else "", len(unnamed)
    )
    if not content["annotations"]:
        raise InputError(_describe_emptiness(source, len(images), data.root, account))
    splits = [image.split for image in images]
    if share is not None:
        splits = _split(content, share, seed, splits, account)
    return Conversion(_divide(content, splits), data.root, account)


def _check_distinct(images: list[LabelledImage], joined: bool, account: Account) -> list[LabelledImage]:
    """Checks that no image comes twice, except in several splits of the format, of which the first stays if joined.

    Raises:
        InputError: one does.
    """
    first: dict[tuple[Path, str], LabelledImage] = {}
    for image in images:
        other = first.setdefault((image.path, image.split), image)
        if other is not image:
            raise InputError(
                f"{image.label_file} and an earlier entry, of {other.label_file}, both label {image.path.name}: remove "
                "one"
            )
    if not joined:
        return images
    distinct = {image.path: image for image in reversed(images)}
    example = images[-1].path.name if images else ""
    account.leave_out("copies of images that are in several splits of the format", example, len(images) - len(distinct))
    return [image for image in images if distinct[image.path] is image]


def _select(images: list[LabelledImage], chosen: Path | None, root: Path) -> list[LabelledImage]:
    """Selects the images that a list names, with or without folders, endings and, as Pascal VOC does, more on the line.

    Raises:
        InputError: one isn't there, or could be several; or the list can't be read.
    """
    if not chosen:
        return images
    try:
        lines = [line.strip() for line in chosen.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--list {chosen} can't be read ({error}): name a text file") from error
    by_name: dict[str, set[Path]] = {}
    for image in images:
        for name in (image.path.name, image.path.stem):
            by_name.setdefault(name, set()).add(image.path)
    wanted = set()
    for line in lines:
        found = _find_listed(line, by_name, root)
        if len(found) > 1:
            both = " and ".join(sorted(path.relative_to(root).as_posix() for path in found)[:2])
            raise InputError(f"--list {chosen} names {line}, which could be {both} in {root}: write its folder, too")
        if not found:
            raise InputError(f"--list {chosen} names {line}, which is not in {root}")
        wanted |= found
    if not wanted:
        raise InputError(f"--list {chosen} names nothing, which is not in {root}")
    return [image for image in images if image.path in wanted]


def _find_listed(line: str, by_name: Mapping[str, set[Path]], root: Path) -> set[Path]:
    """Finds the images that a line of a list can mean."""
    for text in (line, line.split()[0]):
        written = PureWindowsPath(text)
        folders = [part for part in written.parts[:-1] if part not in ("..", written.anchor)]
        for name in (written.name, written.stem):
            found = {path for path in by_name.get(name, ()) if is_tail(path.relative_to(root), [*folders, name])}
            if found:
                return found
    return set()


def _list_objects(
    images: Sequence[LabelledImage], form: str, decoding: Decoding
) -> list[tuple[tuple[int, int], list[Labelled]]]:
    """Lists width and height of each image, and its objects.

    Raises:
        InputError: an image can't be read, has another size than its labels say, or these can't be meant.
    """
    listed = []
    for image in tqdm(images, desc="Reading", unit="image", disable=None):
        height, width = read_size(image.path, decoding)  # rotated, as in training
        if image.stated and image.stated != (width, height):
            turned = ", or, for it may be turned, use --ignore-exif" if image.stated == (height, width) else ""
            columns, rows = image.stated
            raise InputError(
                f"{image.label_file} labels {image.path.name} as an image of {columns}×{rows} pixels, "
                f"but it has {width}×{height}: put the image there that was annotated{turned}"
            )
        with report_file(image.label_file, form):
            objects = image.list_objects(width, height)
        listed.append(((width, height), objects))
    return listed


def _describe_emptiness(source: Source, count: int, root: Path, account: Account) -> str:
    left_out = "".join(f"; {line.rstrip('.')}" for line in account.describe())
    return (
        f"{source.annotations} holds no object for the {count} images of {root}, so there is nothing to convert: name "
        f"their annotations, and their folder by --images{left_out}"
    )


def _name_classes(
    data: DataSet, categories: Sequence[str] | None, objects: Iterable[tuple[object, list[Labelled]]]
) -> list[str]:
    """Names the classes, in the order of their ids.

    Raises:
        InputError: a name comes twice.
    """
    names = list(categories or data.classes or sorted({found.label for _, listed in objects for found in listed}))
    check_distinct(names, "--categories" if categories else data.named_in)
    return names


def _build_content(
    images: Sequence[LabelledImage],
    objects: Sequence[tuple[tuple[int, int], list[Labelled]]],
    root: Path,
    names: Sequence[str],
    named_in: str,
    account: Account,
) -> dict:
    """Builds the content of a file in COCO's format of all images.

    Raises:
        InputError: an object of no class, or outside its image.
    """
    numbers = {name: number for number, name in enumerate(names, 1)}
    entries, annotations = [], []
    for number, (image, ((width, height), listed)) in enumerate(zip(images, objects, strict=True), 1):
        name = image.path.relative_to(root).as_posix()
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        for found in listed:
            if found.label not in numbers:
                raise InputError(
                    f"{image.label_file} has an object '{found.label}', which {named_in} doesn't name: add it"
                )
            place = _describe_place(found, width, height, image.label_file)
            if not all(place["bbox"][2:]):
                account.leave_out("objects without an area", image.label_file.name)
                continue
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[found.label]}
            annotations.append(ids | place)
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _describe_place(found: Labelled, width: int, height: int, label_file: Path) -> dict:
    """Describes an object's box, area and outline in an image of this size."""
    box, size = found.box, (width, height)
    reach = np.maximum(np.multiply(size, TOLERANCE), 1)
    if (box < -reach.max()).any() or (box.reshape(2, 2) > size + reach).any():
        where = f" ({found.place})" if found.place else ""
        raise InputError(
            f"{label_file} has an object from x, y = {box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f} pixels, "
            f"outside its image of {width}×{height}{where}: correct the label, or put the right image there"
        )
    x0, y0, x1, y1 = np.clip(box.reshape(2, 2), 0, size).flatten().round(2).tolist()
    place: dict = {"bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "iscrowd": int(found.crowd)}
    if found.mask:
        place["segmentation"] = found.mask
    elif found.polygons:
        place["segmentation"] = [np.clip(part, 0, size).flatten().round(2).tolist() for part in found.polygons]
    return place | {"area": compute_area(place, height, width)}


def _split(content: dict, share: float, seed: int, earlier: Sequence[str], account: Account) -> list[str]:
    """Chooses a split for each image, whatever it belonged to before."""
    account.note(
        "images of the format's own splits were split anew", next(filter(None, earlier), ""), sum(map(bool, earlier))
    )
    classes: dict[int, set[int]] = {image["id"]: set() for image in content["images"]}
    for annotation in content["annotations"]:
        classes[annotation["image_id"]].add(annotation["category_id"])
    is_train = split_images(list(classes.values()), share, seed)
    return [TRAIN if chosen else VAL for chosen in is_train]


def _divide(content: dict, splits: Sequence[str]) -> dict[str, dict]:
    """Divides the content by split; every part has all categories."""
    names = sorted(dict.fromkeys(splits), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    if len(names) == 1:
        return {names[0]: content}
    owner = {image["id"]: split for image, split in zip(content["images"], splits, strict=True)}
    return {
        name: {
            "images": [image for image in content["images"] if owner[image["id"]] == name],
            "annotations": [entry for entry in content["annotations"] if owner[entry["image_id"]] == name],
            "categories": content["categories"],
        }
        for name in names
    }
