"""The command draws where it is told, keeps what is there, and is that of `python -m convmae_det.data.shapes`."""

import subprocess
from pathlib import Path

from convmae_det.cli.main import main

SMALL = ["--train", "2", "--val", "1", "--size", "64"]


def test_it_draws_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data sets"))
    assert main(["shapes", *SMALL]) == 0
    assert f"{tmp_path / 'data sets' / 'shapes'}: 2 training, 1 validation images written" in capsys.readouterr().out
    assert main(["shapes", *SMALL]) == 0
    assert "kept" in capsys.readouterr().out


def test_what_is_in_the_way_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "shapes"):
        assert main(["shapes", str(target), *SMALL]) == 1
        assert capsys.readouterr().err.startswith(f"error: {target} ")


def test_the_module_runs_as_the_command(python, tmp_path):
    command = [python, "-m", "convmae_det.data.shapes", tmp_path / "shapes", *SMALL]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0 and "2 training, 1 validation images written" in done.stdout
    assert "Warning" not in done.stderr
