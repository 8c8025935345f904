"""Reads the metrics.json that a run leaves in OUTPUT_DIR."""

import json
import math
import os

from ..errors import InputError

Curve = list[tuple[int, float]]  # iterations, rising, and values

TRAINING_METRICS = {"total_loss", "time", "lr", "bbox/AP", "top1"}  # any training writes at least one of these


def read_metrics(path: str) -> dict[str, Curve]:
    """Reads the curve of each number in a metrics.json.

    Where a resumed run wrote an iteration a second time, the second values count. Incomplete lines, which a killed run
    leaves, are ignored.

    Args:
        path: the file, or the OUTPUT_DIR that contains it

    Raises:
        InputError: there is no such file, or nothing in it that can be drawn.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "metrics.json")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            records = [record for line in file if (record := _parse(line))]
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}): name the OUTPUT_DIR of a run, or its metrics.json"
        ) from error
    curves: dict[str, Curve] = {}
    for record in records:
        iteration = record.pop("iteration")
        for name, value in record.items():
            if isinstance(value, int | float):
                curve = curves.setdefault(name, [])
                while curve and curve[-1][0] >= iteration:
                    curve.pop()
                curve.append((iteration, value if math.isfinite(value) else math.nan))
    if not curves.keys() & TRAINING_METRICS:
        problem = "is empty: the first metrics are written after 20 iterations"
        if os.path.getsize(path):
            problem = "holds no metrics of training: name the OUTPUT_DIR of a run, or its metrics.json"
        raise InputError(f"{path} {problem}")
    return curves


def _parse(line: str) -> dict:
    """Parses the record in a line; empty if there is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("iteration"), int) else {}
