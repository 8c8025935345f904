"""The page of `convmae-det check --html`: what is wrong with the data, with pictures, and what they are like."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from markupsafe import Markup
from PIL import Image

from ..data.image import Decoding
from ..data.inspection.account import HEADINGS, Account, format_example
from ..data.inspection.findings import Example, Finding, Severity
from ..data.inspection.image_files import read_small
from ..data.inspection.splits import Split
from ..errors import InputError, make_printable
from .charts import Stack, draw_columns
from .page import Chapter, Section, join, render, render_page
from .pictures import encode_picture
from .tables import render_table, render_tiles

SIDE = 400  # pixels of a picture
GAP = 8  # pixels between images that are compared
MOST_FIGURES, MOST_OPEN, MOST_LISTED = 6, 6, 200  # examples: with pictures, in a table that is open, in any table
MOST_COMPARED = 3  # images in a picture
COLOURS = (
    "In the pictures below, a red box is that of the annotation that is named; an orange one is what disagrees with "
    "it, the box around its mask or another annotation."
)
TITLES = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}


def render_data_check(account: Account, cfg: CfgNode) -> str:
    """Renders the page.

    Args:
        account: what was found
        cfg: how images are read
    """
    sections = [Section("At a glance", _render_summary(account), COLOURS)]
    for severity, heading in HEADINGS.items():
        if chosen := [finding for finding in account.findings if finding.severity == severity]:
            explanation = heading.partition(": ")[2]
            body = _render_findings(chosen, account, cfg)
            sections.append(Section(TITLES[severity], body, explanation[:1].upper() + explanation[1:]))
    if account.histograms:
        sections.append(Section("Sizes", _draw_histograms(account)))
    if any(split.classes for split in account.splits):
        sections.append(Section("Classes", _render_classes(account.splits)))
    names = dict.fromkeys(split.name for split in account.splits)
    title = f"Check of {' and '.join(names)}"
    return render_page(title, [Chapter(title, sections)])


def _render_summary(account: Account) -> Markup:
    tiles = {TITLES[severity]: account.count(severity) for severity in HEADINGS}
    rows = [
        [_name(split), len(split.paths), _count_objects(split), make_printable(split.source)]
        for split in account.splits
    ]
    table = render_table(["data set", "images", "objects", "from"], rows, sorts=False)
    return render_tiles(tiles) + table


def _name(split: Split) -> str:
    return split.name if split.name == split.role else f"{split.name} ({split.role})"


def _count_objects(split: Split) -> int | None:
    return None if split.objects is None else len(split.objects.entries)


def _render_findings(findings: Sequence[Finding], account: Account, cfg: CfgNode) -> Markup:
    rows = []
    for finding in findings:
        figures = _draw_examples(finding.examples[:MOST_FIGURES], account, cfg)
        table = _list_examples(finding, account) if len(figures) < len(finding.examples) else None
        rows.append((finding, figures, table))
    return render("data_findings.html", findings=rows, most_open=MOST_OPEN, most_listed=MOST_LISTED)


def _list_examples(finding: Finding, account: Account) -> Markup:
    rows = [
        [", ".join(map(account.shorten, example.files)), example.annotation, example.detail]
        for example in finding.examples[:MOST_LISTED]
    ]
    return render_table(["image", "annotation", "what"], rows)


def _draw_examples(examples: Sequence[Example], account: Account, cfg: CfgNode) -> list[Markup]:
    figures = (_draw_example(example, account, cfg) for example in examples if example.files)
    return [figure for figure in figures if figure is not None]


def _draw_example(example: Example, account: Account, cfg: CfgNode) -> Markup | None:
    """Draws the place of an object in its image, or images one above the other; None if they can't be read."""
    decoding = Decoding.from_config(cfg)
    try:
        read = [read_small(path, cfg.INPUT.FORMAT, decoding, SIDE // 2) for path in example.files[:MOST_COMPARED]]
    except InputError:
        return None
    picture, (height, width) = read[0]
    if len(read) > 1:
        picture = _stack([picture for picture, _ in read])
        width, height = picture.size
    name, _, text = format_example(example, account).partition(": ")
    values = {
        "picture": encode_picture(picture, SIDE * len(read)),
        "width": width,
        "height": height,
        "name": name,
        "text": text,
    }
    return render("place.html", boxes=example.boxes, several=len(read) > 1, **values)


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Puts pictures one above the other, all as wide as the first."""
    width = pictures[0].width
    scaled = [picture.resize((width, max(1, picture.height * width // picture.width))) for picture in pictures]
    sheet = Image.new("RGB", (width, sum(picture.height + GAP for picture in scaled) - GAP), "white")
    top = 0
    for picture in scaled:
        sheet.paste(picture, (0, top))
        top += picture.height + GAP
    return sheet


def _draw_histograms(account: Account) -> Markup:
    charts = [
        draw_columns(f"{name}: {kind}", histogram.starts, [Stack(kind.split()[0], counts)], f"{what}, from")
        for histogram in account.histograms
        for kind, _, what in [histogram.title.partition(", ")]
        for name, counts in histogram.counts.items()
    ]
    return Markup('<div class="charts">{}</div>').format(join(charts))


def _render_classes(splits: Sequence[Split]) -> Markup:
    """Renders the number of objects, or of images, of each class in each data set."""
    names = list(dict.fromkeys(name for split in splits for name in split.classes))
    columns = [dict(zip(split.classes, split.counts.tolist(), strict=True)) for split in splits]
    rows = [[name, *(column.get(name) for column in columns)] for name in names]
    what = "objects" if any(split.objects is not None for split in splits) else "images"
    return render_table(["class", *map(_name, splits)], rows, f"Number of {what}")
