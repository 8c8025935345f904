"""The README.md of a published model: what it is, what it scores, and how to use it, filled in from its run."""

import math
import re
from collections.abc import Mapping

from tabulate import tabulate
from yacs.config import CfgNode

from ..checkpoint.fitting import Weights
from ..config.architectures import is_detector
from ..evaluation.metrics_file import Curve

PAPER = "https://arxiv.org/abs/2205.03892"
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
TASKS = {"bbox": "box", "segm": "mask"}

CARD = """\
---
license: {license}
library_name: convmae_det
pipeline_tag: {pipeline}
tags: [{tags}]
---

# {name}

{what}, made with convmae_det {version}, an independent implementation of
[ConvMAE: Masked Convolution Meets Masked Autoencoders]({paper}).

{facts}

{scores}

## Use

```python
{use}
```

`model.safetensors` holds the weights, `config.yaml` the configuration that they were trained with; neither runs code.
"""

USE_DETECTOR = """\
import convmae_det

predictor = convmae_det.from_pretrained("{name}")
instances = predictor("image.jpg")  # Detectron2's Instances: pred_boxes, scores, pred_classes, …"""

USE_ENCODER = """\
import convmae_det

encoder = convmae_det.from_pretrained("{name}")
features = encoder(images)  # (N, {channels}, H, W), less encoder.mean, divided by encoder.std → a dict of e1 … e4"""


def model_card(
    name: str, cfg: CfgNode, weights: Weights, curves: Mapping[str, Curve], file: str, license: str, version: str
) -> str:
    """The card of the model `name`: `weights` of the run's `file`, its configuration, and its metrics, empty if there
    are none."""
    detector = is_detector(cfg)
    shape = weights.shape
    kind = "object-detection" if detector else "image-feature-extraction"
    what = f"A {cfg.MODEL.META_ARCHITECTURE} on a ConvMAE encoder" if detector else "A pretrained ConvMAE encoder"
    use = USE_DETECTOR if detector else USE_ENCODER
    return CARD.format(
        license=license,
        pipeline=kind,
        tags=", ".join(["convmae", "masked-autoencoder", *(["detectron2"] if detector else [])]),
        name=name,
        what=what,
        version=version,
        paper=PAPER,
        facts=facts(cfg, weights, file),
        scores=scores(weights, curves) if detector else loss(weights, curves),
        use=use.format(name=name, channels=shape.in_channels),
    )


def facts(cfg: CfgNode, weights: Weights, file: str) -> str:
    iterations = iteration_of(weights)
    best = weights.entries.get("best")
    chosen = f", chosen by {best['metric']}" if best else ""
    rows = {
        "encoder": str(weights.shape),
        "parameters": f"{sum(tensor.numel() for tensor in weights.tensors.values()):,}",
        "trained on": ", ".join(cfg.DATASETS.TRAIN),
        "iterations": f"{iterations + 1:,}, {cfg.SOLVER.IMS_PER_BATCH} images each"
        if iterations is not None
        else "unknown",
        "weights of": f"`{file}`{chosen}",
    }
    if is_detector(cfg):
        rows["evaluated on"] = ", ".join(cfg.DATASETS.TEST)
    if is_detector(cfg) and cfg.DATASETS.get("CATEGORIES"):
        rows["classes"] = ", ".join(str(category) for _, category in cfg.DATASETS.CATEGORIES)
    return tabulate(rows.items(), headers=["", ""], tablefmt="pipe")


def scores(weights: Weights, curves: Mapping[str, Curve]) -> str:
    """COCO's metrics of these weights, in percent; of the averaged ones if those are what was chosen."""
    average = "ema/" if (weights.entries.get("best") or {}).get("metric", "").startswith("ema/") else ""
    rows = []
    for name in curves:
        if found := re.fullmatch(rf"{average}(?:(.+)/)?(bbox|segm)/AP", name):
            if not average and name.startswith("ema/"):
                continue
            values = [value_at(curves.get(name + measure[2:]), weights) for measure in MEASURES]
            rows.append([" ".join(filter(None, (found[1], TASKS[found[2]]))), *values])
    if not any(value is not None for row in rows for value in row[1:]):
        return "It was not evaluated."
    return tabulate(rows, headers=["", *MEASURES], tablefmt="pipe", floatfmt=".1f", missingval="–")


def loss(weights: Weights, curves: Mapping[str, Curve]) -> str:
    value = value_at(curves.get("total_loss"), weights)
    return "" if value is None else f"The loss of its reconstructions at the end was {value:.4f}."


def value_at(curve: Curve | None, weights: Weights) -> float | None:
    """A metric of these weights: an evaluation after iteration i is noted at i, the last one of a run at i + 1."""
    points, iteration = dict(curve or ()), iteration_of(weights)
    if iteration is None:
        return None
    value = points.get(iteration, points.get(iteration + 1))
    return None if value is None or math.isnan(value) else value


def iteration_of(weights: Weights) -> int | None:
    """The last iteration, counted from 0, that made these weights; None if the file doesn't tell."""
    entries = weights.entries
    if isinstance(entries.get("best"), Mapping):
        return entries["best"]["iterations"] - 1
    return int(entries["iteration"]) if "iteration" in entries else None
