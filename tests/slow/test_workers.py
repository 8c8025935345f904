"""Readers that die, images that vanish or go bad in mid-epoch, too little shared memory: named, skipped or stopped."""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from slow.faults import Run, command, session

pytestmark = pytest.mark.slow

CLONE_NEWNS = 0x20000  # of unshare(2): a name space of mounts

OPTIONS = ("SOLVER.MAX_ITER", 200, "SOLVER.CHECKPOINT_PERIOD", 5, "DATALOADER.NUM_WORKERS", 2)


@pytest.fixture
def data(shapes, tmp_path):
    return shutil.copytree(shapes, tmp_path / "data")


def at_iteration(number: int, act):
    """Harms a run: ``act()`` before an iteration."""

    def harm(trainer):
        step = trainer.run_step

        def run_step(this):
            if this.iter == number:
                act()
            step(this)

        trainer.run_step = run_step

    return harm


def workers() -> list[int]:
    return [number for number in session(os.getsid(0)) if number != os.getpid()]


def signal_workers(number: int, count: int):
    def act():
        for worker in sorted(workers())[:count]:
            os.kill(worker, number)

    return act


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
@pytest.mark.parametrize("count", [1, 2])
def test_readers_that_are_killed(shapes, tmp_path, script, count):
    out = tmp_path / "out"
    harm = at_iteration(12, signal_workers(signal.SIGKILL, count))
    run = Run(script, command(script, shapes, out, *OPTIONS), tmp_path / "output.txt", harm)
    assert run.wait() == 1
    assert "a process that reads images has ended" in run.sentence()
    assert (out / "last_checkpoint").read_text() == "model_0000009.pth"
    print(f"{script}, {count} of 2 readers killed: {run.sentence()}")


def test_readers_that_are_killed_in_an_evaluation(shapes, tmp_path):
    def harm(trainer):
        evaluate = trainer._evaluate

        def evaluate_harmed(this):
            load = trainer.build_test_loader
            trainer.build_test_loader = staticmethod(lambda cfg, name: Struck(load(cfg, name), signal.SIGKILL))
            return evaluate(this)

        trainer._evaluate = evaluate_harmed

    words = command("train_net", shapes, tmp_path / "out", *OPTIONS, "SOLVER.MAX_ITER", 5)
    run = Run("train_net", words, tmp_path / "output.txt", harm)
    assert run.wait() == 1
    assert "a process that reads images has ended" in run.sentence()
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_final.pth"
    print(f"train_net, reader killed in evaluation: {run.sentence()}")


class Struck:
    """A loader whose workers get a signal after the first batch."""

    def __init__(self, loader, number):
        self.loader, self.number, self.dataset = loader, number, loader.loader.dataset

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        before = set(workers())
        for index, batch in enumerate(self.loader):
            for worker in set(workers()) - before if index == 0 else ():
                os.kill(worker, self.number)
            yield batch


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_all_in_an_evaluation_does_not_end_its_readers(shapes, tmp_path, name):
    """As scancel and terminals send it; the run ends after the next iteration."""

    def harm(trainer):
        test = trainer.test

        def signalled(cls, cfg, model):
            load = cls.build_test_loader
            cls.build_test_loader = staticmethod(lambda cfg, name: SignalAll(load(cfg, name)))
            return test(cfg, model)

        trainer.test = classmethod(signalled)

    class SignalAll(Struck):
        def __init__(self, loader):
            super().__init__(loader, None)

        def __iter__(self):
            for index, batch in enumerate(self.loader):
                if index == 0:
                    os.killpg(0, signal.Signals[name])
                    time.sleep(0.5)
                yield batch

    words = command("train_net", shapes, tmp_path / "out", *OPTIONS, "TEST.EVAL_PERIOD", 7)
    run = Run("train_net", words, tmp_path / "output.txt", harm)
    assert run.wait() == 130, run.text()[-3000:]
    assert "Traceback" not in run.text()
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_0000007.pth"
    assert '"bbox/AP"' in (tmp_path / "out/metrics.json").read_text()
    print(f"train_net, {name} to all processes in an evaluation: evaluated, then ended with a checkpoint")


def spoil(path: Path, how: str):
    def act():
        if how == "vanishes":
            path.unlink()
        elif how == "is corrupted":
            content, middle = path.read_bytes(), path.stat().st_size // 2
            path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return act


@pytest.mark.parametrize("how", ["vanishes", "is cut off", "is corrupted"])
@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
@pytest.mark.parametrize("readers", [0, 2])
def test_an_image_that_goes_bad_in_mid_epoch(data, tmp_path, script, how, readers):
    """The detector needs it; pretraining takes another one in its place, and says so."""
    path, out = sorted((data / "train").glob("*.png"))[3], tmp_path / "out"
    words = command(script, data, out, *OPTIONS, "SOLVER.MAX_ITER", 30, "DATALOADER.NUM_WORKERS", readers)
    run = Run(script, words, tmp_path / "output.txt", at_iteration(10, spoil(path, how)))
    status = run.wait()
    if script == "train_net":
        assert status == 1 and str(path) in run.sentence()
        assert (out / "last_checkpoint").exists()
        print(f"{script}, an image {how}: {run.sentence()}")
    else:
        assert status == 0 and "Traceback" not in run.text(), run.text()[-3000:]
        assert (out / "skipped_images.log").read_text().startswith(f"{path}\t")
        print(f"{script}, an image {how}: skipped and named")


@pytest.mark.parametrize("how", ["vanishes", "is cut off", "is corrupted"])
def test_an_image_that_goes_bad_before_an_evaluation(data, tmp_path, how):
    path = sorted((data / "val").glob("*.png"))[2]
    words = command("train_net", data, tmp_path / "out", *OPTIONS, "SOLVER.MAX_ITER", 12)
    run = Run("train_net", words, tmp_path / "output.txt", at_iteration(10, spoil(path, how)))
    assert run.wait() == 1 and str(path) in run.sentence()
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_final.pth"
    print(f"train_net, an image of the evaluation {how}: {run.sentence()}")


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_shared_memory_runs_out(shapes, tmp_path, script):
    """/dev/shm of 256 kB, in a name space of mounts of its own."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    def harm(trainer):
        assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
        for words in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=256k", "tmpfs", "/dev/shm"]):
            subprocess.run(["mount", *words], check=True)

    words = command(script, shapes, tmp_path / "out", *OPTIONS, "SOLVER.IMS_PER_BATCH", 8)
    run = Run(script, words, tmp_path / "output.txt", harm)
    assert run.wait(60) == 1
    assert "No space left on device" in run.sentence() and "enlarge /dev/shm" in run.sentence()
    print(f"{script}, shared memory of 256 kB: {run.sentence()}")
