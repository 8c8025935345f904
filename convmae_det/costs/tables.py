"""Formats the figures of `costs.network.analyze` and `costs.bounds.compute_bounds` as text."""

from collections.abc import Sequence

from tabulate import tabulate


def format_costs(result: dict) -> str:
    """Formats two tables: parameters and operations by part, and time, memory and rates by image size."""
    first, train = result["sizes"][0]["size"], result["train"]
    kind = "optimizer step" if train else "forward pass"
    return "\n".join(
        [
            f"{result['config_file']}: {kind}, batch {result['batch_size']}, {result['device']}, "
            f"torch {result['torch']}",
            f"Precision: {result['precision']}",
            "",
            _format_parts(result),
            "",
            "GFLOP: operations of a forward pass for one image, a multiply-add counted as two.",
            "",
            _format_sizes(result),
            "",
            f"Time and GFLOP a pixel: relative to {first}×{first}. Their ratio is 1 where time follows operations."
            f"{' GFLOP/s: a backward pass counts as two forward.' if train else ''}",
        ]
    )


def format_bounds(result: dict) -> str:
    """Formats a table of bounds by image size."""
    kind, moved = ("optimizer step", "a step") if result["train"] else ("forward pass", "a pass")
    headers = ["size", f"TFLOP {moved}", "GB moved", "ms of operations", "ms of bytes", "images/s at most"]
    headers.append(f"GB held, of {result['memory'] / 1e9:.0f}")
    rows = [
        [
            f"{row['size']}×{row['size']}",
            f"{row['operations'] / 1e12:.2f}",
            f"{row['bytes'] / 1e9:.1f}",
            f"{row['seconds_of_operations'] * 1e3:.2f}",
            f"{row['seconds_of_bytes'] * 1e3:.2f}",
            f"{row['images_per_second']:.0f}",
            f"{row['held'] / 1e9:.1f}",
        ]
        for row in result["sizes"]
    ]
    return "\n".join(
        [
            f"{result['config_file']}: {kind}, batch {result['batch_size']}",
            f"Bounds of {result['card']}",
            "",
            _format_table(rows, headers),
            "",
            "Counted, not measured. GB moved is what kernels read and write, each by itself and not compiled; of a",
            "detector it is its backbone's, and so is what is held for the backward pass.",
        ]
    )


def _format_parts(result: dict) -> str:
    rows = [
        [part, count, *(row["operations"][part] for row in result["sizes"])]
        for part, count in result["parameters"].items()
    ]
    rows = [row for row in rows if any(row[1:])]
    rows.append(["total", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))])
    headers = ["part", "parameters, M", *(f"GFLOP at {row['size']}" for row in result["sizes"])]
    return _format_table(
        [[row[0], f"{row[1] / 1e6:.2f}", *(f"{n / 1e9:.2f}" for n in row[2:])] for row in rows], headers
    )


def _format_sizes(result: dict) -> str:
    headers = ["size", "seconds a pass", "images/s", "GFLOP/s", "time a pixel", "GFLOP a pixel", "ratio", "memory, GB"]
    batch, passes = result["batch_size"], 3 if result["train"] else 1
    rows = []
    for row in result["sizes"]:
        time, work = compute_cost_per_pixel(row, result["sizes"][0])
        rate = sum(row["operations"].values()) * batch * passes / row["seconds"]
        shown = (
            (row["seconds"], 3),
            (batch / row["seconds"], 2),
            (rate / 1e9, 0),
            (time, 2),
            (work, 2),
            (time / work, 2),
            (row["memory"] / 1e9, 2),
        )
        rows.append([f"{row['size']}×{row['size']}", *(f"{value:.{digits}f}" for value, digits in shown)])
    return _format_table(rows, headers)


def compute_cost_per_pixel(row: dict, first: dict) -> tuple[float, float]:
    """Computes time and operations for a pixel, as multiples of those at the first size."""
    pixels = (row["size"] / first["size"]) ** 2
    work = sum(row["operations"].values()) / sum(first["operations"].values())
    return row["seconds"] / first["seconds"] / pixels, work / pixels


def _format_table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * (len(headers) - 1)))
