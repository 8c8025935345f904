"""CVAT's own formats, "for images" and "for video": an XML file for a task or project."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from ....errors import InputError
from .account import Account
from .objects import (
    DataSet,
    Labelled,
    LabelledImage,
    group,
    make_box,
    make_curve,
    make_mask,
    make_polygon,
    outline_box,
    outline_ellipse,
)
from .reading import locate, read_xml, report_file
from .recognition import find_file
from .run_lengths import unpack_rows
from .source import ImageFolder, Source

FORM = "an XML file of CVAT"
SHAPES = ("box", "polygon", "ellipse", "mask")  # what is an object


def read_cvat(source: Source, account: Account) -> DataSet:
    """Reads an export of CVAT's; shapes of one group and label are one object, as in CVAT's own exports to COCO.

    Args:
        source: `annotations` is the XML file, or the folder that holds it
        account: of shapes that are no objects, and frames of videos without an image

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    path = find_file(source.annotations, "cvat", "the XML file")
    folder = source.open_images(account)
    with report_file(path, FORM):
        root = read_xml(path)
        if root.tag != "annotations":
            raise ValueError(f"its root is {root.tag}, not annotations")
        tracks = root.findall("track")
        images = (
            _list_frames(root, tracks, folder, path, account) if tracks else _list_images(root, folder, path, account)
        )
        images = list(images)
    labels = [label for label in root.iterfind("meta//labels/label") if not label.findtext("parent")]
    classes = list(dict.fromkeys(label.findtext("name", "") for label in labels)) or None
    return DataSet(images, folder.root, FORM, classes, str(path), folder.paths)


def _list_images(root: Element, folder: ImageFolder, path: Path, account: Account) -> Iterator[LabelledImage]:
    for number, element in enumerate(root.iterfind("image"), 1):
        with locate(f"image {number}"):
            name, size = element.attrib["name"], (int(element.attrib["width"]), int(element.attrib["height"]))
        subset = element.get("subset", "")
        if image := folder.find(name, path, subset, size):
            read = functools.partial(_list_objects, list(element), name, account)
            yield LabelledImage(image, path, read, size, _name_split(subset))


def _name_split(subset: str) -> str:
    return {"": "", "default": "", "validation": "val"}.get(subset.lower(), subset.lower())


def _list_frames(
    root: Element, tracks: Sequence[Element], folder: ImageFolder, path: Path, account: Account
) -> Iterator[LabelledImage]:
    """Lists the frames of a video, each with what the tracks have there: CVAT writes all frames of a track."""
    shapes: dict[int, list[Element]] = {}
    for number, track in enumerate(tracks, 1):
        for element in track:
            with locate(f"track {track.get('id', number)}"):
                if element.get("outside") != "1":
                    element.set("label", track.attrib["label"])
                    element.set("group_id", track.get("group_id", "0"))
                    shapes.setdefault(int(element.attrib["frame"]), []).append(element)
    if len(root.findall("meta/project/tasks/task")) > 1:
        raise ValueError("it is of several videos, whose frames it doesn't tell apart; export each task by itself")
    files = _number_frames(root, folder, path, account)
    missing = sorted(shapes.keys() - files.keys())
    if missing:
        folder.find(f"frame {missing[0]}", path)  # raises, or counts
        account.leave_out("more labelled frames without an image", f"frame {missing[-1]}", len(missing) - 1)
    for frame, file in files.items():
        yield LabelledImage(
            file, path, functools.partial(_list_objects, shapes.get(frame, []), f"frame {frame}", account)
        )


def _number_frames(root: Element, folder: ImageFolder, path: Path, account: Account) -> dict[int, Path]:
    """Finds the image of each frame: all in their order if there are as many as frames, else by the number in a name.

    Raises:
        InputError: names without a number, or none of the first frame.
    """
    start, stop = (int(root.findtext(f"meta//{name}") or -1) for name in ("start_frame", "stop_frame"))
    size = int(root.findtext("meta//size") or 0)
    if len(folder.paths) == size and not root.findtext("meta//frame_filter"):
        return dict(enumerate(_sort_frames(root, folder, account), max(start, 0)))
    found: dict[int, Path] = {}
    for image in folder.paths:
        numbers = re.findall(r"\d+", image.stem)
        if not numbers:
            raise InputError(
                f"{image} has no number of a frame in its name, which {path} needs: export frame_000000.png …"
            )
        if (number := int(numbers[-1])) in found:
            raise InputError(f"{found[number]} and {image} are both called frame {number}: remove one")
        found[number] = image
    if max(start, 0) not in found:
        raise InputError(
            f"{folder.root} has no image of frame {max(start, 0)}, the first that {path} counts: CVAT counts from 0; "
            "write frames by ffmpeg -i VIDEO -start_number 0 frame_%06d.png, or export them with the annotations"
        )
    return {number: found[number] for number in sorted(found) if start <= number and (stop < 0 or number <= stop)}


def _sort_frames(root: Element, folder: ImageFolder, account: Account) -> list[Path]:
    """Sorts the frames of a video by the numbers in their names, images as CVAT does: letter by letter."""

    def split(path: Path) -> list[str | int]:
        parts = re.split(r"([0-9]+)", path.relative_to(folder.root).as_posix())
        return [int(part) if index % 2 else part for index, part in enumerate(parts)]

    by_number = sorted(folder.paths, key=split)
    if root.findtext("meta//source") or by_number == folder.paths:  # the file of the video
        return by_number
    differ = next(path for path, other in zip(folder.paths, by_number, strict=True) if path != other)
    account.note("frames were taken in the order that CVAT gives images, 10.png before 2.png", differ.name)
    return folder.paths


def _list_objects(elements: Sequence[Element], name: str, account: Account, width: int, height: int) -> list[Labelled]:
    objects = []
    for number, element in enumerate(elements, 1):
        place = f"{name}, shape {number}"
        if element.tag not in SHAPES:
            shape = f"shapes of the kind {element.tag}, which are no objects here"
            account.leave_out("tags of whole images" if element.tag == "tag" else shape, name)
            continue
        with locate(place):
            found = _make_object(element, (width, height), place)
        if found:
            objects.append((element.get("group_id", "0"), found))
        else:
            account.leave_out("masks without a pixel", name)
    return group([(None if key == "0" else key, found) for key, found in objects], (width, height))


def _make_object(element: Element, size: tuple[int, int], place: str) -> Labelled | None:
    label, degrees = element.attrib["label"], float(element.get("rotation") or 0)

    def numbers(*names: str) -> list[float]:
        return [float(element.attrib[name]) for name in names]

    if element.tag == "box":
        corners = numbers("xtl", "ytl", "xbr", "ybr")
        turned = outline_box(corners, degrees)
        return make_curve(label, turned, size, place) if degrees else make_box(label, corners, place)
    if element.tag == "ellipse":
        return make_curve(label, outline_ellipse(numbers("cx", "cy"), numbers("rx", "ry"), degrees), size, place)
    if element.tag == "mask":
        left, top, width, height = (int(float(element.attrib[name])) for name in ("left", "top", "width", "height"))
        counts = [int(count) for count in element.attrib["rle"].split(",")]
        return make_mask(label, unpack_rows(counts, width, height), (left, top), size, place)
    points = [pair.split(",") for pair in element.attrib["points"].split(";")]
    return make_polygon(label, points, place)
