"""The formats of the VGG Image Annotator, versions 1 and 2: a project, or its annotations as JSON or CSV."""

import csv
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .account import Account
from .objects import DataSet, Labelled, LabelledImage, make_box, make_curve, make_polygon, outline_ellipse
from .reading import locate, read_json, report_file
from .recognition import find_file
from .source import Source

FORM = "a file of the VGG Image Annotator"
OTHERS = ("point", "polyline", "line")  # shapes that are no objects


def read_via(source: Source, account: Account) -> DataSet:
    """Reads a project or an export of the VGG Image Annotator: rectangles, polygons, circles and ellipses.

    Args:
        source: `annotations` is the file, or the folder that holds it; `attribute` that with the class of a region;
            `category` the class where no region has an attribute
        account: of points and lines, which are left out

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    path = find_file(source.annotations, "via", "the JSON or CSV file")
    folder = source.open_images(account)
    images = []
    with report_file(path, FORM):
        entries = _read_csv(path) if path.suffix.lower() == ".csv" else _read_entries(path)
        attribute = source.attribute or _find_attribute(entries)
        for name, regions in entries.items():
            if image := folder.find(name, path):
                read = functools.partial(_list_objects, regions, attribute, source.category, name, account)
                images.append(LabelledImage(image, path, read))
    return DataSet(images, folder.root, FORM, available=folder.paths)


def _read_entries(path: Path) -> dict[str, list[dict]]:
    """Reads the regions of each image from JSON."""
    content = read_json(path)
    entries: dict[str, list[dict]] = {}
    for key, entry in content.get("_via_img_metadata", content).items():
        with locate(key):
            regions = entry["regions"]
            if entry["filename"] in entries:
                raise ValueError(f"{entry['filename']} is in it twice")
            entries[entry["filename"]] = list(
                regions.values() if isinstance(regions, dict) else regions
            )  # version 1: by number
    return entries


def _read_csv(path: Path) -> dict[str, list[dict]]:
    """Reads the regions of each image from CSV, a line each; an image without regions has a line, too."""
    entries: dict[str, list[dict]] = {}
    sizes: dict[str, str] = {}  # of files, which VIA tells images of one name apart by
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            line = {str(key).strip(" #"): value for key, value in row.items()}
            with locate(line["filename"]):
                if sizes.setdefault(line["filename"], size := line.get("file_size") or "") != size:
                    raise ValueError("it is in it twice, with different sizes of its file")
                shape, attributes = (json.loads(line[f"region_{kind}attributes"] or "{}") for kind in ("shape_", ""))
                region = {"shape_attributes": shape, "region_attributes": attributes}
                entries.setdefault(line["filename"], []).extend([region] if shape else [])
    return entries


def _find_attribute(entries: dict[str, list[dict]]) -> str:
    """Finds the attribute that holds the class: the only one; "" if there is none.

    Raises:
        ValueError: there are several.
    """
    found = {key for regions in entries.values() for region in regions for key in region["region_attributes"]}
    if len(found) > 1:
        raise ValueError(
            f"its regions have the attributes {', '.join(sorted(found))}; say by --attribute which is the class"
        )
    return next(iter(found), "")


def _list_objects(
    regions: Sequence[dict], attribute: str, category: str, name: str, account: Account, width: int, height: int
) -> list[Labelled]:
    objects = []
    for number, region in enumerate(regions, 1):
        with locate(place := f"{name}, region {number}"):
            shape = region["shape_attributes"]
            if shape["name"] in OTHERS:
                account.leave_out(f"regions of the kind {shape['name']}, which enclose nothing", name)
            else:
                label = _find_label(region["region_attributes"], attribute) if attribute else category
                account.note(f"regions have no attribute, and became '{category}' (--categories)", name, not attribute)
                objects.append(_make_object(shape, label, (width, height), place))
    return objects


def _find_label(attributes: dict, attribute: str) -> str:
    """Finds the class of a region: text, or the one of several boxes that is ticked."""
    value = attributes.get(attribute, "")
    ticked = [name for name, is_ticked in value.items() if is_ticked] if isinstance(value, dict) else [value]
    labels = [str(label).strip() for label in ticked if str(label).strip()]
    if len(labels) != 1:
        raise ValueError(f"it has {len(labels)} classes under its attribute {attribute!r}, but one is wanted: set it")
    return labels[0]


def _make_object(shape: dict, label: str, size: tuple[int, int], place: str) -> Labelled:
    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return make_box(label, [x, y, x + width, y + height], place)
    if kind == "circle":
        return make_curve(label, outline_ellipse([shape["cx"], shape["cy"]], [shape["r"]] * 2), size, place)
    if kind == "ellipse":
        degrees = math.degrees(float(shape.get("theta") or 0))
        radii = [shape["rx"], shape["ry"]]
        return make_curve(label, outline_ellipse([shape["cx"], shape["cy"]], radii, degrees), size, place)
    if kind != "polygon":
        raise ValueError(f"it is a {kind!r}, a shape that isn't known")
    if len(shape["all_points_x"]) != len(shape["all_points_y"]):
        raise ValueError("it has not as many x as y")
    return make_polygon(label, np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1), place)
