"""What a study has found so far: its numbers as JSON, tables as Markdown, and curves."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from ..errors import InputError
from ..evaluation.metrics_file import Curve, read_metrics
from ..files import atomic_write
from ..visualization.sheet import save_png
from ..visualization.studies import describe_share, draw_convergence, draw_shares
from .plan import Run, Study
from .state import read_state

JSON, MARKDOWN, CONVERGENCE, SHARES = "study.json", "study.md", "convergence.png", "shares.png"


def write_report(study: Study, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes what the finished runs have come to, into `folder`, over an earlier report.

    Returns:
        the files: JSON and Markdown and, where there is something to draw, PNG

    Raises:
        InputError: one can't be written.
    """
    result = collect(study, runs)
    contents = {JSON: json.dumps(result, indent=2), MARKDOWN: format_markdown(result)}
    for name, text in contents.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode() + b"\n")
    metric, names = study.metrics[0], [variant.name for variant in study.variants if variant.in_table]
    pictures = {}
    panels = _collect_curves(result, metric)
    if any(len(curve) > 1 for panel in panels.values() for curves in panel.values() for curve in curves):
        pictures[CONVERGENCE] = draw_convergence(panels, names, metric)
    lines = _collect_lines(result, metric)
    if any(len(line) > 1 for line in lines.values()):
        pictures[SHARES] = draw_shares(lines, names, metric)
    for name, picture in pictures.items():
        save_png(picture, str(folder / name))
    return [folder / name for name in (*contents, *pictures)]


def collect(study: Study, runs: Sequence[Run]) -> dict[str, Any]:
    """Collects the numbers of a study.

    Returns:
        "study" (the file), "metrics", "runs" (a dict for each, with "values", the last of each metric, and "curves",
        of [iteration, value], if it is finished) and "table" (a dict for each metric, variant and share, with "mean",
        "deviation", the sample standard deviation, None for one run, and "n")
    """
    described = [_describe_run(study, run) for run in runs]
    table = []
    for metric in study.metrics:
        for variant in filter(lambda variant: variant.in_table, study.variants):
            for share in variant.shares:
                values = [
                    run["values"][metric]
                    for run in described
                    if (run["variant"], run["share"]) == (variant.name, share) and metric in run["values"]
                ]
                if values:
                    deviation = statistics.stdev(values) if len(values) > 1 else None
                    numbers = {"mean": statistics.mean(values), "deviation": deviation, "n": len(values)}
                    table.append({"metric": metric, "variant": variant.name, "share": share, **numbers})
    return {"study": study.file, "metrics": list(study.metrics), "runs": described, "table": table}


def _describe_run(study: Study, run: Run) -> dict[str, Any]:
    state = read_state(run)
    curves = _read_curves(run, study.metrics) if state.finished else {}
    return {
        "variant": run.variant.name,
        "share": run.share,
        "seed": run.seed,
        "in_table": run.variant.in_table,
        "folder": str(run.folder),
        "finished": state.finished,
        "seconds": round(state.seconds, 1),
        "values": {metric: curve[-1][1] for metric, curve in curves.items()},
        "curves": curves,
    }


def _read_curves(run: Run, metrics: Sequence[str]) -> dict[str, Curve]:
    """Reads the numbers of the metrics, without those that couldn't be computed, such as AP without objects."""
    try:
        curves = read_metrics(str(run.folder))
    except InputError:
        return {}
    kept = {metric: [point for point in curves.get(metric, ()) if math.isfinite(point[1])] for metric in metrics}
    return {metric: curve for metric, curve in kept.items() if curve}


def _collect_curves(result: dict[str, Any], metric: str) -> dict[float, dict[str, list[Curve]]]:
    """Collects the curves of all seeds, by share and variant."""
    panels: dict[float, dict[str, list[Curve]]] = {}
    for run in result["runs"]:
        if run["in_table"] and metric in run["curves"]:
            panels.setdefault(run["share"], {}).setdefault(run["variant"], []).append(run["curves"][metric])
    return dict(sorted(panels.items()))


def _collect_lines(result: dict[str, Any], metric: str) -> dict[str, list[tuple[float, float, float]]]:
    """Collects share, mean and deviation, by variant and rising share."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in sorted(result["table"], key=lambda row: row["share"]):
        if row["metric"] == metric:
            lines.setdefault(row["variant"], []).append((row["share"], row["mean"], row["deviation"] or 0.0))
    return lines


def format_markdown(result: dict[str, Any]) -> str:
    """Formats a table for each metric, a line for each variant and a column for each share; and what is missing."""
    finished = sum(run["finished"] for run in result["runs"])
    seconds = tqdm.format_interval(sum(run["seconds"] for run in result["runs"]))
    parts = [f"{result['study']}: {finished} of {len(result['runs'])} runs are finished; they took {seconds}."]
    parts += [_format_table(result, metric) for metric in result["metrics"]]
    parts.append("Mean ± sample standard deviation of n runs with different seeds, of their last evaluations.")
    missing = [
        f"{run['variant']}, share {run['share']:g}, seed {run['seed']}" for run in result["runs"] if not run["finished"]
    ]
    if missing:
        parts.append("Not finished: " + "; ".join(missing) + ".")
    return "\n\n".join(parts)


def _format_table(result: dict[str, Any], metric: str) -> str:
    rows = [row for row in result["table"] if row["metric"] == metric]
    if not rows:
        return (
            f"No finished run has {metric} in its metrics.json; `metric` may name what they have, then --report-only."
        )
    shares, names = sorted({row["share"] for row in rows}), dict.fromkeys(row["variant"] for row in rows)
    cells = {(row["variant"], row["share"]): _format_cell(row) for row in rows}
    headers = [metric, *(describe_share(share) for share in shares)]
    lines = [[name, *(cells.get((name, share), "–") for share in shares)] for name in names]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)


def _format_cell(row: dict[str, Any]) -> str:
    deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.2g}"
    return f"{row['mean']:.4g}{deviation} (n={row['n']})"
