"""What the checks have found, as text and as JSON."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from ...errors import make_printable
from .checks import CHECKS
from .findings import Example, Finding, Severity, format_count
from .inspection import Inspection, run_checks
from .splits import Split
from .statistics import Histogram, compute_histograms

WIDTH = 110  # characters of a line
MOST_SHOWN = 3  # examples of a finding in text
MOST_FILES = 4  # files of an example
HEADINGS = {
    Severity.ERROR: "Errors: training refuses this, or what is measured is worthless",
    Severity.WARNING: "Warnings: trains, but learns or measures something else than is meant",
    Severity.NOTE: "Notes",
}


@dataclass(frozen=True)
class Account:
    """What is said of the data.

    Attributes:
        splits: the data sets
        findings: the most severe first
        histograms: of sizes
        base: the folder that all paths of images begin with; empty if there is none
    """

    splits: Sequence[Split]
    findings: Sequence[Finding]
    histograms: Sequence[Histogram]
    base: str

    def count(self, severity: Severity) -> int:
        """Counts the findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def shorten(self, path: str) -> str:
        """Writes a path relative to `base`, safe to print."""
        return make_printable(path.removeprefix(os.path.join(self.base, "")) if self.base else path)


def give_account(data: Inspection) -> Account:
    """Runs all checks."""
    folders = {os.path.dirname(path) for split in data.loaded for path in split.paths}
    base = os.path.commonpath(folders) if folders and len({os.path.isabs(path) for path in folders}) == 1 else ""
    return Account(data.splits, run_checks(CHECKS, data), compute_histograms(data), base)


def describe_split(split: Split) -> str:
    """Describes a data set in a line."""
    if split.problem:
        return f"{split.role}: {split.name} can't be read"
    parts = [format_count(len(split.paths), "image")]
    if split.objects is not None:
        parts += [
            f"{format_count(len(split.objects.entries), 'object')} of {format_count(len(split.classes), 'class')}"
        ]
    elif split.labels is not None:
        parts += [format_count(len(split.classes), "class")]
    return f"{split.role}: {split.name}: {', '.join(parts)}" + (f" ({split.source})" if split.source else "")


def summarise(account: Account) -> str:
    """Counts the findings in a line."""
    errors, warnings, notes = (account.count(severity) for severity in sorted(Severity, reverse=True))
    counts = [format_count(errors, "error"), format_count(warnings, "warning"), format_count(notes, "note")]
    return ", ".join(counts)


def format_account(account: Account) -> str:
    """Formats everything as text for a terminal."""
    lines = [*map(describe_split, account.splits)]
    lines += ["", format_histogram(account.histograms[0])] if account.histograms else []
    if account.base and any(finding.examples for finding in account.findings):
        lines += ["", f"Images below are named relative to {account.base}"]
    for severity, heading in HEADINGS.items():
        if account.count(severity):
            lines += ["", heading]
            lines += [
                line
                for finding in account.findings
                if finding.severity == severity
                for line in _format(finding, account)
            ]
    return make_printable("\n".join([*lines, "", summarise(account)]))


def format_histogram(histogram: Histogram) -> str:
    """Formats a histogram as a table with a column for each data set, without the empty bins at its ends."""
    filled = [any(row) for row in zip(*histogram.counts.values(), strict=True)]
    first, last = filled.index(True), len(filled) - filled[::-1].index(True)
    columns = [_format_shares(counts)[first:last] for counts in histogram.counts.values()]
    rows = list(zip(histogram.bins[first:last], *columns, strict=True))
    return tabulate(rows, [histogram.title, *histogram.counts], "pipe", colalign=["left"] + ["right"] * len(columns))


def _format_shares(counts: Sequence[int]) -> list[str]:
    return [f"{count:,} ({count / max(sum(counts), 1):.0%})" if count else "" for count in counts]


def _format(finding: Finding, account: Account) -> Iterator[str]:
    sentence = finding.problem[0].upper() + finding.problem[1:]
    yield from textwrap.wrap(f"{sentence}.", WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False)
    if finding.advice:
        advice = f"What to do: {finding.advice}."
        yield from textwrap.wrap(advice, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    for example in finding.examples[:MOST_SHOWN]:
        yield f"    {format_example(example, account)}"
    if len(finding.examples) > MOST_SHOWN:
        yield f"    … and {len(finding.examples) - MOST_SHOWN:,} more (--json FILE lists them all)"


def format_example(example: Example, account: Account) -> str:
    """Formats files, annotation and detail in a line."""
    names = [account.shorten(path) for path in example.files]
    shown = " = ".join(names[:MOST_FILES]) + (
        f" and {len(names) - MOST_FILES:,} more" if len(names) > MOST_FILES else ""
    )
    number = f"annotation {example.annotation}" if example.annotation is not None else ""
    number = "" if number and number in example.detail else number
    return ": ".join(filter(None, [", ".join(filter(None, [shown, number])), example.detail]))


def encode_account(account: Account) -> dict:
    """Makes what JSON can hold of it, with all examples."""
    return {
        "summary": {severity.name.lower(): account.count(severity) for severity in Severity},
        "data_sets": [
            {
                "name": split.name,
                "role": split.role,
                "source": split.source,
                "images": len(split.paths),
                "objects": None if split.objects is None else len(split.objects.entries),
                "classes": dict(zip(split.classes, split.counts.tolist(), strict=True)),
            }
            for split in account.splits
        ],
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity.name.lower(),
                "problem": finding.problem,
                "advice": finding.advice,
                "count": finding.count,
                "examples": [example._asdict() for example in finding.examples],
            }
            for finding in account.findings
        ],
        "histograms": [histogram._asdict() for histogram in account.histograms],
    }
