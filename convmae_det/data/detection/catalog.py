"""Loads registered data sets and checks them, so that errors are reported before training starts."""

import difflib
import functools
import itertools
import operator
import os
from collections.abc import Sequence
from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import filter_images_with_few_keypoints
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ...config.architectures import CLASS_KEYS, is_panoptic
from ...config.checks.data import check_names
from ...config.checks.rules import require
from ...errors import InputError
from ..shapes import register_shapes
from ..survey import log_file_kinds
from .annotation_file import check_content, read_content, read_image_entries
from .categories import find_stuff, find_stuff_categories
from .coco_format import describe_images, is_coco_format, register_coco_format
from .panoptic_format import adopt_panoptic, register_panoptic
from .summary import describe_unusable_images, is_unusable, log_summary
from .variants import is_outside_folder

register_shapes()  # when imported, as Detectron2's own data sets

# Bytes. Up to this size an annotation file to train with is checked before it is used, which takes up to some seconds;
# that of COCO itself is larger, and is checked only if using it fails.
CHECKED_FIRST = 64 * 2**20


def load_dataset_dicts(names: str | Sequence[str], *, is_train: bool, cfg: CfgNode) -> Sequence[dict]:
    """Loads the images of registered data sets in Detectron2's format; for training, only those it can use.

    The main process logs a summary of each data set.

    Args:
        names: of data sets in Detectron2's catalog or in DATASETS.COCO_FORMAT
        is_train: annotations are required; DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves out images without an object
        cfg: which annotations the model needs

    Raises:
        InputError: a data set isn't registered, a file or folder of it is missing, its annotation file or its content
            can't be used, or no image is left.
    """
    names = [names] if isinstance(names, str) else list(names)
    check_names(f"DATASETS.{'TRAIN' if is_train else 'TEST'}", names)
    _register(names, cfg)  # a process started for another GPU has none
    parts: list[Any] = [_load(name, cfg, is_train=is_train, evaluated=not is_train) for name in names]
    if not isinstance(parts[0], list):  # torch data sets are not checked
        return cast(Sequence, ConcatDataset(parts)) if len(parts) > 1 else parts[0]
    for name, part in zip(names, parts, strict=True):
        removed = list(describe_unusable_images(part)) if _excludes_empty_images(part, is_train, cfg) else []
        if comm.is_main_process():
            log_summary(name, part, MetadataCatalog.get(name).get("thing_classes", ()), removed)
            log_file_kinds(name, part, cfg)
    dicts = list(itertools.chain(*parts))
    if is_train and "annotations" in dicts[0]:
        check_any_object(dicts, names)
    if _excludes_empty_images(dicts, is_train, cfg):
        dicts = [image for image in dicts if not is_unusable(image)]
    _check_images(dicts, names)
    if is_train:
        _check_labels(dicts, names, cfg)
    return dicts


def check_any_object(dicts: Sequence[dict], names: Sequence[str]) -> None:
    """Checks that an image has an object that isn't a crowd.

    Raises:
        InputError: there is none.
    """
    if not all(is_unusable(image) for image in dicts):
        return
    crowds = sum(len(image["annotations"]) for image in dicts)
    if crowds:
        raise InputError(
            f"All {crowds} annotations of {', '.join(names)} are crowds (iscrowd 1), which are neither learned nor "
            "evaluated: if they are objects, as masks of CVAT's brush are, set DATASETS.CROWD_AS_OBJECTS True (and, to "
            "train with masks in run lengths, INPUT.MASK_FORMAT bitmask)."
        )
    raise InputError(f"No image of {', '.join(names)} has an object: annotate some, or choose other data.")


def check_data_sets_exist(names: Sequence[str], cfg: CfgNode) -> None:
    """Checks that the data sets are registered and that their files and folders exist.

    Raises:
        InputError: they are not, or don't.
    """
    _register(names, cfg)
    for name in names:
        _check_registered(name, cfg)
        _check_paths(name, cfg)


def _register(names: Sequence[str], cfg: CfgNode) -> None:
    register_coco_format(cfg.DATASETS.COCO_FORMAT, only=names)
    if is_panoptic(cfg):
        register_panoptic(cfg.DATASETS.PANOPTIC, only=names)
        adopt_panoptic(names)


def list_image_names(name: str, cfg: CfgNode) -> list[str]:
    """Lists the files of a registered data set's images, annotated or not.

    Of a data set in DATASETS.COCO_FORMAT, only the images in its annotation file are read.

    Raises:
        InputError: see `load_dataset_dicts`.
    """
    register_coco_format(cfg.DATASETS.COCO_FORMAT, only=[name])
    if not MetadataCatalog.get(name).get("coco_format"):
        dicts = _load(name, cfg, is_train=False, evaluated=False)
        if isinstance(dicts, list):
            _check_images(dicts, [name])
        return [image["file_name"] for image in dicts]
    _check_paths(name, cfg)
    root, json_file = MetadataCatalog.get(name).image_root, MetadataCatalog.get(name).json_file
    names = [os.path.join(root, image["file_name"]) for image in read_image_entries(json_file, root)]
    _check_images([{"file_name": path} for path in names], [name])
    return names


def _load(name: str, cfg: CfgNode, *, is_train: bool, evaluated: bool) -> Sequence[dict]:
    """Loads one data set completely, and checks that its annotations suffice for their purpose."""
    _check_registered(name, cfg)
    _check_paths(name, cfg)
    metadata, content = MetadataCatalog.get(name), None
    must = f"be False for {name}, which isn't registered with names of keypoints and how they are mirrored"
    known = metadata.get("keypoint_flip_map") is not None or not is_train
    require(known or not cfg.MODEL.KEYPOINT_ON, "MODEL.KEYPOINT_ON", cfg.MODEL.KEYPOINT_ON, must)
    path, root = metadata.get("json_file"), metadata.get("image_root")
    if path and metadata.get("evaluator_type") == "coco":
        content = read_content(path, root)
    masks = cfg.MODEL.MASK_ON if evaluated else None
    classes = metadata.get("thing_classes")
    check = functools.partial(check_content, content, path, is_train=is_train, class_names=classes, masks=masks)
    if content is not None and (evaluated or os.path.getsize(path) <= CHECKED_FIRST):
        check()
    try:
        ours = content is not None and is_coco_format(name)
        dicts = describe_images(content, root, name, cfg.MODEL.MASK_ON) if ours else DatasetCatalog.get(name)
    except Exception:
        if content is not None:
            check()
        raise  # the file is not the cause
    if isinstance(dicts, list):
        if not dicts:
            raise InputError(f"The data set {name} has no images: choose another.")
        _check_names(name, dicts)
        dicts = _select_annotations(dicts, cfg, is_train)
    return dicts


def _select_annotations(dicts: list[dict], cfg: CfgNode, is_train: bool) -> list[dict]:
    """Takes crowds as objects, and leaves out images with few keypoints, where the configuration says so."""
    if cfg.DATASETS.CROWD_AS_OBJECTS and "annotations" in dicts[0]:
        dicts = [
            image | {"annotations": [annotation | {"iscrowd": 0} for annotation in image["annotations"]]}
            for image in dicts
        ]
    least = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if is_train and cfg.MODEL.KEYPOINT_ON else 0
    chosen = filter_images_with_few_keypoints(dicts, least) if least and "annotations" in dicts[0] else dicts
    must = f"be at most the number of visible keypoints in an image: none of {len(dicts)} has as many"
    require(chosen, "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", least, must)
    return chosen


def _excludes_empty_images(dicts: list[dict], is_train: bool, cfg: CfgNode) -> bool:
    """Whether images without objects are left out."""
    return is_train and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and "annotations" in dicts[0]


def check_classes(cfg: CfgNode, names: Sequence[str]) -> None:
    """Checks that the data sets have the same classes, as many as the detector; call it after loading them.

    Too few would end in an index out of range deep inside a loss, too many in predictions of classes without a name.

    Raises:
        InputError: they differ.
    """
    key = CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    if key is None:
        return
    expected = operator.attrgetter(key)(cfg)
    first = MetadataCatalog.get(names[0]).get("thing_classes")
    for name in names:
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes is not None and first is not None and list(classes) != list(first):
            raise InputError(f"The data sets {names[0]} and {name} have different categories: use one of them alone.")
        if classes is not None and len(classes) != expected:
            raise InputError(
                f"{key} is {expected}, but the data set {name} has {len(classes)} categories: set {key} {len(classes)}."
            )
        if is_panoptic(cfg):
            _check_stuff(name, cfg)


def _check_stuff(name: str, cfg: CfgNode) -> None:
    """Checks that a data set has as many categories of stuff as the model, if its are known."""
    find_stuff_categories(cfg)  # which are the same in all data sets
    stuff, number, key = find_stuff(name), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, "MODEL.SEM_SEG_HEAD.NUM_CLASSES"
    must = f"be one more than the number of categories of stuff that {name} has, {len(stuff)}"
    require(not stuff or number == len(stuff) + 1, key, number, must)


def _check_registered(name: str, cfg: CfgNode) -> None:
    if name not in DatasetCatalog:
        listed = _list_unused(cfg)
        near = difflib.get_close_matches(str(name), listed) or [
            *(f"{other}, which DATASETS lists," for other in listed),
            *difflib.get_close_matches(str(name), DatasetCatalog.list()),
        ]
        hint = f"did you mean {' or '.join(near).rstrip(',')}?" if near else "register it, or choose another."
        raise InputError(f"The data set {name!r} is not registered: {hint}")


def _list_unused(cfg: CfgNode) -> list[str]:
    """Lists the data sets that DATASETS lists, but that neither DATASETS.TRAIN nor DATASETS.TEST names."""
    data = cfg.DATASETS
    entries = [*data.IMAGE_FOLDERS, *data.SHARDS, *data.COCO_FORMAT, *data.PANOPTIC]
    names = [str(entry[0]) for entry in entries if isinstance(entry, (list, tuple)) and entry]
    return [name for name in names if name not in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)]


def _suggest(listed: list[str]) -> str:
    return f"let DATASETS.TRAIN or DATASETS.TEST name {' or '.join(listed)}, as DATASETS lists, " if listed else ""


def _check_paths(name: str, cfg: CfgNode) -> None:
    """Checks that the files and folders of a registered data set exist."""
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "image_root", "panoptic_json", "panoptic_root", "sem_seg_root"):
        path = metadata.get(key)
        if path is None or (os.path.isdir(path) if key.endswith("_root") else os.path.isfile(path)):
            continue
        problem = f"{path}, the {'folder' if key.endswith('_root') else 'annotation file'} of the data set {name},"
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))  # as Detectron2 reads it
        inside = os.path.relpath(path, root)
        if inside.startswith(os.pardir):
            raise InputError(f"{problem} doesn't exist: register the data set with the path where it is.")
        now = os.getenv("DETECTRON2_DATASETS", "not set, which means ./datasets")
        raise InputError(
            f"{problem} doesn't exist: {_suggest(_list_unused(cfg))}put it there, or set the environment variable "
            f"DETECTRON2_DATASETS to the folder that holds {inside} (it is {now})."
        )


def _check_names(name: str, dicts: Sequence[dict]) -> None:
    """Checks that no image of an untrusted annotation file lies outside the folder of images."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") != "coco" or not metadata.get("image_root"):
        return
    root = os.path.join(metadata.image_root, "")
    for image in dicts:
        path = image["file_name"]
        if not path.startswith(root) or is_outside_folder(path[len(root) :]):
            raise InputError(
                f"{metadata.get('json_file')}: image {image['image_id']} is {path}, outside the folder of images "
                f"{metadata.image_root}; correct the file."
            )


def _check_images(dicts: list[dict], names: list[str]) -> None:
    """Checks that all image files exist. Listing each folder once is much faster than asking for each file."""
    listings: dict[str, set[str]] = {}
    missing = []
    for path in (image["file_name"] for image in dicts):
        folder, file_name = os.path.split(path)
        if folder not in listings:
            listings[folder] = set(os.listdir(folder or os.curdir)) if os.path.isdir(folder or os.curdir) else set()
        if file_name not in listings[folder]:
            missing.append(path)
    if missing:
        raise InputError(
            f"{missing[0]} doesn't exist ({len(missing)} of the {len(dicts)} images of {', '.join(names)} are "
            "missing): put the images there, or take them out of the annotation file."
        )


def _check_labels(dicts: list[dict], names: list[str], cfg: CfgNode) -> None:
    """Checks that the data have what the network learns from, beside boxes."""
    if cfg.MODEL.MASK_ON:
        _check_masks(dicts, cfg.INPUT.MASK_FORMAT)
    architecture = cfg.MODEL.META_ARCHITECTURE
    labelled = {"sem_seg_file_name", "pan_seg_file_name"}
    segmented = not is_panoptic(cfg) or all(labelled & image.keys() for image in dicts)
    must = f"be GeneralizedRCNN or RetinaNet for {', '.join(names)}, which has no class for each pixel"
    require(segmented, "MODEL.META_ARCHITECTURE", architecture, must)


def _check_masks(dicts: list[dict], mask_format: str) -> None:
    """Checks that every object has a mask, and polygons where polygons are required."""
    for image in dicts:
        for annotation in image.get("annotations", []):
            if annotation.get("iscrowd", 0):
                continue
            mask = annotation.get("segmentation")
            if mask is None:
                problem, advice = "has no mask", "add it, or train without masks by MODEL.MASK_ON False"
            elif mask_format == "polygon" and isinstance(mask, dict):
                problem, advice = "has a mask in run lengths, not polygons", "set INPUT.MASK_FORMAT bitmask"
            else:
                continue
            raise InputError(f"An object of {image['file_name']} (box {annotation['bbox']}) {problem}: {advice}.")
