"""Configurations with odd values either train for an iteration, with finite losses, or are refused in a sentence."""

import math
import resource

import pytest
from detectron2.utils.events import EventStorage
from hypothesis import example, given
from hypothesis import strategies as st
from reference.faults import Tally, counts, examples, limit
from reference.small import AUTOENCODER, DETECTOR, ENCODER

from convmae_det.config.reading import flatten_keys
from convmae_det.data.configuration import read_config
from convmae_det.data.shapes import register_shapes, write_shapes
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.errors import TrainingError

GROUPS = (
    "MODEL.CONVMAE",
    "MODEL.MAE",
    "MODEL.PIXEL",
    "MODEL.ROI",
    "MODEL.RPN",
    "MODEL.FPN",
    "MODEL.ANCHOR",
    "MODEL.MASK",
)
GROUPS += ("INPUT", "DATASETS", "DATALOADER", "SOLVER", "TEST", "SEED", "VIS_PERIOD")
LEFT = ("MODEL.ROI_KEYPOINT_HEAD", "DATALOADER.NUM_WORKERS", "DATASETS.PROPOSAL", "DATASETS.PRECOMPUTED")
WORDS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "5",
    "16",
    "64",
    "1000000000000",
    "-0.5",
    "0.5",
    "1.5",
    "1e999",
    "-1e999",
    "nan",
    "1e-30",
]
WORDS += [
    "True",
    "False",
    "None",
    "",
    "text",
    "[]",
    "()",
    "[0]",
    "[1]",
    "[1, 2, 3]",
    "[8, 16, 24]",
    "[0.1, 0.9]",
    "[[1, 2]]",
]
WORDS += [
    "('a',)",
    "['e1', 'e9']",
    "[[8], [16], [32], [64], [128]]",
    "[None]",
    "[[[]]]",
    "{}",
    "{'a': 1}",
    "../x",
    "1" * 400,
]
WORDS += [
    "(" * 300,
    "-" * 5000 + "1",
    "['\\ud800']",
    "1e-400",
    "[1e999]",
    "[-1, -1, -1]",
    "[0, 0, 0]",
    "shapes_train",
    "('shapes_val',)",
]
SMALL = dict(zip(("detector", "autoencoder"), ((*ENCODER, *DETECTOR), (*ENCODER, *AUTOENCODER)), strict=True))


def pairs_of(kind: str, output: str) -> list[str]:
    pairs = [*SMALL[kind], "DATASETS.TRAIN", ("shapes_train",), "DATASETS.TEST", (), "OUTPUT_DIR", output, "SEED", 3]
    pairs += ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0]
    return list(map(str, pairs))


KEYS = [key for key, _ in flatten_keys(read_config("")) if key.startswith(GROUPS) and not key.startswith(LEFT)]


@st.composite
def overrides(draw) -> list[str]:
    pairs = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        key = draw(st.sampled_from(KEYS))
        if draw(st.integers(0, 30)) == 0:
            key = draw(st.sampled_from([key[:-1], key.rpartition(".")[0], key.lower(), f"{key}.X", ""]))
        pairs += [key, draw(st.sampled_from(WORDS))]
    return pairs


@pytest.fixture
def shapes(tmp_path):
    write_shapes(tmp_path / "shapes", train=4, val=2, size=64)
    register_shapes(tmp_path / "shapes")
    yield
    register_shapes()


@counts(16, 1000)
@pytest.mark.parametrize("kind", SMALL)
def test_odd_configurations(count, kind, shapes, tmp_path):
    tally, always = Tally(30), pairs_of(kind, str(tmp_path / "run"))

    def train(pairs):
        cfg = read_config("", [*always, *pairs])
        cfg.MODEL.DEVICE, cfg.SOLVER.MAX_ITER = "cpu", min(cfg.SOLVER.MAX_ITER, 1) or cfg.SOLVER.MAX_ITER
        trainer = (PretrainingTrainer if kind == "autoencoder" else DetectionTrainer)(cfg)
        loader = trainer.build_train_loader(trainer.cfg, 0, trainer.dataset)
        batch = next(iter(loader))
        with EventStorage():
            losses = trainer._trainer.model(batch)
        total = sum(losses.values())
        if not math.isfinite(total):
            raise TrainingError("training would stop here")
        if total.requires_grad:
            total.backward()
        trainer.optimizer.step()
        assert all(p.isfinite().all() for p in trainer._trainer.model.parameters())

    @examples(count // 2)
    @given(overrides())
    @example([])
    @example(["SOLVER.IMS_PER_BATCH", "0"])
    def run(pairs):
        tally(train, pairs)

    with limit(resource.RLIMIT_AS, 40 * 2**30):  # instead of bringing the machine down
        run()
    tally.report(f"odd values in configurations, {kind}")
    assert min(tally.outcomes[kind] for kind in ("survived", "refused")) > 0
