"""What a network sees: images as their files and annotations have them, and what data loading makes of them."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from torch.utils.data import ConcatDataset

from ..config.architectures import is_autoencoder, is_classifier, is_segmentor
from ..config.checks.data import check_input, check_pretraining_input
from ..data.classification.data_sets import list_data_set
from ..data.classification.loader import build_train_dataset as build_classification_dataset
from ..data.classification.mapper import EvaluationMapper, TrainingMapper
from ..data.detection.catalog import load_dataset_dicts
from ..data.detection.jitter import build_augmentations
from ..data.detection.loader import build_train_dataset
from ..data.detection.mapper import DetectionMapper
from ..data.image import make_visible, read_visible
from ..data.pretraining.loader import build_pretraining_dataset
from ..data.pretraining.mapper import PretrainingMapper
from ..data.segmentation.data_sets import list_data_set as list_segmented_images
from ..data.segmentation.data_sets import list_training_images
from ..data.segmentation.mapper import EvaluationMapper as SegmentationEvaluationMapper
from ..data.segmentation.mapper import TrainingMapper as SegmentationTrainingMapper
from ..data.segmentation.masks import read_mask
from ..data.stream import SampleStream
from ..data.survey import resolve_white_level
from ..errors import InputError
from .predictions import build_ground_truth, draw_instances
from .segmentation import draw_segmentation
from .sheet import draw_sheet, save_png

Mapper = (
    PretrainingMapper
    | DetectionMapper
    | TrainingMapper
    | EvaluationMapper
    | SegmentationTrainingMapper
    | SegmentationEvaluationMapper
)

SPLITS = ("train", "test")
TITLES = ("image", "what the network sees")


def stream_panels(cfg: CfgNode, split: str, seed: int) -> tuple[SampleStream, int]:
    """Draws the images of a configuration's data in the order of training, each as a row of two panels.

    Args:
        split: train (DATASETS.TRAIN, augmented) or test (DATASETS.TEST, resized as for evaluation)
        seed: of the order and the augmentation

    Returns:
        What gives for a position [before, after], (h, w, 3) uint8 RGB each, and a caption; and the number of images.

    Raises:
        InputError: the data can't be read; or "test" of pretraining, which has none.
    """
    images, mapper = _build_training_data(cfg) if split == "train" else _build_test_data(cfg)
    names = cfg.DATASETS.TRAIN if split == "train" else cfg.DATASETS.TEST
    metadata = MetadataCatalog.get(names[0])
    if is_classifier(cfg) or is_segmentor(cfg):
        metadata = Metadata(name=names[0], thing_classes=[str(name) for _, name in cfg.DATASETS.CATEGORIES])
    return SampleStream(images, _Pairs(mapper, cfg.INPUT.FORMAT, metadata), seed), len(images)


def save_panels(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str], output: str) -> Iterator[str]:
    """Writes one picture if `output` ends in .png, else one for each row into the folder of that name.

    Yields:
        The path of each picture that is written.

    Raises:
        InputError: the folder can't be made, or a file not be written.
    """
    for path, part in _list_files(output, len(rows)):
        save_png(draw_sheet(rows[part], TITLES, captions[part]), path)
        yield path


def _list_files(output: str, rows: int) -> Iterator[tuple[str, slice]]:
    if output.lower().endswith(".png"):
        yield output, slice(None)
        return
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} can't be made a folder ({error.strerror}): choose another") from error
    for row in range(rows):
        yield os.path.join(output, f"{row + 1:04d}.png"), slice(row, row + 1)


def _build_training_data(cfg: CfgNode) -> tuple[Sequence[dict] | ConcatDataset, Mapper]:
    """Builds the images that are trained on, and what makes samples of them."""
    if is_classifier(cfg):
        images = build_classification_dataset(cfg)
        return images, TrainingMapper(resolve_white_level(cfg, images))
    if is_segmentor(cfg):
        images = list_training_images(cfg)
        return images, SegmentationTrainingMapper(resolve_white_level(cfg, images))
    if is_autoencoder(cfg):
        check_pretraining_input(cfg)
        images = build_pretraining_dataset(cfg)
        return images, PretrainingMapper(resolve_white_level(cfg, images))
    check_input(cfg, is_train=True)
    images = build_train_dataset(cfg)
    return images, DetectionMapper(resolve_white_level(cfg, images), True)


def _build_test_data(cfg: CfgNode) -> tuple[Sequence[dict], Mapper]:
    """Builds those of evaluation, which are resized as they are then, and keep their annotations."""
    if is_classifier(cfg):
        return list_data_set(cfg, cfg.DATASETS.TEST[0]), EvaluationMapper(cfg)
    if is_segmentor(cfg):
        return list_segmented_images(cfg, cfg.DATASETS.TEST[0]), SegmentationEvaluationMapper(cfg)
    if is_autoencoder(cfg):
        raise InputError("--split test: pretraining has no test data; leave it out to see the training data")
    resize = build_augmentations(cfg, False)
    mapper = DetectionMapper(**DetectionMapper.from_config(cfg, True) | {"augmentations": resize})
    return load_dataset_dicts(cfg.DATASETS.TEST, is_train=False, cfg=cfg), mapper


class _Pairs:
    """A mapper that draws: two panels for an image of the data set, and a caption."""

    def __init__(self, mapper: Mapper, image_format: str, metadata: Metadata):
        self.mapper, self.image_format, self.metadata = mapper, image_format, metadata

    def __call__(self, image: dict) -> tuple[list[np.ndarray], str]:
        sample = self.mapper(image)
        before = read_visible(image["file_name"], self.image_format, self.mapper.decoding, image.get("page", 0))
        if "tile" in image:
            tile = image["tile"]
            before = before[tile.top : tile.bottom, tile.left : tile.right]
        seen = sample["image"].clamp(0, 255).byte()  # noise of random erasing may lie outside
        after = make_visible(seen.permute(1, 2, 0).numpy(), self.image_format, self.mapper.decoding.shown)
        caption = f"{os.path.basename(image['file_name'])}, {before.shape[1]}×{before.shape[0]} pixels"
        if "label" in sample:
            caption += f", {self.metadata.thing_classes[image['label']]}"
        if "sem_seg_file_name" in image:
            names = self.metadata.thing_classes
            truth = read_mask(image["sem_seg_file_name"], self.mapper.decoding)
            before = draw_segmentation(before, truth, names)
            after = draw_segmentation(after, sample["sem_seg"].numpy(), names) if "sem_seg" in sample else after
        if "instances" in sample:
            truth = build_ground_truth(image["annotations"], before.shape[:2])
            caption += f", {len(truth)} objects; beside it {after.shape[1]}×{after.shape[0]} pixels, "
            caption += f"{len(sample['instances'])} objects"
            before = draw_instances(before, truth, self.metadata)
            after = draw_instances(after, sample["instances"], self.metadata)
        return [before, after], caption
