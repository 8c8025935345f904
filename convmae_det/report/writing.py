"""Writes the report on whatever a folder holds: a run, several runs, or a study."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ..config.architectures import is_autoencoder, is_classifier, is_detector, is_segmentor
from ..config.reading import CONFIG
from ..data.configuration import read_keys
from ..errors import InputError, shorten_error
from ..evaluation.classification import RESULTS as CLASSIFICATION
from ..evaluation.coco import list_tasks
from ..evaluation.metrics_file import Curve, read_metrics
from ..evaluation.panoptic import RESULTS as PANOPTIC
from ..evaluation.result_folders import list_result_folders
from ..evaluation.segmentation import RESULTS as SEGMENTATION
from .classifier import build_classifier_sections
from .detector import build_detector_sections
from .detector_results import read_detector_results
from .findings import find_trends
from .page import REPORT, Chapter, Section, check_page_file, end_sentence, render, render_page, save_page
from .pictures import Budget
from .pretraining import build_pretraining_sections
from .reading import EVALUATE, STUDY_AGAIN, describe_failure, read_object
from .run import build_run
from .segmentor import build_panoptic_section, build_segmentor_sections
from .study import build_study_sections
from .training import build_curves

logger = logging.getLogger(__name__)

STUDY, METRICS = "study.json", "metrics.json"
LARGEST = 10_000_000  # bytes: what can be mailed everywhere
PICTURES = 8_000_000  # of them for pictures, at first


def write_report(folder: str | Path, output: str | Path = "", cfg: CfgNode | None = None) -> Path:
    """Writes the report on a folder, smaller than LARGEST; a warning says so if it is larger without a picture.

    Args:
        folder: OUTPUT_DIR of a run, or a folder of several, or of a study
        output: the file; empty: report.html in the folder
        cfg: of an evaluation with other settings than the run's; None: its config.yaml

    Returns:
        the file

    Raises:
        InputError: there is nothing to report on, or the file can't be written.
    """
    folder = Path(folder)
    path = Path(output) if output else folder / REPORT
    title = f"Report: {folder}"
    runs = [folder] if cfg is not None else find_runs(folder)
    check_page_file(path)
    size = PICTURES
    while True:
        share = size // len(runs)
        chapters = [build_chapter(run, title if run == folder else run.name, Budget(share), cfg) for run in runs]
        html = render_page(title, chapters)
        length = len(html.encode())
        if length < LARGEST or not size:
            break
        size = size // 2 if size > PICTURES // 4 else 0
    if length >= LARGEST:
        logger.warning(
            f"{path} has {length / 1e6:.1f} MB even without pictures, more than the {LARGEST / 1e6:.0f} MB that can be "
            "mailed everywhere" + (": report on fewer runs at a time" if len(runs) > 1 else "")
        )
    save_page(html, path)
    return path


def write_report_at_end(folder: str | Path, cfg: CfgNode | None = None) -> Path | None:
    """Writes the report on a run or study that has just ended; where that fails, a warning says so.

    Args:
        folder: as for :func:`write_report`
        cfg: as for :func:`write_report`

    Returns:
        the file, if it is written
    """
    try:
        return write_report(folder, cfg=cfg)
    except Exception as error:  # all that has been trained is complete without it
        logger.warning(
            f"The report can't be written ({shorten_error(error)}); all else is complete, and convmae-det report "
            f"{folder} tries again"
        )
        return None


def find_runs(folder: Path) -> list[Path]:
    """Finds what a report is about: the folder itself, or the runs and studies in its folders, the oldest first.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the OUTPUT_DIR of a run, or a folder that holds several")
    if _is_reported(folder):
        return [folder]
    found = [path for path in folder.iterdir() if path.is_dir() and _is_reported(path)]
    if not found:
        raise InputError(
            f"{folder} holds no run ({CONFIG}, {METRICS}) and no study ({STUDY}), nor does a folder in it: name the "
            "OUTPUT_DIR of a run"
        )
    return sorted(found, key=lambda path: min(file.stat().st_mtime for file in path.iterdir() if file.is_file()))


def _is_reported(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (STUDY, CONFIG, METRICS))


def build_chapter(folder: Path, title: str, budget: Budget, cfg: CfgNode | None = None) -> Chapter:
    """Builds the chapter on a run or a study.

    Args:
        folder: where it lies
        title: of the chapter
        budget: what pictures may take
        cfg: as for :func:`write_report`
    """
    if (folder / STUDY).is_file():
        return _build_study(folder, title)
    problems, curves = [], {}
    try:
        curves = read_metrics(str(folder))
    except InputError as error:
        problems.append(end_sentence(f"There are no curves: {error}"))
    own = cfg
    if cfg is None or (folder / CONFIG).is_file():
        try:
            own, _ = read_keys(str(folder / CONFIG))  # whatever has become of the data
        except InputError as error:
            problems.append(end_sentence(f"Without its configuration nothing more can be said of this run: {error}"))
    evaluated = cfg or own
    sections: list[Section] = []
    if evaluated:
        sections += _collect(_build_sections(folder, evaluated, curves, budget), folder, problems)
    sections += _collect(_build_record(own, folder, curves), folder, problems)
    return Chapter(title, [*sections, *_tell(problems)], _describe(own))


def _build_study(folder: Path, title: str) -> Chapter:
    try:
        result = read_object(folder / STUDY, ("study", "metrics", "runs", "table"), STUDY_AGAIN)
    except InputError as error:
        return Chapter(title, _tell([describe_failure(error, folder)]), "A study")
    problems: list[str] = []
    sections = [*_collect(build_study_sections(result), folder, problems)]
    return Chapter(title, [*sections, *_tell(problems)], f"A study: {result['study']}")


def _build_record(cfg: CfgNode | None, folder: Path, curves: Mapping[str, Curve]) -> Iterator[Section]:
    """Builds the sections on how a run was made."""
    if curves:
        yield build_curves(curves)
    if cfg is not None:
        yield build_run(cfg, folder)


def _collect(sections: Iterator[Section], folder: Path, problems: list[str]) -> Iterator[Section]:
    """Yields sections as far as the files of a folder allow; why they end before their end is added to `problems`."""
    try:
        yield from sections
    except Exception as error:  # whatever is in the files, the rest of the report is worth having
        logger.debug("A section of the report fails", exc_info=True)
        problems.append(describe_failure(error, folder))


def _tell(problems: Sequence[str]) -> list[Section]:
    return [Section("What is missing", render("problems.html", problems=problems))] if problems else []


def _describe(cfg: CfgNode | None) -> str:
    if cfg is None:
        return ""
    kind = "Pretraining" if is_autoencoder(cfg) else "A classifier" if is_classifier(cfg) else "A segmentor"
    kind = "A detector" if is_detector(cfg) else kind
    return f"{kind}, {cfg.MODEL.META_ARCHITECTURE}, encoder {cfg.MODEL.CONVMAE.ARCH}."


def _build_sections(folder: Path, cfg: CfgNode, curves: Mapping[str, Curve], budget: Budget) -> Iterator[Section]:
    """Builds the sections that only runs of a kind have."""
    if is_autoencoder(cfg):
        yield from build_pretraining_sections(cfg, folder, curves, budget)
    elif is_classifier(cfg):
        for label, path in _list_summaries(cfg, folder, CLASSIFICATION):
            yield from _build_of_classes("Classifier", build_classifier_sections, label, path, cfg, budget)
    elif is_segmentor(cfg):
        for label, path in _list_summaries(cfg, folder, SEGMENTATION):
            yield from _build_of_classes("Segmentor", build_segmentor_sections, label, path, cfg, budget)
    elif is_detector(cfg):
        for label, path in _list_summaries(cfg, folder, PANOPTIC):
            yield build_panoptic_section(label, read_object(path, ("all", "classes"), EVALUATE))
        trends = find_trends(curves, list_tasks(cfg)[-1])
        for number, found in enumerate(read_detector_results(cfg, folder)):
            yield from build_detector_sections(found, cfg, budget, trends if number == 0 else ())


def _list_summaries(cfg: CfgNode, folder: Path, file: str) -> Iterator[tuple[str, Path]]:
    """Lists the evaluations that have left a file, each by the name of its data set and weights."""
    for name, weights, place in list_result_folders(cfg, folder):
        if (place / file).is_file():
            yield f"{name} ({weights})" if weights else name, place / file


def _build_of_classes(
    kind: str, build: Callable[..., Iterator[Section]], label: str, path: Path, cfg: CfgNode, budget: Budget
) -> Iterator[Section]:
    try:
        summary = read_object(path, ("classes", "confusion"), EVALUATE)
    except InputError as error:  # other data sets may have theirs
        yield Section(f"{kind} on {label}", render("problems.html", problems=[end_sentence(str(error))]))
    else:
        yield from build(label, summary, cfg, budget)
