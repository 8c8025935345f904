"""The command line of publishing; no network is touched."""

import pytest
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, randomise

from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.cli import push
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.hub.publish import FILES


@pytest.fixture
def run(tmp_path):
    """An OUTPUT_DIR of pretraining."""
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = autoencoder_cfg()
    (folder / "config.yaml").write_text(cfg.dump())
    write_checkpoint({"model": randomise(build_model(cfg)).state_dict(), "iteration": 9}, folder / "model_final.pth")
    return folder


def test_folder(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(push, "push", None)
    folder = tmp_path / "published"
    push.main([str(run), "someone/model", "--folder", str(folder), "--license", "mit"])
    assert {file.name for file in folder.iterdir()} == set(FILES)
    card = (folder / "README.md").read_text()
    assert "license: mit" in card and "someone/model" in card
    printed = capsys.readouterr().out
    assert all(name in printed for name in FILES) and "Nothing was uploaded" in printed


def test_upload(run, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(push, "push", lambda *words, **options: asked.append((words, options)) or "the address")
    push.main([str(run), "someone/model", "--private"])
    assert asked == [((str(run), "someone/model"), dict(private=True, license="apache-2.0"))]
    assert capsys.readouterr().out == "the address\n"


def test_what_will_not_do(run, tmp_path):
    with pytest.raises(InputError, match="USER/NAME"):
        push.main([str(run), "model", "--folder", str(tmp_path / "published")])
    assert not (tmp_path / "published").exists()


def test_the_command_ends_with_the_sentence(tmp_path, capsys):
    assert main(["push", str(tmp_path / "nowhere.pth"), "someone/model"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
