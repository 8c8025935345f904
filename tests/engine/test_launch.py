"""From a command line to a configuration, a device and an exit status; every mistake has its sentence."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from convmae_det.cli.train import parse
from convmae_det.engine import launch
from convmae_det.errors import InputError, TrainingError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def arguments(*words):
    return parse([str(word) for word in words])


def load(*words):
    return launch.load_config(arguments(*words))


@pytest.fixture(autouse=True)
def neither_gpus_nor_torchrun(monkeypatch):
    set_gpus(monkeypatch, 0)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def set_gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


# Configurations


def test_file_then_options(tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER:\n  BASE_LR: 1e-3\n  MAX_EPOCHS: 7\n  STEPS: (10, 20)\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nSOLVER:\n  MAX_EPOCHS: 8\nMODEL:\n  CONVMAE: {ARCH: tiny}\n")
    cfg = load("--config-file", tmp_path / "own.yaml", "SOLVER.MAX_EPOCHS", 9, "DATASETS.TRAIN", "('a', 'b')")
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.STEPS) == (1e-3, 9, (10, 20))
    assert (cfg.MODEL.CONVMAE.ARCH, cfg.DATASETS.TRAIN) == ("tiny", ("a", "b"))
    assert cfg.is_frozen()


def test_a_dumped_configuration_loads_again(tmp_path):
    cfg = load("SOLVER.BASE_LR", 1, "MODEL.CONVMAE.GLOBAL_BLOCKS", "[1, 2]")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load("--config-file", tmp_path / "config.yaml")
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


QUICKSTART = ROOT / "configs/quickstart"
PHOTOS, DENSE = (QUICKSTART / f"mask_rcnn_convmae_tiny_{name}.yaml" for name in ("photos", "dense"))  # of the user's
STUDIES = (ROOT / "configs/studies").glob("*")
CONFIGURATIONS = sorted(set((ROOT / "configs").glob("**/*.yaml")) - {PHOTOS, DENSE, *STUDIES})


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_the_project_load(path):
    load("--config-file", path)


def test_photographs_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="datasets/photos/train.json.* doesn't exist"):
        load("--config-file", PHOTOS)


def test_a_study_is_no_configuration():
    with pytest.raises(InputError, match="quick_ablations.yaml is a study.*convmae-det study"):
        load("--config-file", ROOT / "configs/studies/quick_ablations.yaml")


def test_whole_numbers_do_for_floats(tmp_path):
    (tmp_path / "own.yaml").write_text("SOLVER: {WEIGHT_DECAY: 0}\n")
    cfg = load("--config-file", tmp_path / "own.yaml", "SOLVER.BASE_LR", 1)
    assert [type(cfg.SOLVER[key]) for key in ("WEIGHT_DECAY", "BASE_LR")] == [float, float]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ["SOLVER.BASE_RL", "1"],
            r"SOLVER\.BASE_RL, set in the command line, doesn't exist: did you mean SOLVER\.BASE_LR",
        ),
        (["QWERTZ", "1"], "QWERTZ, set in the command line, doesn't exist: remove it"),
        (["MODEL.CONVMAE", "tiny"], r"MODEL\.CONVMAE, .* is a group of keys"),
        (["MODEL.CONVMAE", "{'ARCH': 'tiny'}"], r"MODEL\.CONVMAE, .* is a group of keys"),
        (["SOLVER.MAX_ITER", "many"], r"SOLVER\.MAX_ITER, .* is 'many'; it must be a int, such as 0"),
        (["SOLVER.MAX_ITER", "1.5"], r"SOLVER\.MAX_ITER, .* is 1\.5"),
        (["SOLVER.MAX_ITER", "None"], r"SOLVER\.MAX_ITER, .* is None"),
        (["SOLVER.BASE_LR", "True"], r"SOLVER\.BASE_LR, .* is True"),
        (["DATASETS.TRAIN", "mine"], r"DATASETS\.TRAIN, .* is 'mine'; it must be a tuple"),
        (["SOLVER.MAX_ITER"], "KEY VALUE pairs, but SOLVER.MAX_ITER is not an even number"),
        (["MODEL.DEVICE", "gpu"], r"MODEL\.DEVICE is 'gpu'; it must be auto"),
        (["--num-gpus", "2"], "--num-gpus is 2, but this machine has 0 GPUs.*--num-processes"),
        (["--num-gpus", "-1"], "--num-gpus is -1"),
        (["--num-processes", "0"], "--num-processes is 0; it must be at least 1"),
        (["--num-processes", "2", "--num-gpus", "2"], "--num-processes is for the CPU"),
        (["--num-machines", "2"], "--num-gpus is 1, but this machine has 0 GPUs"),
        (["--machine-rank", "1"], "--machine-rank is 1; it must be below --num-machines 1"),
    ],
)
def test_a_bad_command_line_is_named(words, sentence):
    with pytest.raises(InputError, match=sentence):
        load(*words)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("SOLVER: {BASE_RL: 1}", r"SOLVER\.BASE_RL, set in .*own\.yaml, doesn't exist"),
        ("SOLVER: 3", r"SOLVER, set in .*own\.yaml, is a group of keys"),
        ("SOLVER: {MAX_ITER: {X: 1}}", r"SOLVER\.MAX_ITER\.X, .* doesn't exist"),
        ("SOLVER: {MAX_ITER: }", r"SOLVER\.MAX_ITER, .* is None"),
        ("SOLVER: {MAX_ITER: many}", r"SOLVER\.MAX_ITER, set in .*own\.yaml, is 'many'"),
        ("1: 2", "1, set in .*own.yaml, doesn't exist"),
        ("", r"own\.yaml.* not made of nested keys"),
        ("just text", r"own\.yaml.* not made of nested keys"),
        ("- a\n- b", r"own\.yaml.* not made of nested keys"),
        ("SOLVER: [1\nMODEL: 2", r"own\.yaml, line 2, is not plain YAML"),
        ("SOLVER: !!python/object/apply:os.system ['touch SPOILED']", r"own\.yaml, line 1, is not plain YAML"),
        ("_BASE_: nowhere.yaml", r"nowhere\.yaml can't be read \(No such file"),
        ("_BASE_: own.yaml", r"own\.yaml.* not made of nested keys"),
        ("_BASE_: [3]", r"own\.yaml.* not made of nested keys"),
    ],
)
def test_a_bad_file_is_named(tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        load("--config-file", tmp_path / "own.yaml")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["own.yaml"]  # no code was run


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"own\.yaml.* is not plain YAML"):
        load("--config-file", tmp_path / "own.yaml")
    with pytest.raises(InputError, match=r"nowhere\.yaml can't be read"):
        load("--config-file", tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="can't be read"):
        load("--config-file", tmp_path)


# Devices


@pytest.mark.parametrize(
    "gpus, words, device, said",
    [
        (0, ["MODEL.DEVICE", "auto"], "cpu", True),
        (0, ["MODEL.DEVICE", "cuda"], "cpu", True),
        (0, ["--num-gpus", 0, "MODEL.DEVICE", "auto"], "cpu", False),
        (1, ["MODEL.DEVICE", "auto"], "cuda", False),
        (1, ["MODEL.DEVICE", "cpu"], "cpu", False),
        (1, ["--num-gpus", 0, "MODEL.DEVICE", "cuda"], "cpu", False),
        (2, ["--num-gpus", 2, "MODEL.DEVICE", "cuda"], "cuda", False),
        (2, ["MODEL.DEVICE", "cuda:1"], "cuda:1", False),
        (2, ["--num-processes", 2, "MODEL.DEVICE", "auto"], "cpu", False),
    ],
)
def test_devices(monkeypatch, capsys, gpus, words, device, said):
    set_gpus(monkeypatch, gpus)
    assert load(*words).MODEL.DEVICE == device
    assert ("runs on the CPU" in capsys.readouterr().err) == said


def test_the_gpu_that_is_asked_for_becomes_the_current_one(monkeypatch, tmp_path):
    """Else what asks for the current one, such as Detectron2's line of the log, would see, and use, the first."""
    set_gpus(monkeypatch, 2)
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(launch, "set_up_logging", lambda folder: None)
    monkeypatch.setattr(launch, "_list_versions", str)
    for device in ("cuda:1", "cuda"):
        words = ("MODEL.DEVICE", device, "OUTPUT_DIR", tmp_path)
        launch._work(lambda cfg, args: calls.append(cfg.MODEL.DEVICE), load(*words), arguments(*words))
    assert calls == ["cuda:1", "cuda:1", "cuda"]


def test_a_batch_that_processes_cannot_share_starts_none(tmp_path, capsys):
    words = "--num-processes", 3, "SOLVER.IMS_PER_BATCH", 8, "OUTPUT_DIR", tmp_path
    assert launch.run(None, arguments(*words)) == 1
    assert "error: SOLVER.IMS_PER_BATCH is 8" in capsys.readouterr().err


def test_processes_of_torchrun_each_have_a_gpu(monkeypatch):
    set_gpus(monkeypatch, 2)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="--num-processes starts processes, as torchrun has done"):
        load("--num-processes", 2)
    with pytest.raises(InputError, match="MODEL.DEVICE is .*cuda:1.* must be cuda where torchrun starts 2 processes"):
        launch._join_processes(load("MODEL.DEVICE", "cuda:1"))


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--num-gpus", 3, "MODEL.DEVICE", "cuda"], "--num-gpus is 3, but this machine has 2 GPUs"),
        (["--num-gpus", 2, "MODEL.DEVICE", "cpu"], r"MODEL\.DEVICE is cpu, but --num-gpus"),
        (["--num-gpus", 2, "MODEL.DEVICE", "cuda:0"], r"MODEL\.DEVICE is cuda:0, but --num-gpus"),
        (["MODEL.DEVICE", "cuda:2"], r"MODEL\.DEVICE is 'cuda:2'; it must name one of the 2 GPUs"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, words, sentence):
    set_gpus(monkeypatch, 2)
    with pytest.raises(InputError, match=sentence):
        load(*words)


# Exit status


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(main, words...) in this process, which keeps its logging."""
    monkeypatch.setattr(launch, "set_up_logging", lambda output_dir: None)
    return lambda main, *words: launch.run(main, arguments("--num-gpus", 0, *words, "OUTPUT_DIR", tmp_path / "out"))


def test_success(run):
    seen = []
    assert run(lambda cfg, args: seen.append((cfg.SOLVER.MAX_ITER, args.resume)), "--resume", "SOLVER.MAX_ITER", 5) == 0
    assert seen == [(5, True)]


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_a_sentence_instead_of_a_traceback(run, capsys, kind):
    def main(cfg, args):
        raise kind("this is wrong: do that")

    assert run(main) == 1
    assert capsys.readouterr().err == "error: this is wrong: do that\n"
    assert run(main, "SOLVER.BASE_RL", 1) == 1
    assert capsys.readouterr().err.startswith("error: SOLVER.BASE_RL, set in the command line, doesn't exist")


def test_other_errors_keep_their_traceback(run):
    with pytest.raises(ZeroDivisionError):
        run(lambda cfg, args: 1 // 0)


def test_interruption_says_how_to_resume(run, capsys, tmp_path):
    def main(cfg, args):
        raise KeyboardInterrupt

    assert run(main) == 130
    assert "interrupted before the first checkpoint" in capsys.readouterr().err
    (tmp_path / "out/last_checkpoint").write_text("model_0000004.pth")
    assert run(main) == 130
    assert capsys.readouterr().err.endswith("--resume goes on from " + str(tmp_path / "out/model_0000004.pth") + "\n")
    assert run(main, "--eval-only") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").touch()
    status = launch.run(None, arguments("--num-gpus", 0, "OUTPUT_DIR", tmp_path / "file" / "out"))
    assert status == 1
    assert "OUTPUT_DIR" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.json", "log.txt", "log.txt.rank1", "skipped_images.log", "inference"])
def test_nothing_is_written_through_links(capsys, tmp_path, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir(), elsewhere.write_text("precious")
    (out / name).symlink_to(elsewhere)
    assert launch.run(None, arguments("--num-gpus", 0, "OUTPUT_DIR", out)) == 1
    assert capsys.readouterr().err.startswith(f"error: {out / name} is a link to {elsewhere}, where this run must not")
    assert elsewhere.read_text() == "precious"


def test_the_output_folder_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large_disk")
    assert run(lambda cfg, args: None) == 0


# Several processes


@pytest.fixture
def start(tmp_path):
    """start(NAME, OPTION, …): a process that lets two do what launched.py calls so, all in a session of their own."""
    started = []

    def start(*words):
        command = [sys.executable, HERE / "launched.py", *map(str, words), "OUTPUT_DIR", tmp_path / "out"]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_the_sentence_of_started_processes_arrives_once(start, tmp_path):
    process = start("mistake")
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "Traceback" not in error
    assert [line for line in error.splitlines() if "MODEL.WEIGHTS" in line] == [
        "error: MODEL.WEIGHTS is empty: name a file"
    ]
    assert os.listdir(tmp_path) == ["out"]  # no temporary files are left


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_started_processes_end_with_a_checkpoint(start, tmp_path, name):
    """SIGTERM to the process that has started them, or Ctrl-C in a terminal, which reaches them too."""
    process, ready = start("train"), [tmp_path / "out" / f"process{rank}" for rank in range(2)]
    while not all(file.exists() for file in ready):
        assert process.poll() is None
        time.sleep(0.05)
    send = os.killpg if name == "SIGINT" else os.kill
    send(process.pid, signal.Signals[name])
    error = process.communicate(timeout=120)[1]
    assert process.returncode == launch.INTERRUPTED
    assert error.endswith(f"interrupted before the first checkpoint in {tmp_path / 'out'}\n")
    assert (tmp_path / "out/model_0000003").exists()
    for file in ready:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def test_machines_need_an_address_to_meet_at(capsys, tmp_path):
    for url in ("auto", "file:///tmp/x", "tcp://host", "host:1"):
        args = arguments("--num-machines", 2, "--dist-url", url)
        with pytest.raises(InputError, match=r"^--dist-url is .* must be tcp://HOST:PORT"):
            launch.start_processes(None, load(), args, 1)


def test_machines_that_do_not_meet(tmp_path):
    args = arguments("--num-machines", 2, "--dist-url", "tcp://127.0.0.1:1", "--machine-rank", 1)
    with pytest.raises(InputError, match=r"^the 2 machines don't meet at tcp://127\.0\.0\.1:1 \(.*\): let --dist-url"):
        launch.start_processes(None, load("SOLVER.PROCESS_TIMEOUT", 1), args, 1)


def test_the_script_ends_in_a_sentence(python, tmp_path):
    process = subprocess.run(
        [python, ROOT / "train_net.py", "--num-gpus", "0", "OUTPUT_DIR", tmp_path / "out"],
        cwd=tmp_path,
        env=os.environ | {"DETECTRON2_DATASETS": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr + process.stdout
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert str(tmp_path / "data/coco") in line and "DETECTRON2_DATASETS" in line
