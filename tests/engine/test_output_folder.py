"""What users have in OUTPUT_DIR stays where it is and as it is; what runs wrote makes room for another run."""

import logging

import pytest
import torch

from convmae_det.checkpoint.record import RECORD
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.errors import InputError


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def train(shapes_cfg):
    """train(KEY, value, …): two iterations with a checkpoint after each."""

    def train(*options, resume=False):
        cfg = shapes_cfg("SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.TEST", (), *options)
        trainer = DetectionTrainer(cfg)
        trainer.resume_or_load(resume)
        trainer.train()

    return train


def write_weights(shapes_cfg, path):
    torch.save({"model": DetectionTrainer.build_model(shapes_cfg()).state_dict()}, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["pretrained.pth", "model_final_backup.pth", "model_best.pth", "model_0000007.pth"])
def test_weights_in_the_output_folder_serve_every_run(shapes_cfg, train, out, name):
    """Whatever they are called, unless this run would write a file of that name."""
    content = write_weights(shapes_cfg, out / name)
    for _ in range(3):
        train("MODEL.WEIGHTS", str(out / name), "SOLVER.MAX_TO_KEEP", 1)
        assert (out / name).read_bytes() == content
    assert [path.name for path in sorted(out.glob("previous_run_*"))] == ["previous_run_1", "previous_run_2"]
    for folder in (out, out / "previous_run_1", out / "previous_run_2"):
        runs = {path.name for path in folder.glob("*.pth")} - {name}
        assert runs == {"model_0000001.pth", "model_final.pth"}


@pytest.mark.parametrize(
    "name, runs",
    [("config.yaml", 0), ("metrics.json", 0), *((f"model_{it}.pth", n) for it in ("final", "0000001") for n in (0, 1))],
)
def test_what_a_run_would_write_over_is_refused(train, out, name, runs):
    """Also where a run has been: its own files make room, weights in their place don't."""
    for _ in range(runs):
        train()
    (out / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"out/{name} would be overwritten.*rename it, or choose another OUTPUT_DIR"):
        train()
    assert (out / name).read_bytes() == b"mine"
    assert not list(out.glob("events*")) and not (out / "last_checkpoint").exists()


def test_a_resumed_run_writes_over_its_own_files_alone(train, out):
    train()
    (out / "model_0000003.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match="out/model_0000003.pth would be overwritten"):
        train("SOLVER.MAX_ITER", 4, resume=True)
    assert (out / "model_0000003.pth").read_bytes() == b"mine"
    (out / "model_0000003.pth").rename(out / "mine.pth")
    train("SOLVER.MAX_ITER", 4, resume=True)
    assert (out / "model_0000003.pth").exists() and (out / "mine.pth").read_bytes() == b"mine"


def test_another_run_takes_the_place_of_one_alone(train, out, caplog):
    """All that it wrote is moved, nothing else in the folder is."""
    train()
    (out / "notes.txt").write_text("mine")
    (out / "reconstructions").mkdir()
    (out / "reconstructions/favourite.png").write_text("mine")
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with caplog.at_level(logging.WARNING, "convmae_det"):
        train("SEED", 9)
    assert "previous_run_1" in caplog.text
    users = {path for path in before if before[path] == b"mine"}
    assert all((out / path).read_bytes() == b"mine" for path in users)
    moved = {path.relative_to(out / "previous_run_1") for path in (out / "previous_run_1").rglob("*")}
    assert moved == {path for path in before if "log" not in path.name} - users
    assert all((out / "previous_run_1" / path).read_bytes() == before[path] for path in moved)


def test_a_run_without_its_record_is_resumed(train, out):
    """As one of an earlier version; another run in its place is refused, for its files can't be told from a user's."""
    train()
    (out / RECORD).unlink()
    (out / "model_final.pth").unlink()
    (out / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(InputError, match="would be overwritten"):
        train()
    train("SOLVER.MAX_ITER", 3, resume=True)
    assert (out / "model_final.pth").exists()
