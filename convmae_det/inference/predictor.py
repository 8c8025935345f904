"""A trained detector for everyday use: pictures in, Detectron2's `Instances` out.

from convmae_det import Predictor

predictor = Predictor("output/b/config.yaml", "output/b/model_final.pth")
instances = predictor("image.jpg")
"""

import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T
from detectron2.structures import Instances
from PIL import Image

from ..config.architectures import CLASS_KEYS, is_classifier, is_segmentor
from ..data.configuration import read_tool_config
from ..data.detection.jitter import build_augmentations
from ..data.detection.tiling import build_tiled_input, compute_whole_side, convert_pixels
from ..data.image import Decoding
from ..errors import InputError
from ..evaluation.coco import describe_instances
from ..evaluation.thresholds import find_thresholds, read_thresholds
from ..precision import autocast, choose_evaluation_precision, log_precision
from ..visualization.predictions import DRAWN_FROM, draw_instances
from ..visualization.resizing import resize_instances, resize_traces
from .augmentation import augment_predictions
from .model import build_trained_model
from .pictures import Picture, load_pixels, load_shrunk, load_visible, open_picture
from .tiling import tile_predictions

AUTO = "auto"  # in place of a score threshold
MAX_WAITING = 4  # batches of images read ahead in search of some that are padded to the same size


class Predictor:
    """Finds objects in images, exactly as ``train_net.py --eval-only`` does.

    Images are batched only with others that the model pads to the same size: padding takes part in global attention,
    so that otherwise results would depend on the other images.

    Attributes:
        class_names: list of str, one for each value of `pred_classes`
        category_ids: list of int, the classes' original ids, from DATASETS.CATEGORIES; 1 … N where that is empty
        cfg: the configuration of Detectron2
        drawn_from: score from which on :meth:`draw` shows objects
        score_thresholds: list of float, the lowest score of each class that is kept; None for all
        thresholds_file: that they come from; None with one threshold for all
        model: on the device and in evaluation mode
        precision: the precision.Precision that the model runs in
    """

    def __init__(
        self,
        config_file: str | os.PathLike,
        weights: str | os.PathLike,
        device: str = "auto",
        score_threshold: float | str | None = None,
        batch_size: int = 1,
        pairs: Sequence[str] = (),
        precision: str | None = None,
        thresholds: str | os.PathLike | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ):
        """Builds the detector and loads its weights.

        Args:
            config_file: the config.yaml that training wrote beside the weights
            weights: model_final.pth, or another checkpoint of a whole detector
            device: auto (a GPU if there is one), cpu, cuda or cuda:N
            score_threshold: 0 to 1; auto: of each class its own, see `thresholds`; None: all that the detector returns,
                from MODEL.ROI_HEADS.SCORE_THRESH_TEST on
            batch_size: most images that go through the model at once: more keep a GPU busier and need more memory
            pairs: KEY VALUE pairs that change the configuration, such as ["INPUT.MIN_SIZE_TEST", "800"]
            precision: trained (as SOLVER.AMP says, where the device has it), auto, float32, bfloat16 or, on a GPU,
                float16; None: TEST.PRECISION
            thresholds: for the score threshold auto, a file of thresholds; None: the one that an evaluation left
                beside the weights or the configuration, in inference/
            tile: pixels: large images are taken in tiles of this side, `batch_size` at once; 0: whole; None: TEST.TILE
            overlap: the least share of a tile's side that neighbours have in common; None: TEST.TILE_OVERLAP

        Raises:
            InputError: a file that can't be read, an invalid key or value, a configuration that isn't a
                detector's, or weights that lack a part of it.
        """
        if isinstance(score_threshold, str) and score_threshold != AUTO:
            raise InputError(f"the score threshold is {score_threshold!r}; it must be a number from 0 to 1, or {AUTO}")
        if isinstance(score_threshold, (int, float)) and not 0 <= score_threshold <= 1:
            raise InputError(f"the score threshold is {score_threshold}; it must lie between 0 and 1")
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; it must be at least 1")
        if precision is not None:
            pairs = [*pairs, "TEST.PRECISION", precision]
        for key, value in (("TEST.TILE", tile), ("TEST.TILE_OVERLAP", overlap)):
            pairs = pairs if value is None else [*pairs, key, str(value)]
        self.cfg = read_tool_config(str(config_file), pairs, device)
        if is_classifier(self.cfg):
            raise InputError(f"{config_file} describes a classifier: ClassPredictor and convmae-det predict take it")
        if is_segmentor(self.cfg):
            raise InputError(
                f"{config_file} describes a segmentor: SegmentationPredictor and convmae-det predict take it"
            )
        self.precision = choose_evaluation_precision(self.cfg)
        log_precision(self.precision)
        self.class_names, self.category_ids = read_classes(self.cfg)
        self.metadata = Metadata(name="predictor", thing_classes=self.class_names)
        self.thresholds_file: str | None = None
        self.score_thresholds: list[float] | None = None
        if score_threshold == AUTO:
            self.thresholds_file = find_thresholds(thresholds, weights, config_file)
            self.score_thresholds = read_thresholds(self.thresholds_file, self.class_names)
        elif score_threshold is not None:
            self.score_thresholds = [float(score_threshold)] * len(self.class_names)
        self.drawn_from = DRAWN_FROM if self.score_thresholds is None else min(self.score_thresholds)
        self.batch_size = batch_size
        self.decoding = Decoding.from_config(self.cfg)
        self.augmentations = T.AugmentationList(build_augmentations(self.cfg, is_train=False))
        self.whole_side = compute_whole_side(self.cfg)
        if overlap is not None and not self.whole_side:
            raise InputError(f"an overlap of {overlap} is one of tiles, but images are taken whole: give a tile, too")
        self.model = build_trained_model(self.cfg, str(weights)).eval()
        self._detect = tile_predictions(self.cfg, augment_predictions(self.cfg, self.model), batch_size)

    def __call__(self, images: Picture | list[Picture] | tuple[Picture, ...]) -> Instances | list[Instances]:
        """Finds the objects in an image, or in each image of a list or tuple, in its order.

        Args:
            images: paths; arrays, (H, W, 3) RGB, (H, W) grey or (H, W, 4) RGBA, of uint8; or Pillow's images

        Returns:
            On the CPU, at the image's own size, by falling score: pred_boxes (n, 4) in pixels x0 y0 x1 y1, scores (n),
            pred_classes (n) int64 and, with MODEL.MASK_ON, pred_masks (n, H, W) bool: `RunLengthMasks`, which pass as a
            tensor but take little memory until they are used as a whole

        Raises:
            InputError: an image that can't be read, by its name.
        """
        if not isinstance(images, (list, tuple)):
            return self([images])[0]
        numbered = (self.prepare(image) | {"index": index} for index, image in enumerate(images))
        results = {image["index"]: instances for image, instances in self.stream(numbered)}
        return [results[index] for index in range(len(images))]

    def prepare(self, image: Picture) -> dict:
        """Converts an image to the model's input.

        Returns:
            "image", (C, h, w) uint8, resized as INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST say, or as it is where
            TEST.AUG will resize it; "height" and "width", the size of the original; with TEST.TILE "large_image", from
            which its tiles are read

        Raises:
            InputError: see :meth:`__call__`.
        """
        if self.whole_side:
            large = open_picture(image, self.cfg.INPUT.FORMAT, self.decoding)
            return build_tiled_input(large, self.augmentations, self.whole_side)
        pixels = load_pixels(image, self.cfg.INPUT.FORMAT, self.decoding)
        height, width = pixels.shape[:2]
        return {"image": convert_pixels(pixels, self.augmentations), "height": height, "width": width}

    def stream(self, inputs: Iterable[dict]) -> Iterator[tuple[dict, Instances]]:
        """Yields each input of :meth:`prepare`, with whatever else it contains, and the objects found.

        `inputs` may be endless; a few batches are read ahead. Inputs of the same size keep their order, and with a
        batch size of one all do; others may overtake each other.
        """
        waiting: dict[tuple[int, int], list[dict]] = {}  # by padded size
        for image in inputs:
            if self.whole_side:
                yield from self._run([image])
                continue
            size = self._padded_size(image)
            waiting.setdefault(size, []).append(image)
            if len(waiting[size]) == self.batch_size:
                yield from self._run(waiting.pop(size))
            elif sum(map(len, waiting.values())) == MAX_WAITING * self.batch_size:
                yield from self._run(waiting.pop(next(iter(waiting))))  # the longest waiting ones
        for group in waiting.values():
            yield from self._run(group)

    def _padded_size(self, image: dict) -> tuple[int, int]:
        """Computes the size to which the model pads an image alone, in multiples of its coarsest stride."""
        backbone: Any = self.model.backbone
        stride = backbone.size_divisibility
        height, width = image["image"].shape[1:]
        return math.ceil(height / stride), math.ceil(width / stride)

    def _run(self, batch: list[dict]) -> list[tuple[dict, Instances]]:
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            found = [output["instances"].to("cpu") for output in self._detect(batch)]
        results = [copy_instances(instances) for instances in found]
        if self.score_thresholds is not None:
            least = torch.tensor(self.score_thresholds)
            results = [instances[instances.scores >= least[instances.pred_classes]] for instances in results]
        return list(zip(batch, results, strict=True))

    def to_coco(self, instances: Instances, image_id: int | str) -> list[dict]:
        """Converts the objects to COCO's results format, which pycocotools' loadRes reads.

        Returns:
            For each "image_id", "bbox" x y w h in pixels, "category_id", one of `category_ids`, "score" and, with
            masks, "segmentation" in run lengths; "track_id" of those that a `Tracker` follows
        """
        entries = describe_instances(instances, image_id)
        for entry in entries:
            entry["category_id"] = self.category_ids[entry["category_id"]]
        tracks = instances.track_ids.tolist() if instances.has("track_ids") else []
        for entry, track in zip(entries, tracks, strict=False):
            if track >= 0:
                entry["track_id"] = track
        return entries

    def describe_threshold(self) -> str:
        """Says from which score on objects are drawn."""
        return "score ≥ that of the class" if self.thresholds_file else f"score ≥ {self.drawn_from:.0%}"

    def draw(
        self,
        image: Picture,
        instances: Instances,
        score_threshold: float | None = None,
        traces: Mapping[int, np.ndarray] | None = None,
    ) -> Image.Image:
        """Draws the objects on the image; small images are enlarged so that the labels can be read.

        Args:
            image: as for :meth:`__call__`
            instances: found in it
            score_threshold: of what is drawn; None: `drawn_from`
            traces: of a `Tracker`
        """
        return self.draw_on(self.load_visible(image), instances, score_threshold, traces)

    def draw_on(
        self,
        pixels: np.ndarray,
        instances: Instances,
        score_threshold: float | None = None,
        traces: Mapping[int, np.ndarray] | None = None,
    ) -> Image.Image:
        """Does what :meth:`draw` does, on what :meth:`load_visible` gives, (H, W, 3) uint8 RGB."""
        shown = instances[instances.scores >= (self.drawn_from if score_threshold is None else score_threshold)]
        if shown.image_size != (size := pixels.shape[:2]):
            traces = resize_traces(traces or {}, shown.image_size, size)
            shown = resize_instances(shown, size)
        return Image.fromarray(draw_instances(pixels, shown, self.metadata, traces))

    def load_visible(self, image: Picture) -> np.ndarray:
        """Loads what is shown of an image, (H, W, 3) uint8 RGB; shrunk if it is large and taken in tiles."""
        load = load_shrunk if self.whole_side else load_visible
        return load(image, self.cfg.INPUT.FORMAT, self.decoding)


def copy_instances(instances: Instances) -> Instances:
    """Copies what was found in torch.inference_mode, outside of which it can't be changed, to what can be."""
    fields = {name: values.clone() for name, values in instances.get_fields().items()}
    return Instances(instances.image_size, **fields)


def read_classes(cfg: CfgNode) -> tuple[list[str], list[int]]:
    """Reads names and original ids of the model's classes.

    Raises:
        InputError: it has no classes, or not as many as there are names.
    """
    key = CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    if key is None:
        raise InputError(
            f"the configuration describes a {cfg.MODEL.META_ARCHITECTURE}, but prediction needs a detector or a "
            f"classifier ({', '.join(CLASS_KEYS)}): take the config.yaml that train_net.py wrote beside the weights"
        )
    number, categories = operator.attrgetter(key)(cfg), cfg.DATASETS.CATEGORIES
    if not categories:
        return [f"class {index}" for index in range(number)], list(range(1, number + 1))
    if len(categories) != number:
        raise InputError(f"DATASETS.CATEGORIES lists {len(categories)} classes, but {key} is {number}: correct one")
    return [str(name) for _, name in categories], [id for id, _ in categories]
