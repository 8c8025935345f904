import json
import runpy
import sys

import pytest
from PIL import Image

from convmae_det.cli import plot as plot_metrics
from convmae_det.errors import InputError


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [json.dumps({"iteration": i, "total_loss": 1 / (i + 1), "lr": 0.1}) for i in range(19, 400, 20)]
    (folder / "metrics.json").write_text("\n".join(lines) + '\n{"iterat')
    return folder


def test_the_picture_lies_beside_the_metrics(run, capsys):
    plot_metrics.main([str(run)])
    assert capsys.readouterr().out == f"{run}/curves.png written\n"
    with Image.open(run / "curves.png") as picture:
        assert picture.format == "PNG" and picture.width > 300
    content = (run / "curves.png").read_bytes()
    (run / "curves.png").unlink()
    plot_metrics.main([f"{run}/metrics.json"])
    assert (run / "curves.png").read_bytes() == content


def test_several_runs_share_a_picture_in_the_current_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text('{"iteration": 5, "total_loss": 0.5}\n')
    plot_metrics.main(["run/", "other"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "other", "run"]
    plot_metrics.main(["run", "--output", "run/a.png", "other/metrics.json"])
    assert (run / "a.png").read_bytes() == (tmp_path / "curves.png").read_bytes()


def test_what_can_not_be_drawn(run, tmp_path):
    for path in (tmp_path / "missing", tmp_path / "missing" / "metrics.json"):
        with pytest.raises(InputError, match="can't be read .*OUTPUT_DIR"):
            plot_metrics.main([str(run), str(path), "--output", str(tmp_path / "a.png")])
    (run / "metrics.json").write_text("")
    with pytest.raises(InputError, match="is empty"):
        plot_metrics.main([str(run)])
    assert not list(tmp_path.rglob("*.png"))


def test_the_script_ends_with_the_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plot_metrics.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="^error: .*metrics.json can't be read") as ended:
        runpy.run_path(plot_metrics.__file__, run_name="__main__")
    assert isinstance(ended.value.code, str)  # which Python prints on stderr, with exit status 1
