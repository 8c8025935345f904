"""Several processes, or runs one after the other, write what one process writes at once."""

import functools
import io
import json
import os
import shutil
import signal
import threading
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.modeling import build_model
from PIL import Image
from reference.small import classifier_cfg, detector_cfg, randomise, segmentor_cfg

from convmae_det.cli import predict
from convmae_det.errors import InputError
from convmae_det.inference import predictor, processes
from convmae_det.inference.processes import Processes, ignore_more_signals, stop_at_sigterm
from convmae_det.inference.results import Results
from convmae_det.visualization.video import write_video

IMAGES = 5
CLASSES = ("DATASETS.CATEGORIES", [[1, "one"], [2, "two"], [3, "three"], [4, "four"]])
CLASSES += ("DATASETS.TRAIN", ("elsewhere",), "DATASETS.TEST", ("elsewhere",))
KINDS = {
    "detector": (detector_cfg, (*CLASSES, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5)),
    "classifier": (classifier_cfg, ()),
    "segmentor": (segmentor_cfg, (*CLASSES, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96)),
}


class Killed(BaseException):
    """What ends a process at once."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, one of them unreadable, a video, and of each kind of network a configuration and weights."""
    place = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    (place / "images/inner").mkdir(parents=True)
    for number in range(IMAGES):
        size = (64, 64) if number % 2 else (50, 70)
        name = f"images/{'inner/' if number > 2 else ''}{number}.png"
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / name)
    with write_video(place / "images/clip.mp4", 10) as write:
        for _ in range(3):
            write(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind, (build_cfg, options) in KINDS.items():
        cfg = build_cfg(*options, "OUTPUT_DIR", str(place))
        torch.manual_seed(0)
        torch.save({"model": randomise(build_model(cfg)).state_dict()}, place / f"{kind}.pth")
        (place / f"{kind}.yaml").write_text(cfg.dump())
    return place


@pytest.fixture
def run(place, monkeypatch):
    """``run(output, …)`` predicts in `world` processes, which here are threads; returns their exit statuses."""
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    own = threading.local()
    monkeypatch.setattr(predict, "join_processes", lambda: getattr(own, "processes", Processes()))

    def run(output, *words, kind="detector", world=1, inputs=None):
        arguments = [*list_arguments(place, kind, inputs), "--output", str(output), *map(str, words)]
        if world == 1:
            return [predict.main(arguments)]
        store, statuses = dist.HashStore(), [None] * world

        def work(rank):
            own.processes = Processes(rank, world, store)
            try:
                statuses[rank] = predict.main(arguments)
            except (Killed, InputError) as error:
                statuses[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statuses

    return run


@pytest.fixture
def stop_at(monkeypatch):
    """``stop_at(name, error)`` has the processes raise an error when they come to a file."""

    def stop_at(name, error):
        load = functools.partial(load_until, predictor.load_pixels, name, error)
        monkeypatch.setattr(predictor, "load_pixels", load)

    return stop_at


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """``whole(kind)``: what one process writes at once."""

    @functools.cache
    def whole(kind="detector"):
        output = tmp_path_factory.mktemp("whole")
        assert predict.main([*list_arguments(place, kind), "--output", str(output)]) == 0
        return contents(output)

    return whole


@pytest.fixture(scope="module")
def left(place, tmp_path_factory):
    """What a detector left that was interrupted at the third image."""
    output = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch:
        load = predictor.load_pixels
        patch.setattr(predictor, "load_pixels", functools.partial(load_until, load, "2.png", KeyboardInterrupt()))
        assert predict.main([*list_arguments(place), "--output", str(output)]) == predict.INTERRUPTED
    return output


def list_arguments(place, kind="detector", inputs=None):
    network = ["--config-file", str(place / f"{kind}.yaml"), "--weights", str(place / f"{kind}.pth")]
    given = [place / "images", *([place / "images/clip.mp4"] if kind == "detector" else [])]
    return [*network, *map(str, inputs or given)]


def load_until(load, name, error, image, *options):
    if str(image).endswith(name):
        raise error
    return load(image, *options)


def contents(output):
    """What a run has written, by name; videos by their presence."""
    files = {str(path.relative_to(output)): path for path in sorted(Path(output).rglob("*")) if path.is_file()}
    return {name: path.suffix if path.suffix == ".mp4" else path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_write_what_one_writes(run, whole, tmp_path, kind, world):
    assert run(tmp_path, kind=kind, world=world) == [0] * world
    assert contents(tmp_path) == whole(kind)
    assert "overview.png" in whole(kind) and not any(name.startswith("parts") for name in whole(kind))


def test_what_a_killed_process_leaves_is_completed(run, whole, tmp_path, stop_at, monkeypatch):
    stop_at("3.png", Killed())
    statuses = run(tmp_path / "out", world=2)
    assert sorted(map(str, statuses)) == ["", "0"]
    assert not (tmp_path / "out/results.json").exists()
    parts = sorted((tmp_path / "out/parts").glob("*.jsonl"))
    assert [path.name for path in parts] == ["001_00000.jsonl", "001_00001.jsonl"]
    for path in parts:  # as it died while it was writing
        path.write_bytes(path.read_bytes() + b'{"input": 3, "image": 0}\t[{"image_')
    done = sum(path.read_bytes().count(b'"images"') for path in parts)
    monkeypatch.undo()
    said = io.StringIO()
    with redirect_stderr(said):
        assert run(tmp_path / "out", "--resume") == [0]
    assert f"{done} of {IMAGES + 1} inputs are done already" in said.getvalue() and done >= IMAGES - 1
    assert contents(tmp_path / "out") == whole()


def test_interrupted_it_writes_what_is_done_and_goes_on(run, whole, left, tmp_path):
    shutil.copytree(left, tmp_path / "out")
    expected = json.loads(whole()["results.json"])
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found == [entry for entry in expected if entry["file_name"] in ("0.png", "1.png")] != []
    assert run(tmp_path / "out", "--resume", world=2) == [0, 0]
    assert contents(tmp_path / "out") == whole()


def test_interrupted_processes_write_what_is_done(run, whole, tmp_path, stop_at, capsys):
    stop_at("2.png", KeyboardInterrupt())
    assert predict.INTERRUPTED in run(tmp_path, world=2)
    expected, found = json.loads(whole()["results.json"]), json.loads((tmp_path / "results.json").read_text())
    assert [entry for entry in expected if entry in found] == found and 0 < len(found) < len(expected)
    assert "inputs are not done: the same command goes on with them" in capsys.readouterr().err


def test_an_interrupted_video_begins_anew(run, place, tmp_path, monkeypatch):
    clip = place / "images/clip.mp4"
    run(tmp_path / "whole", inputs=[clip])
    to_coco, count = predictor.Predictor.to_coco, iter(range(9))

    def stopping(self, *arguments):
        if next(count) == 2:
            raise KeyboardInterrupt
        return to_coco(self, *arguments)

    monkeypatch.setattr(predictor.Predictor, "to_coco", stopping)
    assert run(tmp_path / "out", inputs=[clip]) == [predict.INTERRUPTED]
    frames = {entry["frame"] for entry in json.loads((tmp_path / "out/results.json").read_text())}
    monkeypatch.undo()
    assert frames == {0, 1} and run(tmp_path / "out", inputs=[clip]) == [0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_could_not_be_read_is_tried_again(run, place, tmp_path, capsys):
    bad = place / "images/bad.png"
    bad.write_bytes(b"no image")
    assert sorted(run(tmp_path, world=2)) == [0, 1]
    assert f"1 of {IMAGES + 2} inputs could not be read" in capsys.readouterr().err
    before = json.loads((tmp_path / "results.json").read_text())
    Image.new("RGB", (64, 64)).save(bad)
    assert run(tmp_path, "--resume") == [0]
    bad.unlink()
    assert f"{IMAGES + 1} of {IMAGES + 2} inputs are done already" in capsys.readouterr().err
    after = json.loads((tmp_path / "results.json").read_text())
    assert [entry for entry in after if entry["file_name"] != "bad.png"] == before


def test_an_image_that_has_changed_is_done_anew(run, tmp_path, stop_at, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (64, 64), "red").save(folder / f"{name}.png")
    stop_at("c.png", KeyboardInterrupt())
    run(tmp_path / "out", inputs=[folder])
    monkeypatch.undo()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    assert run(tmp_path / "out", inputs=[folder]) == run(tmp_path / "whole", inputs=[folder]) == [0]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--score-threshold", "0.5"], "--score-threshold"),
        (["--max-frames", "2", "--no-pictures"], "--max-frames, --no-pictures"),
        (["INPUT.MIN_SIZE_TEST", "48"], "configuration"),
        (["--weights", "other.pth", "--precision", "bfloat16"], "configuration, weights, precision"),
    ],
)
def test_what_another_run_left_is_not_mixed_in(run, place, left, tmp_path, monkeypatch, words, what):
    monkeypatch.chdir(tmp_path)
    weights = torch.load(place / "detector.pth")
    next(iter(weights["model"].values())).add_(1)
    torch.save(weights, "other.pth")
    shutil.copytree(left, "out")
    before = contents("out")
    with pytest.raises(InputError, match=f"parts holds results of a run that differs in {what}.*: leave --resume out"):
        run("out", *words, "--resume")
    assert contents("out") == before


def test_without_resume_it_is_discarded(run, place, left, tmp_path):
    shutil.copytree(left, tmp_path / "out")
    one = [place / "images/1.png"]
    statuses = run(tmp_path / "out", "--resume", world=2, inputs=one)
    assert all("differs in inputs: leave" in str(status) for status in statuses)
    assert run(tmp_path / "out", inputs=one) == run(tmp_path / "whole", inputs=one) == [0]
    out, expected = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert out == {name: out[name] for name in ("0.jpg",)} | expected


def test_files_of_the_user_stay(run, place, tmp_path):
    parts = tmp_path / "out/parts"
    parts.mkdir(parents=True)
    (parts / "notes.txt").write_text("mine")
    assert run(tmp_path / "out") == [0] and contents(parts) == {"notes.txt": b"mine"}
    for name in ("settings.json", "00000001.npz"):
        (parts / name).write_text("[1]")
        with pytest.raises(InputError, match=rf"parts/{name} is none that predict has written: choose another"):
            run(tmp_path / "out")
        assert (parts / name).read_text() == "[1]"
        (parts / name).unlink()


def test_two_runs_do_not_mix(run, place, whole, tmp_path, monkeypatch):
    """The first to end has the results; the other says so."""
    write, begun = Results.write, []

    def write_twice(self):
        if not begun:
            begun.append(None)
            begun[0] = run(tmp_path / "out")
        return write(self)

    monkeypatch.setattr(Results, "write", write_twice)
    with pytest.raises(InputError, match="001_00000.jsonl is gone: another predict with this --output has ended"):
        run(tmp_path / "out")
    assert begun == [[0]] and contents(tmp_path / "out") == whole()


def test_processes_that_see_other_inputs_are_named(place, tmp_path, monkeypatch):
    store = dist.HashStore()
    for rank, name in enumerate(["images/1.png", "images/2.png"]):
        monkeypatch.setattr(predict, "join_processes", lambda rank=rank: Processes(rank, 2, store))
        arguments = [*list_arguments(place, inputs=[place / name]), "--output", str(tmp_path)]
        if rank:
            with pytest.raises(InputError, match="process 1 differs from the first in inputs: let all machines see"):
                predict.main(arguments)
        else:
            assert predict.main(arguments) == 0


def test_sigterm_is_an_interruption_and_a_second_one_nothing():
    before = signal.getsignal(signal.SIGTERM)
    with stop_at_sigterm():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        ignore_more_signals(Processes(0, 2, dist.HashStore()))
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before and signal.getsignal(signal.SIGINT) != signal.SIG_IGN


def test_each_number_is_given_once():
    store = dist.HashStore()
    one, other = (Processes(rank, 2, store).share("images", range(5)) for rank in range(2))
    assert [next(one), next(other), next(other), next(one), *other, *one] == list(range(5))
