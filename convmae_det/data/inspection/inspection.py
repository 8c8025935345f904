"""All that is known of the data, and how the checks are run on it."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from detectron2.config import CfgNode

from ...errors import make_printable, shorten_error
from ..image import Decoding
from ..survey import resolve_white_level
from .findings import Finding, Findings, Severity
from .image_files import ImageFile, find_missing, read_image_files
from .likeness import find_similar
from .splits import TEST, TRAIN, Objects, Split, load_splits

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Inspection:
    """What the checks judge.

    Attributes:
        cfg: how the data would be used, with INPUT.WHITE_LEVEL resolved
        splits: the data sets
        missing: paths of images that don't exist
        files: what was seen of those that do, by path
        said: warnings that reading the data has logged
        is_configured: whether the user has said by a configuration how the data will be used
    """

    cfg: CfgNode
    splits: Sequence[Split]
    missing: set[str]
    files: dict[str, ImageFile]
    said: Sequence[str] = ()
    is_configured: bool = True

    @property
    def loaded(self) -> list[Split]:
        """The data sets that could be read."""
        return [split for split in self.splits if not split.problem]

    @property
    def annotated(self) -> list[tuple[Split, Objects]]:
        """Those that have objects, with these."""
        pairs = ((split, split.objects) for split in self.loaded)
        return [(split, objects) for split, objects in pairs if objects is not None and len(objects.entries)]

    def of_role(self, role: str) -> list[Split]:
        return [split for split in self.loaded if split.role == role]

    @functools.cached_property
    def paths_of_roles(self) -> dict[str, set[str]]:
        """Paths of the images for training and for testing."""
        return {role: {path for split in self.of_role(role) for path in split.paths} for role in (TRAIN, TEST)}

    @functools.cached_property
    def readable(self) -> list[str]:
        """Paths of the images that could be read, in the order of the data sets."""
        return [path for path, file in self.files.items() if not file.error]

    @functools.cached_property
    def similar_pairs(self) -> list[tuple[str, str]]:
        """Paths of images that look the same, but are not byte for byte, as `likeness.find_similar` finds them."""
        test = self.paths_of_roles[TEST]
        firsts = {(self.files[path].digest, path in test): path for path in reversed(self.readable)}
        paths = list(firsts.values())
        files = [self.files[path] for path in paths]
        if not files:
            return []
        hashes = np.array([file.hash for file in files], np.uint64)
        roles = np.array([path in test for path in paths])
        pairs = find_similar(hashes, np.stack([file.thumbnail for file in files]), roles).tolist()
        same = (files[one].digest == files[other].digest for one, other in pairs)
        return [(paths[one], paths[other]) for (one, other), is_copy in zip(pairs, same, strict=True) if not is_copy]

    @functools.cached_property
    def sizes(self) -> dict[str, np.ndarray]:
        """By data set, height and width of its images: as stated or, where nothing is, of the files; else 0."""
        sizes = {}
        for split in self.loaded:
            found = [self.files.get(path) for path in split.paths]
            read = np.array([(file.height, file.width) if file else (0, 0) for file in found], int).reshape(-1, 2)
            sizes[split.name] = np.where(split.sizes > 0, split.sizes, read)
        return sizes


Check = Callable[[Inspection], Findings]


def inspect_data(cfg: CfgNode, is_configured: bool = True, threads: int | None = None) -> Inspection:
    """Reads the data sets of a configuration, and every image in them.

    Args:
        cfg: as for training
        is_configured: as of :class:`Inspection`
        threads: how many read at a time; None: by the machine

    Raises:
        InputError: no data set can be read.
    """
    with _collect_warnings() as said:
        splits = load_splits(cfg)
        paths = list(dict.fromkeys(path for split in splits for path in split.paths))
        missing = find_missing(paths)
        present = [path for path in paths if path not in missing]
        cfg = resolve_white_level(cfg, [{"file_name": path} for path in present])
        files = read_image_files(present, cfg.INPUT.FORMAT, Decoding.from_config(cfg), threads)
    return Inspection(cfg, splits, missing, files, said, is_configured)


@contextlib.contextmanager
def _collect_warnings() -> Iterator[list[str]]:
    """Collects what is logged as a warning while data are read, in place of showing it."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    parent = logging.getLogger(__name__.split(".inspection")[0])
    propagates = parent.propagate
    parent.addHandler(handler)
    parent.propagate = False
    try:
        yield said
    finally:
        parent.removeHandler(handler)
        parent.propagate = propagates


def run_checks(checks: Sequence[Check], data: Inspection) -> list[Finding]:
    """Runs checks, each by itself: one that fails is a finding, and the others go on. Most severe first."""
    found = [finding for check in checks for finding in _run(check, data)]
    return sorted(found, key=lambda finding: -finding.severity)


def _run(check: Check, data: Inspection) -> Findings:
    name = check.__name__.replace("_", "-")
    try:
        for finding in check(data):
            yield dataclasses.replace(finding, check=name, problem=make_printable(finding.problem))
    except Exception as error:
        logger.debug("%s failed", name, exc_info=True)
        problem = f"the check {name} itself failed ({type(error).__name__}: {shorten_error(error)})"
        advice = "please report this, with the part of the annotation file that it concerns; the other checks have run"
        yield Finding(Severity.WARNING, problem, advice, check=name)
