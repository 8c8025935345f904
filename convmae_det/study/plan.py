"""What a study consists of: its variants, and the runs of each of them, by share of the training data and seed."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..config.architectures import is_autoencoder
from ..data.configuration import read_tool_config
from ..engine.output_folder import FINAL
from ..engine.pretraining import PretrainingTrainer
from ..engine.tasks import choose_trainer
from ..engine.trainer import Trainer

# What the study sets in each run.
SHARE, SEED, WEIGHTS, OUTPUT = "DATASETS.TRAIN_SHARE", "SEED", "MODEL.WEIGHTS", "OUTPUT_DIR"


@dataclass(frozen=True, eq=False)
class Variant:
    """Trainings that differ only in seed and share of the data.

    Attributes:
        name: unique in the study
        config: the configuration file
        settings: keys and values over that file
        weights: to start from: a file; "" for none; None for those of the configuration
        source: the name of the variant whose results are the weights to start from, or ""
        seeds: of the runs
        shares: of the training images, above 0 and at most 1
        in_table: whether tables and curves show it
        file: of the study, for errors
    """

    name: str
    config: str
    settings: Mapping[str, Any]
    weights: str | None
    source: str
    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    in_table: bool
    file: str

    @cached_property
    def cfg(self) -> CfgNode:
        """The configuration that all runs share, frozen.

        Raises:
            InputError: the file or a value can't be used.
        """
        return read_tool_config(self.config, self.pairs, source=f"variant {self.name} of {self.file}")

    @property
    def pairs(self) -> list[str]:
        """The settings as words of a command line."""
        pairs = dict(self.settings) if self.weights is None else {**self.settings, WEIGHTS: self.weights}
        return [word for key, value in pairs.items() for word in (key, _write_word(value))]

    @property
    def command(self) -> str:
        """The command of convmae-det that trains it."""
        return "pretrain" if self.trainer is PretrainingTrainer else "train"

    @property
    def trainer(self) -> type[Trainer]:
        return PretrainingTrainer if is_autoencoder(self.cfg) else choose_trainer(self.cfg)


def _write_word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


@dataclass(frozen=True, eq=False)
class Run:
    """One training.

    Attributes:
        variant: what is trained
        share: of the training images
        seed: of all that is random
        folder: OUTPUT_DIR
        source: the run whose result it starts from, if there is one
    """

    variant: Variant
    share: float
    seed: int
    folder: Path
    source: "Run | None" = None

    def __str__(self) -> str:
        return f"{self.variant.name}, share {self.share:g}, seed {self.seed}"

    @property
    def result(self) -> Path:
        return self.folder / FINAL

    @property
    def weights(self) -> str:
        """The file that it starts from, or ""."""
        return str(self.source.result) if self.source else self.variant.cfg.MODEL.WEIGHTS

    @property
    def own_settings(self) -> dict[str, Any]:
        """What sets it apart from the other runs of its variant."""
        return {SHARE: self.share, SEED: self.seed, WEIGHTS: self.weights, OUTPUT: str(self.folder)}

    @property
    def cfg(self) -> CfgNode:
        cfg = self.variant.cfg.clone()
        cfg.defrost()
        cfg.merge_from_list([word for pair in self.own_settings.items() for word in pair])
        return cfg

    @property
    def words(self) -> list[str]:
        """The command line after `convmae-det` that starts it, or goes on with it."""
        own = [word for key, value in self.own_settings.items() for word in (key, _write_word(value))]
        return [self.variant.command, "--config-file", self.variant.config, "--resume", *self.variant.pairs, *own]


@dataclass(frozen=True)
class Study:
    """A study file, read and checked.

    Attributes:
        file: its path
        metrics: names of numbers in metrics.json; curves show the first
        variants: in the order of the file
    """

    file: str
    metrics: tuple[str, ...]
    variants: tuple[Variant, ...]

    def list_runs(self, folder: Path) -> list[Run]:
        """Lists all runs, in the order in which they are useful: all variants with their first seed, then the next.

        A run that starts from another variant's result takes the one with its own seed and share or, where that
        variant has a single seed (share), the one with that.
        """
        variants, runs = {variant.name: variant for variant in self.variants}, {}

        def build(variant: Variant, share: float, seed: int) -> Run:
            if (key := (variant.name, share, seed)) not in runs:
                source = None
                if variant.source:
                    before = variants[variant.source]
                    source = build(before, choose_match(share, before.shares), choose_match(seed, before.seeds))
                place = folder / "runs" / variant.name / f"share-{share:g}" / f"seed-{seed}"
                runs[key] = Run(variant, share, seed, place, source)
            return runs[key]

        places = [
            ((turn, variant.shares.index(share)), variant, share, seed)
            for variant in self.variants
            for share, (turn, seed) in itertools.product(variant.shares, enumerate(variant.seeds))
        ]
        for _, variant, share, seed in sorted(places, key=lambda place: place[0]):
            build(variant, share, seed)
        return list(runs.values())


def choose_match(wanted: Any, there: tuple) -> Any:
    """Chooses the wanted one of seeds or shares, or the only one; None if there is neither."""
    if wanted in there:
        return wanted
    return there[0] if len(there) == 1 else None
