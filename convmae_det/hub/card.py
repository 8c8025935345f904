"""The README.md of a published model: what it is, what it scores, and how to use it, filled in from its run."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tabulate import tabulate
from yacs.config import CfgNode

from ..checkpoint.weights import Weights
from ..config.architectures import is_autoencoder, is_classifier, is_detector, is_panoptic, is_segmentor
from ..evaluation.metrics_file import Curve

PAPER = "https://arxiv.org/abs/2205.03892"
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Kind(NamedTuple):
    """One of COCO's kinds of results."""

    name: str
    task: str  # on the hub
    title: str  # of that


KINDS = {
    "bbox": Kind("box", "object-detection", "Object Detection"),
    "segm": Kind("mask", "image-segmentation", "Instance Segmentation"),
}

TEXT = """\
# {name}

{what}, made with convmae_det {version}, an independent implementation of
[ConvMAE: Masked Convolution Meets Masked Autoencoders]({paper}).

{facts}

{results}

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

USE_CLASSIFIER = """\
import convmae_det

predictor = convmae_det.from_pretrained("{name}")
(scores,) = predictor(["image.jpg"])  # of predictor.class_names, which sum to 1"""

USE_SEGMENTOR = """\
import convmae_det

predictor = convmae_det.from_pretrained("{name}")
(labels,) = predictor(["image.jpg"])  # (H, W), the number of each pixel's class in predictor.class_names"""

USE_PANOPTIC = """\
import convmae_det

predictor = convmae_det.from_pretrained("{name}")
(found,) = predictor(["image.jpg"])  # found.ids, (H, W), and found.segments: id, name, isthing, score, area"""

USE_ENCODER = """\
import convmae_det

encoder = convmae_det.from_pretrained("{name}")
features = encoder(images)  # (N, {channels}, H, W), less encoder.mean, divided by encoder.std → a dict of e1 … e4"""


class Score(NamedTuple):
    """COCO's MEASURES of one kind, in percent, on one data set; None where there is none."""

    dataset: str  # empty if it is the only one
    kind: str  # of KINDS
    values: list[float | None]


def build_model_card(
    name: str, cfg: CfgNode, weights: Weights, curves: Mapping[str, Curve], file: str, license: str, version: str
) -> str:
    """Builds the card of a model; AP stands in its metadata, too, from which the hub shows it.

    Args:
        name: USER/NAME on the hub
        cfg: of its run
        weights: of its run
        curves: the metrics of its run; empty if there are none
        file: that the weights are from
        license: of the weights
        version: of this package
    """
    from huggingface_hub import ModelCardData

    detector = is_detector(cfg)
    what, use, task = f"A {cfg.MODEL.META_ARCHITECTURE} on a ConvMAE encoder", USE_DETECTOR, "object-detection"
    found = collect_scores(weights, curves) if detector else []
    means = collect_means(weights, curves, find_measures(cfg))
    results = format_scores(found) if detector else format_means(means)
    if is_panoptic(cfg):
        use, task, results = USE_PANOPTIC, "image-segmentation", f"{format_means(means)}\n\n{results}"
    elif is_classifier(cfg):
        use, task = USE_CLASSIFIER, "image-classification"
    elif is_segmentor(cfg):
        use, task = USE_SEGMENTOR, "image-segmentation"
    elif is_autoencoder(cfg):
        what, use, task = "A pretrained ConvMAE encoder", USE_ENCODER, "image-feature-extraction"
        results = describe_loss(weights, curves)
    text = TEXT.format(
        name=name,
        what=what,
        version=version,
        paper=PAPER,
        facts=format_facts(cfg, weights, file),
        results=results,
        use=use.format(name=name, channels=weights.shape.in_channels),
    )
    evaluations = list_eval_results(found, ", ".join(cfg.DATASETS.TEST))
    metadata = ModelCardData(
        license=license,
        library_name="convmae_det",
        pipeline_tag=task,
        tags=["convmae", "masked-autoencoder", *(["detectron2"] if detector else [])],
        **({"model_name": name.rpartition("/")[2], "eval_results": evaluations} if evaluations else {}),
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


def list_eval_results(found: Sequence[Score], datasets: str) -> list:
    """Lists AP, in percent, as the hub takes it; `datasets` name those of a score that doesn't."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=KINDS[score.kind].task,
            task_name=KINDS[score.kind].title,
            dataset_type=score.dataset or datasets,
            dataset_name=score.dataset or datasets,
            metric_type="mAP",
            metric_name=f"{KINDS[score.kind].name} AP",
            metric_value=round(score.values[0], 3),
        )
        for score in found
        if score.values[0] is not None
    ]


def format_facts(cfg: CfgNode, weights: Weights, file: str) -> str:
    last = find_iteration(weights)
    best = weights.entries.get("best")
    chosen = f", chosen by {best['metric']}" if best else ""
    rows = {
        "encoder": str(weights.shape),
        "parameters": f"{sum(tensor.numel() for tensor in weights.tensors.values()):,}",
        "trained on": ", ".join(cfg.DATASETS.TRAIN),
        "iterations": "unknown" if last is None else f"{last + 1:,}, {cfg.SOLVER.IMS_PER_BATCH} images each",
        "weights of": f"`{file}`{chosen}",
    }
    if not is_autoencoder(cfg):
        rows["evaluated on"] = ", ".join(cfg.DATASETS.TEST)
    if not is_autoencoder(cfg) and cfg.DATASETS.get("CATEGORIES"):
        rows["classes"] = ", ".join(str(category) for _, category in cfg.DATASETS.CATEGORIES)
    return tabulate([(name, escape_cell(text)) for name, text in rows.items()], headers=["", ""], tablefmt="pipe")


def escape_cell(text: str) -> str:
    """Changes a text, such as a stranger's names of classes, so that nothing in it ends the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def collect_scores(weights: Weights, curves: Mapping[str, Curve]) -> list[Score]:
    """Collects COCO's metrics of these weights; of the averaged ones if those are what was chosen."""
    average = "ema/" if (weights.entries.get("best") or {}).get("metric", "").startswith("ema/") else ""
    found = []
    for name in curves:
        match = re.fullmatch(rf"{average}(?:(.+)/)?({'|'.join(KINDS)})/AP", name)
        if match and (average or not name.startswith("ema/")):
            values = [find_value(curves.get(name + measure[2:]), weights) for measure in MEASURES]
            if any(value is not None for value in values):
                found.append(Score(match[1] or "", match[2], values))
    return found


def format_scores(found: Sequence[Score]) -> str:
    if not found:
        return "It was not evaluated."
    rows = [[f"{escape_cell(score.dataset)} {KINDS[score.kind].name}".strip(), *score.values] for score in found]
    return tabulate(rows, headers=["", *MEASURES], tablefmt="pipe", floatfmt=".1f", missingval="–")


def find_measures(cfg: CfgNode) -> str:
    """Finds which metrics, beside COCO's, tell how good a model is: their names, as a regular expression."""
    if is_segmentor(cfg):
        return "sem_seg/(?:mIoU|mACC|pACC|boundary_mIoU)"
    return "panoptic_seg/(?:PQ|SQ|RQ)(?:_th|_st)?" if is_panoptic(cfg) else "top1|top5|class_mean"


def collect_means(weights: Weights, curves: Mapping[str, Curve], measures: str) -> list[tuple[str, str, float]]:
    """Collects metrics of these weights; of the averaged ones if those are what was chosen.

    Args:
        weights: of the run
        curves: its metrics
        measures: their names, as a regular expression

    Returns:
        data set, empty if it is the only one, name of the metric, and percent
    """
    average = "ema/" if (weights.entries.get("best") or {}).get("metric", "").startswith("ema/") else ""
    found = []
    for name in curves:
        match = re.fullmatch(rf"{average}(?:(.+)/)?(?:{measures})", name)
        value = find_value(curves[name], weights) if match and (average or not name.startswith("ema/")) else None
        if match and value is not None:
            found.append((match[1] or "", name.rpartition("/")[2], value))
    return found


def format_means(found: Sequence[tuple[str, str, float]]) -> str:
    if not found:
        return "It was not evaluated."
    rows = [[escape_cell(f"{data_set} {measure}".strip()), value] for data_set, measure, value in found]
    return tabulate(rows, headers=["", "%"], tablefmt="pipe", floatfmt=".2f")


def describe_loss(weights: Weights, curves: Mapping[str, Curve]) -> str:
    value = find_value(curves.get("total_loss"), weights)
    return "" if value is None else f"The loss of its reconstructions at the end was {value:.4f}."


def find_value(curve: Curve | None, weights: Weights) -> float | None:
    """Finds a metric of these weights: evaluation after iteration i is noted at i, the last one of a run at i + 1."""
    points, iteration = dict(curve or ()), find_iteration(weights)
    if iteration is None:
        return None
    value = points.get(iteration, points.get(iteration + 1))
    return None if value is None or math.isnan(value) else value


def find_iteration(weights: Weights) -> int | None:
    """Finds the last iteration, counted from 0, that made these weights; None if the file doesn't tell."""
    entries = weights.entries
    if isinstance(entries.get("best"), Mapping):
        return entries["best"]["iterations"] - 1
    return int(entries["iteration"]) if "iteration" in entries else None
