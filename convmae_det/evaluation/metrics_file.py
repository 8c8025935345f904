"""The metrics.json that a run leaves in OUTPUT_DIR."""

import json
import math
import os

from ..errors import InputError

Curve = list[tuple[int, float]]  # iterations, rising, and values

MEASURED = {"total_loss", "time", "lr", "bbox/AP"}  # one of these is in what any training writes


def read_metrics(path: str) -> dict[str, Curve]:
    """The curve of each number in a metrics.json; `path` may be the OUTPUT_DIR that holds it.

    What a run wrote after the checkpoint that it was resumed from gives way to what it wrote the second time. Lines
    that were cut off, when a run was killed, are left out.

    Raises InputError: there is no such file, or nothing in it that can be drawn.
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
    if not curves.keys() & MEASURED:
        problem = "is empty: the first metrics are written after 20 iterations"
        if os.path.getsize(path):
            problem = "holds no metrics of training: name the OUTPUT_DIR of a run, or its metrics.json"
        raise InputError(f"{path} {problem}")
    return curves


def _parse(line: str) -> dict:
    """The record in a line, empty if it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("iteration"), int) else {}
