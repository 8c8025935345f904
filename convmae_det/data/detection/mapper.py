"""Converts the description of an image and its objects to the input of a detector."""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances, PolygonMasks

from ...errors import InputError
from ..image import DEFAULT, Decoding, read_image
from ..large_image import open_large_image, read_window
from .annotation_file import find_geometry_problems
from .jitter import build_augmentations
from .outlines import split_outline
from .segments import label_pixels, read_segments
from .shape import UNUSABLE, describe_unusable
from .tiling import build_tiled_input, compute_whole_side


class DetectionMapper(DatasetMapper):
    """Detectron2's mapper with our reader and augmentations, and errors that name the image.

    ``DetectionMapper(cfg, is_train)`` builds it from a configuration. Boxes are recomputed from the masks where there
    are any: a crop may leave less of an object than of its box.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        decoding: Decoding = DEFAULT,
        whole_side: int = 0,
        ignore_value: int = 255,
        **options: Any,
    ):
        """Takes the options of DatasetMapper and more.

        Args:
            decoding: how images are decoded
            whole_side: for `build_tiled_input`; 0 for a detector that doesn't take images in tiles
            ignore_value: stands for pixels without a class
        """
        super().__init__(is_train, **options)
        self.decoding, self.whole_side, self.ignore_value = decoding, whole_side, ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        augmentations = build_augmentations(cfg, is_train)  # first, because it checks what the next line assumes
        return super().from_config(cfg, is_train) | {
            "augmentations": augmentations,
            "recompute_boxes": is_train and cfg.MODEL.MASK_ON,
            "decoding": Decoding.from_config(cfg),
            "whole_side": 0 if is_train else compute_whole_side(cfg),
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Reads an image, and converts it and its annotations to a detector's input.

        Args:
            dataset_dict: one image in Detectron2's format, or a tile of `cut_tiles`; not changed

        Returns:
            The same without "annotations", and with "image", (C, H, W) uint8; in training also with "instances":
            gt_boxes, gt_classes and, with masks, gt_masks, all of length 0 if no object is visible; with
            "sem_seg", (H, W) int64, if the data set has it or segments. "height" and "width" remain those of the file,
            or tile. In evaluation in tiles also what `build_tiled_input` adds.

        Raises:
            InputError: an image or annotations that can't be used; names the image.
        """
        dataset_dict = _copy_description(dataset_dict)
        if self.whole_side:
            return self._prepare_tiles(dataset_dict)
        image = self._read(dataset_dict)
        labels = self._read_labels(dataset_dict, image)
        augmented = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(augmented)
        dataset_dict["image"] = torch.from_numpy(np.array(augmented.image.transpose(2, 0, 1), order="C"))
        if not self.is_train:
            dataset_dict.pop("annotations", None)
            return dataset_dict
        if labels is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype(np.int64))
        if "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, augmented.image.shape[:2])
        return dataset_dict

    def _prepare_tiles(self, dataset_dict: dict) -> dict:
        """Prepares an image for evaluation in tiles."""
        dataset_dict.pop("annotations", None)
        image = open_large_image(dataset_dict["file_name"], self.image_format, self.decoding)
        _check_size(dataset_dict, image.sizes[0])
        return dataset_dict | build_tiled_input(image, self.augmentations, self.whole_side)

    def _read(self, dataset_dict: dict) -> np.ndarray:
        if "tile" in dataset_dict:
            tile = dataset_dict["tile"]
            image, size = read_window(dataset_dict["file_name"], self.image_format, self.decoding, tile)
            height, width = dataset_dict["image_size"]
            _check_size(dataset_dict | {"height": height, "width": width}, size)
            return image
        image = read_image(dataset_dict["file_name"], self.image_format, self.decoding)
        _check_size(dataset_dict, image.shape[:2])
        dataset_dict["height"], dataset_dict["width"] = image.shape[:2]  # which may have been 64.0
        return image

    def _read_labels(self, dataset_dict: dict, image: np.ndarray) -> np.ndarray | None:
        """Reads the semantic segmentation (H, W) uint8 of the image, if there is one and it is needed."""
        segments, path = dataset_dict.get("pan_seg_file_name"), dataset_dict.pop("sem_seg_file_name", None)
        if not (segments or path) or not self.is_train:
            return None
        if segments:
            path = segments
            labels = label_pixels(read_segments(path, self.decoding), dataset_dict["segments_info"], self.ignore_value)
        else:
            labels = read_image(path, "L", self.decoding).squeeze(2)
        if labels.shape != image.shape[:2]:
            raise InputError(
                f"{path} is {labels.shape[1]}×{labels.shape[0]} pixels, but its image {dataset_dict['file_name']} is "
                f"{image.shape[1]}×{image.shape[0]}: label the image at its own size."
            )
        return labels

    def _transform_annotations(self, dataset_dict: dict, transforms: T.TransformList, image_shape: tuple) -> None:
        if all(annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]):
            del dataset_dict["annotations"]
            dataset_dict["instances"] = self._make_empty_instances(image_shape)
            return
        try:
            self._check_geometry(dataset_dict)
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            instances = dataset_dict["instances"]
            instances.gt_boxes.clip(image_shape)  # boxes of masks may extend outside; raises if not finite
            dataset_dict["instances"] = instances[instances.gt_boxes.nonempty()]
        except UNUSABLE as error:
            raise InputError(describe_unusable(dataset_dict["file_name"], error)) from error

    def _check_geometry(self, dataset_dict: dict) -> None:
        for annotation in dataset_dict["annotations"]:
            if not self.use_instance_mask:
                annotation.pop("segmentation", None)
            for problem in find_geometry_problems(annotation, dataset_dict["height"], dataset_dict["width"]):
                raise ValueError(f"an object {problem}")
            if isinstance(polygons := annotation.get("segmentation"), list):
                annotation["segmentation"] = [part for polygon in polygons for part in split_outline(polygon)]

    def _make_empty_instances(self, image_shape: tuple) -> Instances:
        instances = utils.annotations_to_instances([], image_shape)
        if self.use_instance_mask:
            polygons = self.instance_mask_format == "polygon"
            instances.gt_masks = PolygonMasks([]) if polygons else BitMasks(torch.zeros(0, *image_shape))
        return instances


def _copy_description(dataset_dict: dict) -> dict:
    """Copies a description and its annotations; not their outlines, which are long, and which nothing writes to."""
    copied = dict(dataset_dict)
    if "annotations" in copied:
        copied["annotations"] = [dict(annotation) for annotation in copied["annotations"]]
    return copied


def _check_size(dataset_dict: dict, size: tuple[int, int]) -> None:
    """Checks that an image, of (height, width), is as large as its description says, if it does."""
    height, width = size
    listed = dataset_dict.get("width", width), dataset_dict.get("height", height)
    if listed == (width, height):
        return
    turned = " once turned as its EXIF orientation says" if listed == (height, width) else ""
    other = ", or set INPUT.IGNORE_EXIF True if all are annotated as they are stored" if turned else ""
    raise InputError(
        f"{dataset_dict['file_name']} is {width}×{height} pixels{turned}, but its annotations are for "
        f"{listed[0]}×{listed[1]}: annotate the image as it is shown, or correct its width and height{other}."
    )
