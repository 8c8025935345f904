"""Which format annotations have, told by what files hold that only this format's do."""

import csv
import re
from pathlib import Path
from typing import Any

from ....errors import InputError
from .reading import MISTAKES, read_json, read_lines, read_xml, report_file

# Names of formats, as users type them, and as they are called.
TITLES = {
    "yolo": "YOLO",
    "darknet": "Darknet",
    "voc": "Pascal VOC",
    "labelme": "LabelMe",
    "cvat": "CVAT",
    "label-studio": "Label Studio",
    "via": "VGG Image Annotator",
    "openimages": "Open Images",
    "datumaro": "Datumaro",
    "masks": "masks, image files with a value or colour for each object",
}
# Exports that aren't read: how they are called, and the one that is.
VIA_3 = "a project of the VGG Image Annotator 3", "export it there in COCO's format, or annotate with version 2"
JSON_MIN = (
    "Label Studio's JSON-MIN, which leaves out what its regions are",
    "export it there as JSON, or in COCO's format",
)
COCO = "coco"  # which needs no conversion
EVERY_IMAGE = ("labelme", "voc")  # those of a label file for each image
YOLO_LINE = re.compile(r"\d+(\.0*(e\+00)?)?(\s+-?\d*\.?\d+(e[+-]?\d+)?){4,}")
ENDINGS = (".json", ".xml", ".csv", ".txt", ".data", ".yaml", ".yml")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
LOOKED_AT = 20  # files of a kind in a folder


def recognize(annotations: Path, has_images: bool = False) -> str:
    """Recognises the format of a label file, or of a folder of label files.

    Args:
        annotations: file or folder
        has_images: whether the images are in another folder, so that those in this one can be masks

    Returns:
        A key of TITLES.

    Raises:
        InputError: there is nothing, it is none of these formats, or could be several.
    """
    if not annotations.exists():
        raise InputError(f"{annotations} doesn't exist: name the annotations, a file or a folder of files")
    is_file = annotations.is_file()
    if is_file and annotations.suffix.lower() in ARCHIVES:
        raise InputError(f"{annotations} is an archive: unpack it, and name what is in it")
    found = {recognize_file(annotations): annotations} if is_file else _recognize_folder(annotations, has_images)
    found.pop("", None)
    if found.keys() == {COCO}:
        raise InputError(f"{found[COCO]} is in COCO's format, which DATASETS.COCO_FORMAT takes as it is")
    if not found:
        for path in [annotations] if is_file else _list_label_files(annotations):
            check_export(path)
            _check_readable(path)
        raise InputError(
            f"{annotations} is of no format that is known here ({', '.join(TITLES)}): say which by --format, or export "
            "the annotations in COCO's format"
        )
    found.pop(COCO, None)  # written by an earlier conversion
    if len(found) > 1:
        could = " or ".join(f"{name} ({path.name})" for name, path in found.items())
        raise InputError(f"{annotations} could be {could}: say which by --format, or name the file")
    return next(iter(found))


def _check_readable(path: Path) -> None:
    """Checks that a file of JSON or XML is.

    Raises:
        InputError: it isn't.
    """
    for ending, read in {".json": read_json, ".xml": read_xml}.items():
        if path.is_file() and path.suffix.lower() == ending:
            with report_file(path, f"a valid {ending[1:].upper()} file"):
                read(path)


def find_file(annotations: Path, name: str, what: str) -> Path:
    """Finds the one file of a format: `annotations` itself, or that in this folder or in its folder "annotations".

    Args:
        annotations: file or folder
        name: of the format
        what: the file, for errors

    Raises:
        InputError: it isn't there, or there are several.
    """
    if not annotations.is_dir():
        check_export(annotations)
        return annotations
    files = [path for path in _list_label_files(annotations) if recognize_file(path) == name]
    if len(files) == 1:
        return files[0]
    problem = f"several, {files[0].name} and {files[1].name}" if files else "none"
    raise InputError(
        f"{annotations} is a folder, of whose files {what} is wanted, but it holds {problem}: name the file"
    )


def check_export(path: Path) -> None:
    """Checks that a label file isn't in a format of a tool of which another is read.

    Raises:
        InputError: it is; says which to export.
    """
    if path.suffix.lower() != ".json":
        return
    try:
        content = read_json(path)
    except MISTAKES:
        return  # to be named by its reader
    first = content[0] if isinstance(content, list) and content else None
    is_min = isinstance(first, dict) and "data" not in first and {"annotator", "annotation_id"} & first.keys()
    is_via_3 = isinstance(content, dict) and {"project", "attribute", "file", "view", "metadata"} <= content.keys()
    if is_min or is_via_3:
        name, advice = VIA_3 if is_via_3 else JSON_MIN
        raise InputError(f"{path} is {name}, and isn't read: {advice}")


def describe_file(path: Path) -> str:
    """Describes the format of a label file that is of another than expected, and what to do."""
    name = recognize_file(path)
    if name == COCO:
        return "in COCO's format, which DATASETS.COCO_FORMAT takes as it is"
    if name:
        return f"{TITLES[name]}'s format: --format {name}"
    if path.suffix.lower() == ".json":
        try:
            read_json(path)
        except MISTAKES:
            return "not valid JSON: correct it"
        return "JSON of a format that isn't known here: export the annotations in COCO's format"
    return "of a format that isn't known here"


def recognize_file(path: Path) -> str:
    """Recognises the format of a file by its content; "" if it is none of a known format, or damaged."""
    readers = {
        ".json": lambda: _recognize_json(read_json(path)),
        ".xml": lambda: _recognize_xml(path),
        ".csv": lambda: _recognize_csv(path),
        ".txt": lambda: "yolo" if (lines := read_lines(path)) and YOLO_LINE.fullmatch(lines[0].lower()) else "",
        ".data": lambda: "darknet" if any(line.startswith("names") for line in read_lines(path)) else "",
    }
    readers[".yaml"] = readers[".yml"] = lambda: (
        "yolo" if any(re.match(r"names\s*:", line) for line in read_lines(path)) else ""
    )
    try:
        return readers.get(path.suffix.lower(), str)()
    except MISTAKES:
        return ""


def _recognize_json(content: Any) -> str:
    if isinstance(content, list):
        first = content[0] if content else None
        is_task = isinstance(first, dict) and "data" in first and bool({"annotations", "completions"} & first.keys())
        return "label-studio" if is_task else ""
    if not isinstance(content, dict):
        return ""
    if "shapes" in content and "imagePath" in content:
        return "labelme"
    if {"images", "annotations"} <= content.keys():
        return COCO
    if {"categories", "items"} <= content.keys():
        return "datumaro"
    entries = content.get("_via_img_metadata", content)
    first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
    return "via" if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else ""


def _recognize_xml(path: Path) -> str:
    return {"annotation": "voc", "annotations": "cvat"}.get(read_xml(path).tag, "")


def _recognize_csv(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns = {name.strip(" #") for name in next(csv.reader(file), [])}
    if {"filename", "region_shape_attributes"} <= columns:
        return "via"
    return "openimages" if {"ImageID", "LabelName", "XMin"} <= columns else ""


def _recognize_folder(folder: Path, has_images: bool) -> dict[str, Path]:
    """Finds the formats of the files in a folder, each with an example."""
    found: dict[str, Path] = {}
    for path in _list_label_files(folder):
        found.setdefault(recognize_file(path), path)
    if {"yolo", "darknet"} <= found.keys():
        del found["yolo"]  # Darknet's labels are YOLO's
    if not found.keys() - {""} and (folder / "Annotations").is_dir():
        return _recognize_folder(folder / "Annotations", has_images)
    beside = folder.name == "masks" and (folder.parent / "images").is_dir()
    if not found and (has_images or beside or (folder / "masks").is_dir()):
        return {"masks": folder}
    return found


def _list_label_files(folder: Path) -> list[Path]:
    """Lists the first label files of each kind in a folder and in its usual folders, or else in any folder in it."""
    usual = _list_first(folder, folder / "annotations", folder / "labels")
    inner = () if usual or not folder.is_dir() else sorted(path for path in folder.iterdir() if path.name[0] != ".")
    return usual or _list_first(*inner[:LOOKED_AT])


def _list_first(*folders: Path) -> list[Path]:
    """Lists the first label files of each kind in some folders, of which those that aren't are left out."""
    chosen: list[Path] = []
    for place in folders:
        kinds: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.suffix.lower() in ENDINGS and path.is_file() and path.stat().st_size and path.name[0] != ".":
                kinds.setdefault(path.suffix.lower(), []).append(path)
        chosen += [path for paths in kinds.values() for path in paths[:LOOKED_AT]]
    return chosen
