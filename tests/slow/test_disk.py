"""A disk that is full, read-only or fails: training stops with its sentence, and the last checkpoint goes on."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from slow.faults import Run, assert_same_weights, command, losses
from tensorboard.summary.writer import record_writer

from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.record import begin_record

pytestmark = pytest.mark.slow

OPTIONS = ("SOLVER.MAX_ITER", 45, "SOLVER.CHECKPOINT_PERIOD", 15, "DATALOADER.NUM_WORKERS", 0)


@pytest.fixture(scope="module")
def whole(shapes, tmp_path_factory):
    """Undisturbed runs of both scripts."""
    folders = {}
    for script in ("train_net", "pretrain_net"):
        folders[script] = out = tmp_path_factory.mktemp("whole") / script
        run = Run(script, command(script, shapes, out, *OPTIONS), out.with_suffix(".txt"))
        assert run.wait() == 0, run.text()[-2000:]
    return folders


def assert_goes_on(script, shapes, whole, out, first) -> None:
    """The run in `out`, once there is room again, starts at iteration `first` and ends as the undisturbed one."""
    before = len(losses(out))
    run = Run(script, command(script, shapes, out, "--resume", *OPTIONS), out.with_name("resumed.txt"))
    assert run.wait() == 0, run.text()[-3000:]
    again = losses(out)[before:]
    assert again[0][0] == first and set(again) <= set(losses(whole))
    assert_same_weights(out / "model_final.pth", whole / "model_final.pth")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def mount(request):
    """``mount(source, path)``: the file or folder `path` is the same as `source`, and no link."""

    def mount(source: Path | str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if Path(source).is_dir() else path.touch()
        if subprocess.run(["mount", "--bind", str(source), str(path)], capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", str(path)], check=True))

    return mount


def fill(folder: Path) -> None:
    """There is no room for a single byte any more, until folder/filler is removed."""
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def fill_at(iteration: int, folder: Path):
    """Harms a run: the disk fills up in the iteration, behind the loss that is recorded elsewhere."""

    def harm(trainer):
        step = trainer.run_step

        def run_step(this):
            if this.iter == iteration:
                fill(folder)
            step(this)

        trainer.run_step = run_step

    return harm


@pytest.mark.parametrize("script, iteration", [("train_net", 17), ("pretrain_net", 17), ("train_net", 29)])
def test_a_disk_that_fills_up(shapes, whole, small_disk, tmp_path, script, iteration):
    out = small_disk / "out"
    out.mkdir()
    (out / "losses.txt").symlink_to(tmp_path / "losses.txt")
    words = command(script, shapes, out, *OPTIONS, "SOLVER.MAX_TO_KEEP", 1)
    run = Run(script, words, tmp_path / "output.txt", fill_at(iteration, small_disk))
    assert run.wait() == 1, run.text()[-3000:]
    assert "No space left on device" in run.sentence() and str(out) in run.sentence()
    assert (out / "last_checkpoint").read_text() == "model_0000014.pth"
    assert read_checkpoint(out / "model_0000014.pth")["iteration"] == 14
    (small_disk / "filler").unlink()
    assert_goes_on(script, shapes, whole[script], out, 15)
    print(f"{script}, disk full from iteration {iteration} on: {run.sentence()}")


def limit_files(size: int):
    """Harms a run: no file can grow beyond some bytes, as where a quota or a limit of the user is reached."""

    def harm(trainer):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return harm


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_files_that_may_not_grow(shapes, tmp_path, script):
    out = tmp_path / "out"
    run = Run(script, command(script, shapes, out, *OPTIONS), tmp_path / "output.txt", limit_files(100_000))
    assert run.wait() == 1, run.text()[-3000:]
    assert "File too large" in run.sentence()
    assert not list(out.glob("*.pth")) and not list(out.glob(".*.tmp"))
    print(f"{script}, files limited: {run.sentence()}")


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_metrics_on_a_full_disk(shapes, small_disk, mount, tmp_path, script):
    out = tmp_path / "out"
    (small_disk / "metrics").touch()
    mount(small_disk / "metrics", out / "metrics.json")
    begin_record(out)  # else the file would be a user's
    fill(small_disk)
    run = Run(script, command(script, shapes, out, *OPTIONS), tmp_path / "output.txt")
    assert run.wait() == 1, run.text()[-3000:]
    assert "No space left on device" in run.sentence()
    print(f"{script}, metrics.json: {run.sentence()}")


def test_a_log_that_takes_nothing_is_done_without(shapes, mount, tmp_path):
    mount("/dev/full", tmp_path / "out/log.txt")
    run = Run("pretrain_net", command("pretrain_net", shapes, tmp_path / "out", *OPTIONS), tmp_path / "output.txt")
    assert run.wait() == 0 and "Traceback" not in run.text(), run.text()[-3000:]
    assert (tmp_path / "out/model_final.pth").exists()
    print("pretrain_net, log.txt: goes on without it")


def fail_events(trainer):
    def write(this, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record_writer.RecordWriter.write = write


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_events_that_are_not_taken(shapes, tmp_path, script):
    """TensorBoard writes them in a thread of its own."""
    run = Run(script, command(script, shapes, tmp_path / "out", *OPTIONS), tmp_path / "output.txt", fail_events)
    assert run.wait() == 1, run.text()[-3000:]
    assert "No space left on device" in run.sentence()
    print(f"{script}, events: {run.sentence()}")


def test_a_folder_that_became_read_only(shapes, small_disk, tmp_path):
    """Not even root can write there; a run that is resumed there says so before it begins."""
    out = small_disk / "out"
    words = command("pretrain_net", shapes, out, *OPTIONS, "SOLVER.MAX_ITER", 15)
    assert Run("pretrain_net", words, tmp_path / "first.txt").wait() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run = Run("pretrain_net", ["--resume", *words, "SOLVER.MAX_ITER", "30"], tmp_path / "output.txt")
    assert run.wait() == 1
    assert f"OUTPUT_DIR '{out}' can't be written to (Read-only file system)" in run.sentence()
    print(f"read-only: {run.sentence()}")


def test_pictures_on_a_full_disk(shapes, small_disk, mount, tmp_path):
    out = tmp_path / "out"
    mount(small_disk, out / "reconstructions")
    words = command("pretrain_net", shapes, out, *OPTIONS, "VIS_PERIOD", 18)
    fill(small_disk)
    run = Run("pretrain_net", words, tmp_path / "output.txt")
    assert run.wait() == 1, run.text()[-3000:]
    assert "0000018.png can't be written (No space left on device)" in run.sentence()
    assert (out / "last_checkpoint").read_text() == "model_0000014.pth"
    print(f"pictures: {run.sentence()}")


def test_the_list_of_skipped_images_on_a_full_disk(shapes, small_disk, mount, tmp_path):
    data, out = shutil.copytree(shapes, tmp_path / "data"), tmp_path / "out"
    next((data / "train").glob("*.png")).write_bytes(b"damaged")
    (small_disk / "list").touch()
    mount(small_disk / "list", out / "skipped_images.log")
    begin_record(out)  # else the file would be a user's
    fill(small_disk)
    run = Run("pretrain_net", command("pretrain_net", data, out, *OPTIONS), tmp_path / "output.txt")
    assert run.wait() == 1, run.text()[-3000:]
    assert "No space left on device" in run.sentence()
    print(f"skipped_images.log: {run.sentence()}")
