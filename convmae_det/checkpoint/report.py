"""Reports what became of each weight of a file and each parameter of a model."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tabulate import tabulate


@dataclass
class Report:
    """The result of loading. Names are the model's; in `left_out`, the file's where the model has no such parameter."""

    path: str
    kind: str  # of the file, with its preset or widths
    matched: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)  # from, to
    adapted: dict[str, str] = field(default_factory=dict)  # to other channels of the images: shapes
    new: dict[str, str] = field(default_factory=dict)  # in the model without a source in the file: the reason
    left_out: dict[str, str] = field(default_factory=dict)  # in the file but not used: the reason

    def __str__(self) -> str:
        resized = {
            name: f"{format_shape(before)} → {format_shape(after)}" for name, (before, after) in self.resized.items()
        }
        rows = [
            *build_rows("matched", dict.fromkeys(self.matched, "")),
            *build_rows("resized", resized),
            *build_rows("adapted to the channels", self.adapted),
            *build_rows("new", self.new),
            *build_rows("left out", self.left_out),
        ]
        table = tabulate(rows, headers=["", "tensors", "where", "why"], tablefmt="simple")
        return f"{self.path}: {self.kind}\n{table}"


def build_rows(what: str, reasons: dict[str, str]) -> list[tuple[str, int, str, str]]:
    """Builds one row for each part of the model and reason; names without a dot share one."""
    groups = defaultdict(list)
    for name, reason in reasons.items():
        groups[find_part(name) if "." in name else "", reason].append(name)
    return [
        (what, len(names), part if part and len(names) > 1 else ", ".join(names), why)
        for (part, why), names in groups.items()
    ]


def find_part(name: str) -> str:
    """Finds the part of a model that loads as a whole: the encoder, the FPN, the RPN head, the box head, …"""
    words = name.split(".")
    if "encoder" in words:
        return ".".join(words[: words.index("encoder") + 1])
    if words[0] == "backbone":
        return f"backbone.{words[1].split('_')[0]}"
    return ".".join(words[:2] if words[0] == "roi_heads" or "auxiliary_head" in words else words[:1])


def collapse_blocks(problems: Iterable[tuple[str, str]]) -> list[str]:
    """Formats (name, problem) as lines, one for all blocks of a stage that have the same problem."""
    groups = defaultdict(list)
    for name, problem in problems:
        pattern = re.sub(r"(?<=\bblocks\.)\d+", "{}", name)
        index = re.search(r"\bblocks\.(\d+)", name)
        groups[pattern, problem].append(int(index[1]) if index else 0)
    return [f"{pattern.format(format_ranges(indices))}: {problem}" for (pattern, problem), indices in groups.items()]


def format_ranges(indices: list[int]) -> str:
    """Formats [0, 1, 2, 5] as {0-2,5}."""
    if len(indices) == 1:
        return str(indices[0])
    firsts = [i for i in sorted(indices) if i - 1 not in indices]
    lasts = [i for i in sorted(indices) if i + 1 not in indices]
    runs = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True)]
    return f"{{{','.join(runs)}}}"


def format_shape(shape: tuple[int, ...]) -> str:
    """Formats (2, 3) as 2×3."""
    return "×".join(map(str, shape))
