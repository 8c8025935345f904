import json

import pytest
from PIL import Image

from convmae_det.cli import plot
from convmae_det.cli.main import main
from convmae_det.errors import InputError


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [json.dumps({"iteration": i, "total_loss": 1 / (i + 1), "lr": 0.1}) for i in range(19, 400, 20)]
    (folder / "metrics.json").write_text("\n".join(lines) + '\n{"iterat')
    return folder


def test_the_picture_lies_beside_the_metrics(run, capsys):
    plot.main([str(run)])
    assert capsys.readouterr().out == f"{run}/curves.png written\n"
    with Image.open(run / "curves.png") as picture:
        assert picture.format == "PNG" and picture.width > 300
    content = (run / "curves.png").read_bytes()
    (run / "curves.png").unlink()
    plot.main([f"{run}/metrics.json"])
    assert (run / "curves.png").read_bytes() == content


def test_several_runs_share_a_picture_in_the_current_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text('{"iteration": 5, "total_loss": 0.5}\n')
    plot.main(["run/", "other"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "other", "run"]
    plot.main(["run", "--output", "run/a.png", "other/metrics.json"])
    assert (run / "a.png").read_bytes() == (tmp_path / "curves.png").read_bytes()


def test_what_can_not_be_drawn(run, tmp_path):
    for path in (tmp_path / "missing", tmp_path / "missing" / "metrics.json"):
        with pytest.raises(InputError, match="can't be read .*OUTPUT_DIR"):
            plot.main([str(run), str(path), "--output", str(tmp_path / "a.png")])
    (run / "metrics.json").write_text("")
    with pytest.raises(InputError, match="is empty"):
        plot.main([str(run)])
    assert not list(tmp_path.rglob("*.png"))


def test_the_command_ends_with_the_sentence(tmp_path, capsys):
    assert main(["plot", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/metrics.json can't be read")
