"""Data sets in COCO's panoptic format: those that the configuration names, and Detectron2's own."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ...errors import InputError, shorten_error
from ...files import describe_missing_folder
from ..image import read_size
from .categories import THINGS, read_category_entries
from .coco_format import sort_images
from .entries import Form, choose_entries
from .panoptic_file import find_category_problems, read_panoptic_file, sort_categories
from .segments import describe_objects, find_segment_problems, read_segments
from .variants import unify_categories

KEY = "DATASETS.PANOPTIC"
THREADS = 8  # that decode PNGs
KEPT = 2  # data sets whose segments are kept once they are read: an evaluation reads them several times

ImageFinder = Callable[[], Mapping[str, str]]  # paths of images by the base names of their PNGs


def register_panoptic(
    entries: Iterable[Sequence[str]], *, only: Sequence[str] | None = None, missing_ok: bool = False
) -> None:
    """Registers data sets with Detectron2, with the names of their classes and the ids of their categories.

    Args:
        entries: of name, image folder, JSON and folder of PNGs, as in DATASETS.PANOPTIC
        only: register entries of these names alone; None for all
        missing_ok: ignore entries whose file or folders don't exist

    Raises:
        InputError: an entry of another form, no such file or folder, or a name used twice or by another data set. The
            content of the files is checked when the data set is loaded.
    """
    for name, image_root, json_file, panoptic_root in choose_entries(entries, FORM, only, missing_ok):
        register_panoptic_files(name, image_root, json_file, panoptic_root)


def _find_missing(entry: Sequence[str], image_root: str, json_file: str, panoptic_root: str) -> tuple[str, str] | None:
    """Returns which part of an entry is missing, and how; None if nothing is."""
    if not os.path.isfile(json_file):
        return f"{entry[2]}, the annotation file", "doesn't exist: correct it"
    for path, folder, what in ((entry[1], image_root, "images"), (entry[3], panoptic_root, "PNGs")):
        if problem := describe_missing_folder(folder):
            return f"{path}, the folder of {what}", problem
    return None


FORM = Form(KEY, 4, "[[name, image folder, panoptic.json, folder of PNGs], ...]", "panoptic_format", _find_missing)


def adopt_panoptic(names: Iterable[str]) -> None:
    """Registers data sets of Detectron2's catalog anew that have a panoptic JSON and PNGs.

    Detectron2 knows coco_2017_val_panoptic, for one, without objects, which are in the PNGs. Those whose files don't
    exist stay as they are.
    """
    for name in names:
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        if metadata is None or metadata.get("panoptic_format"):
            continue
        paths = [metadata.get(key) for key in ("image_root", "panoptic_json", "panoptic_root")]
        if all(path and os.path.exists(path) for path in paths):
            says_where = not metadata.get("sem_seg_root")  # else it has two lists, of objects and of masks, merged
            find_images = functools.partial(_list_registered_images, DatasetCatalog[name]) if says_where else None
            register_panoptic_files(name, *map(os.path.abspath, paths), find_images=find_images)


def _list_registered_images(load: Callable[[], Sequence[Mapping]]) -> dict[str, str]:
    """Lists the images of a data set of Detectron2, where it says which PNG each has; Cityscapes' lie in folders."""
    try:
        return {os.path.basename(image["pan_seg_file_name"]): image["file_name"] for image in load()}
    except Exception as error:  # of whatever function is registered
        raise InputError(
            f"A data set of Detectron2 can't be loaded ({shorten_error(error)}): prepare it as its datasets/README "
            "says."
        ) from error


def register_panoptic_files(
    name: str,
    image_root: str,
    json_file: str,
    panoptic_root: str,
    categories: Sequence[Mapping] | None = None,
    find_images: ImageFinder | None = None,
) -> None:
    """Registers a data set. Again costs nothing; one whose paths, or whose JSON, have changed replaces the earlier one.

    Args:
        name: of the data set
        image_root: folder of the images
        json_file: in COCO's panoptic format
        panoptic_root: folder of the PNGs
        categories: its "id", "name" and "isthing"; None for those of the file
        find_images: tells where images are; None: where the file says

    Raises:
        InputError: the file can't be read.
    """
    try:
        state = os.stat(json_file) if categories is None else None
        entries = read_category_entries(json_file) if categories is None else list(categories)
    except OSError as error:
        raise InputError(f"{json_file} can't be read ({error.strerror}): make it readable.") from error
    source = image_root, json_file, panoptic_root, state and (state.st_mtime_ns, state.st_size)
    if name in DatasetCatalog and MetadataCatalog.get(name).get("panoptic_format") == source:
        return
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)  # its attributes can't be changed
    DatasetCatalog.register(name, functools.partial(load_panoptic, json_file, image_root, panoptic_root, find_images))
    metadata = MetadataCatalog.get(name)
    metadata.set(image_root=image_root, panoptic_json=json_file, panoptic_root=panoptic_root, panoptic_format=source)
    metadata.set(evaluator_type="coco_panoptic_seg", ignore_label=255, label_divisor=1000)
    if _are_usable(entries):
        numbers = number_categories(sort_categories(entries))
        metadata.set(**{f"{kind}_dataset_id_to_contiguous_id": numbers[kind] for kind in ("thing", "stuff")})
        names = {category["id"]: category["name"] for category in entries}
        metadata.thing_classes = [names[category] for category in numbers["thing"]]
        metadata.stuff_classes = [THINGS, *(names[category] for category in numbers["stuff"])]


def _are_usable(entries: Any) -> bool:
    """Whether categories, of whatever form, are as they must be; what is wrong is said when the data set is loaded."""
    try:
        unify_categories(entries)
        ids = {category["id"] for category in entries}
        return len(ids) == len(entries) and next(find_category_problems(entries), None) is None
    except (AttributeError, TypeError, LookupError):
        return False


def number_categories(categories: Sequence[Mapping]) -> dict[str, dict[int, int]]:
    """Numbers categories, by rising id: those of things from 0, those of stuff from 1 on.

    Returns:
        Under "thing" and "stuff" the numbers by id
    """
    things = [category["id"] for category in categories if category["isthing"]]
    stuff = [category["id"] for category in categories if not category["isthing"]]
    return {
        "thing": {category: number for number, category in enumerate(things)},
        "stuff": {category: number for number, category in enumerate(stuff, start=1)},
    }


def load_panoptic(json_file: str, image_root: str, panoptic_root: str, find_images: ImageFinder | None) -> list[dict]:
    """Reads and checks a data set with all its PNGs.

    Returns:
        Images in Detectron2's format, with "annotations" of the things, "pan_seg_file_name" and "segments_info" of all
        segments, see :mod:`.segments`

    Raises:
        InputError: the file or a PNG can't be used; or one is missing, or of another size than its image.
    """
    state = os.stat(json_file)
    changed = state.st_mtime_ns, state.st_size
    return list(_load(json_file, image_root, panoptic_root, find_images, changed))


@functools.lru_cache(KEPT)
def _load(
    json_file: str, image_root: str, panoptic_root: str, find_images: ImageFinder | None, changed: tuple
) -> list[dict]:
    content = read_panoptic_file(json_file, image_root)
    numbers = number_categories(content["categories"])
    files = find_images() if find_images else {}
    annotations = {annotation["image_id"]: annotation for annotation in content["annotations"]}

    def describe(image: dict) -> dict:
        annotation = annotations[image["id"]]
        name = os.path.basename(annotation["file_name"])
        return _describe_image(
            image | {"file_name": files.get(name, os.path.join(image_root, image["file_name"]))},
            os.path.join(panoptic_root, annotation["file_name"]),
            [_describe_segment(segment, numbers) for segment in annotation["segments_info"]],
        )

    images = sort_images(content["images"])
    with ThreadPoolExecutor(THREADS) as threads:
        title = f"Reading the segments of {os.path.basename(json_file)}"
        return list(tqdm(threads.map(describe, images), title, len(images), unit="image", delay=1, disable=None))


def _find_size(path: str) -> tuple[int, int] | None:
    """Finds height and width of an image; None if it can't be read as it is, which is said where it is used."""
    try:
        return read_size(path)
    except InputError:
        return None


def _describe_segment(segment: Mapping, numbers: Mapping[str, Mapping[int, int]]) -> dict:
    isthing = segment["category_id"] in numbers["thing"]
    number = numbers["thing" if isthing else "stuff"][segment["category_id"]]
    return {"id": segment["id"], "category_id": number, "isthing": isthing, "iscrowd": segment["iscrowd"]}


def _describe_image(image: dict, path: str, segments: list[dict]) -> dict:
    size = image["height"], image["width"]
    if not os.path.isfile(path):
        raise InputError(f"{path}, the segments of {image['file_name']}, doesn't exist: put it there.")
    ids = read_segments(path)
    if problem := next(find_segment_problems(ids, segments, size), None):
        raise InputError(f"{path} {problem}.")
    found = _find_size(image["file_name"])
    if found and sorted(found) != sorted(size):  # which way it is turned depends on INPUT.IGNORE_EXIF
        raise InputError(
            f"{image['file_name']} is {found[1]}×{found[0]} pixels, but its segments in {path} are "
            f"{size[1]}×{size[0]}: label the image at its own size."
        )
    return {
        "file_name": image["file_name"],
        "image_id": image["id"],
        "height": image["height"],
        "width": image["width"],
        "pan_seg_file_name": path,
        "segments_info": segments,
        "annotations": describe_objects(ids, segments),
    }
