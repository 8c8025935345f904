"""The README.md of a published model: what it is, what it scores, and how to use it, filled in from its run."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tabulate import tabulate
from yacs.config import CfgNode

from ..checkpoint.fitting import Weights
from ..config.architectures import is_detector
from ..evaluation.metrics_file import Curve

PAPER = "https://arxiv.org/abs/2205.03892"
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Of COCO's kinds of results: their name, and the hub's task with its title.
KINDS = {
    "bbox": ("box", "object-detection", "Object Detection"),
    "segm": ("mask", "image-segmentation", "Instance Segmentation"),
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

USE_ENCODER = """\
import convmae_det

encoder = convmae_det.from_pretrained("{name}")
features = encoder(images)  # (N, {channels}, H, W), less encoder.mean, divided by encoder.std → a dict of e1 … e4"""


class Score(NamedTuple):
    """COCO's MEASURES of one kind, in percent, on one data set; None where there is none."""

    dataset: str  # empty if it is the only one
    kind: str  # of KINDS
    values: list[float | None]


def model_card(
    name: str, cfg: CfgNode, weights: Weights, curves: Mapping[str, Curve], file: str, license: str, version: str
) -> str:
    """The card of the model `name`.

    It tells of the `weights` of the run's `file`, its configuration, and its metrics, empty if there are none. AP
    stands in the metadata, too, from which the hub shows it. Needs huggingface_hub.
    """
    from huggingface_hub import ModelCardData

    detector = is_detector(cfg)
    what = f"A {cfg.MODEL.META_ARCHITECTURE} on a ConvMAE encoder" if detector else "A pretrained ConvMAE encoder"
    use = USE_DETECTOR if detector else USE_ENCODER
    found = scores(weights, curves) if detector else []
    text = TEXT.format(
        name=name,
        what=what,
        version=version,
        paper=PAPER,
        facts=facts(cfg, weights, file),
        results=score_table(found) if detector else loss(weights, curves),
        use=use.format(name=name, channels=weights.shape.in_channels),
    )
    results = eval_results(found, ", ".join(cfg.DATASETS.TEST))
    metadata = ModelCardData(
        license=license,
        library_name="convmae_det",
        pipeline_tag="object-detection" if detector else "image-feature-extraction",
        tags=["convmae", "masked-autoencoder", *(["detectron2"] if detector else [])],
        **({"model_name": name.rpartition("/")[2], "eval_results": results} if results else {}),
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


def eval_results(found: Sequence[Score], datasets: str) -> list:
    """AP, in percent, as the hub takes it; `datasets` name those of a score that doesn't."""
    from huggingface_hub import EvalResult

    results = []
    for score in found:
        kind, task, title = KINDS[score.kind]
        if score.values[0] is not None:
            dataset = score.dataset or datasets
            results.append(
                EvalResult(
                    task_type=task,
                    task_name=title,
                    dataset_type=dataset,
                    dataset_name=dataset,
                    metric_type="mAP",
                    metric_name=f"{kind} AP",
                    metric_value=round(score.values[0], 3),
                )
            )
    return results


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
    return tabulate([(name, one_cell(text)) for name, text in rows.items()], headers=["", ""], tablefmt="pipe")


def one_cell(text: str) -> str:
    """A text, such as a stranger's names of classes, in which nothing ends the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def scores(weights: Weights, curves: Mapping[str, Curve]) -> list[Score]:
    """COCO's metrics of these weights; of the averaged ones if those are what was chosen."""
    average = "ema/" if (weights.entries.get("best") or {}).get("metric", "").startswith("ema/") else ""
    found = []
    for name in curves:
        match = re.fullmatch(rf"{average}(?:(.+)/)?({'|'.join(KINDS)})/AP", name)
        if match and (average or not name.startswith("ema/")):
            values = [value_at(curves.get(name + measure[2:]), weights) for measure in MEASURES]
            if any(value is not None for value in values):
                found.append(Score(match[1] or "", match[2], values))
    return found


def score_table(found: Sequence[Score]) -> str:
    if not found:
        return "It was not evaluated."
    rows = [[f"{one_cell(score.dataset)} {KINDS[score.kind][0]}".strip(), *score.values] for score in found]
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
