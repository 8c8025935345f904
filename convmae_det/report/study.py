"""The sections on a study: its tables, how fast the variants learn, how many labels they need, its runs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import mean

from markupsafe import Markup
from tqdm import tqdm

from ..visualization.studies import describe_share
from .charts import Axis, Line, draw_lines
from .page import Section, join, render
from .tables import Cell, render_table

COLOURS = 10  # of the page's style


def build_study_sections(result: Mapping) -> Iterator[Section]:
    """Builds the sections on a study.

    Args:
        result: the content of its study.json
    """
    names = list(dict.fromkeys(run["variant"] for run in result["runs"] if run["in_table"]))
    colours = {name: f"var(--c{place % COLOURS})" for place, name in enumerate(names)}
    tables = [_build_table(result, metric) for metric in result["metrics"]]
    yield Section(
        "What the study has found",
        render("findings.html", findings=find_differences(result))
        + (join(filter(None, tables)) or render("problems.html", problems=["No run has finished."])),
        "Mean ± sample standard deviation over runs with different seeds (n), of their last evaluations. Variants "
        "whose ranges overlap are not told apart by so few runs.",
    )
    for metric in result["metrics"][:1]:
        if charts := [*_draw_convergence(result, metric, colours), *_draw_shares(result, metric, colours)]:
            yield Section(
                "Curves",
                Markup('<div class="charts">{}</div>').format(join(charts)),
                "How fast the variants learn: thin lines are runs, bold ones their means. And, where shares of the "
                "training images were tried, how many labels they need.",
            )
    yield _build_runs(result)


def find_differences(result: Mapping) -> list[str]:
    """Finds which variant is best by the first metric, for each share of the images, in sentences."""
    metric, sentences = result["metrics"][0], []
    rows = sorted((row for row in result["table"] if row["metric"] == metric), key=lambda row: row["share"])
    for share, group in groupby(rows, key=lambda row: row["share"]):
        ranked = sorted(group, key=lambda row: -row["mean"])
        if len(ranked) < 2:
            continue
        best, second = ranked[:2]
        spread = (best["deviation"] or 0) + (second["deviation"] or 0)
        difference = best["mean"] - second["mean"]
        sure = (
            "more than both deviations together"
            if difference > spread and best["n"] > 1
            else "which is within what seeds alone may make"
        )
        sentences.append(
            f"With {describe_share(share)}, “{best['variant']}” is best: {metric} {best['mean']:.1f}, {difference:.1f} "
            f"above “{second['variant']}”, {sure}."
        )
    return sentences


def _build_table(result: Mapping, metric: str) -> Markup:
    rows = [row for row in result["table"] if row["metric"] == metric]
    if not rows:
        return Markup()
    shares = sorted({row["share"] for row in rows})
    cells = {(row["variant"], row["share"]): _describe(row) for row in rows}
    headers = [metric, *(describe_share(share) for share in shares)]
    variants = dict.fromkeys(row["variant"] for row in rows)
    lines = [[name, *(cells.get((name, share)) for share in shares)] for name in variants]
    return render_table(headers, lines, f"{metric}, by variant")


def _describe(row: Mapping) -> Cell:
    deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.2g}"
    return Cell(f"{row['mean']:.4g}{deviation} (n={row['n']})", row["mean"], is_number=True)


def _draw_convergence(result: Mapping, metric: str, colours: Mapping[str, str]) -> Iterator[Markup]:
    runs = [run for run in result["runs"] if run["in_table"] and len(run["curves"].get(metric, ())) > 1]
    for share, group in groupby(sorted(runs, key=lambda run: run["share"]), key=lambda run: run["share"]):
        curves: dict[str, list[Sequence]] = {}
        for run in group:
            curves.setdefault(run["variant"], []).append(run["curves"][metric])
        several = {name: of_name for name, of_name in curves.items() if len(of_name) > 1}
        pale = [Line("", curve, colours[name], "pale") for name, of_name in several.items() for curve in of_name]
        means = [Line(name, _average(curves[name]), colours[name], "strong") for name in colours if name in curves]
        yield draw_lines(describe_share(share), [*pale, *means], Axis("iteration", lowest=0), Axis(metric))


def _average(curves: Sequence[Sequence]) -> list[tuple[float, float]]:
    """Averages curves where all have a value."""
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*map(set, values)))
    return [(iteration, mean(value[iteration] for value in values)) for iteration in common]


def _draw_shares(result: Mapping, metric: str, colours: Mapping[str, str]) -> Iterator[Markup]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(result["table"], key=lambda row: row["share"]):
        if row["metric"] == metric:
            points.setdefault(row["variant"], []).append((100 * row["share"], row["mean"]))
    lines = [Line(name, points[name], colours[name], dots=True) for name in colours if len(points.get(name, ())) > 1]
    if lines:
        axis = Axis("training images, %", lowest=0, highest=100)
        yield draw_lines("By share of the training images", lines, axis, Axis(metric))


def _build_runs(result: Mapping) -> Section:
    rows = [
        [
            run["variant"],
            Cell(describe_share(run["share"]), run["share"]),
            run["seed"],
            "finished" if run["finished"] else "not finished",
            Cell(tqdm.format_interval(run["seconds"]), run["seconds"], is_number=True),
            *(run["values"].get(metric) for metric in result["metrics"]),
        ]
        for run in result["runs"]
    ]
    headers = ["variant", "share", "seed", "state", "time", *result["metrics"]]
    return Section("Runs", render_table(headers, rows), "Each run has a folder of its own, with a report of its own.")
