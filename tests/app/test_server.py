import json
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from convmae_det.app import server
from convmae_det.app.detector import DetectorView, Found
from convmae_det.app.features import FeatureDrawer
from convmae_det.app.server import find_port, import_gradio, keep_files_together, serve
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.visualization.features import draw_features


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is taken"):
            find_port("127.0.0.1", port)
        monkeypatch.setattr(server, "PORT", port)
        assert port < find_port("127.0.0.1", None) < port + 100
    with pytest.raises(InputError, match="is no address of this machine"):
        find_port("203.0.113.1", None)


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_that_does_not_exist(port, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("convmae_det.cli.serve.import_gradio", lambda: None)
    monkeypatch.setitem(sys.modules, "convmae_det.app.launch", None)  # nothing heavy is imported before
    (tmp_path / "config.yaml").touch()
    assert main(["serve", str(tmp_path / "model_final.pth"), "--port", port]) == 1
    assert capsys.readouterr().err.startswith(f"error: --port is {port}; it must be 1 to 65535")


def test_without_gradio_it_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setitem(sys.modules, "convmae_det.app.launch", None)
    (tmp_path / "config.yaml").touch()
    assert main(["serve", str(tmp_path / "model_final.pth")]) == 1
    assert capsys.readouterr().err == "error: the page needs gradio: pip install 'convmae_det[app]'\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "0 weights are named"),
        (["a.pth", "--weights", "b.pth"], "2 weights are named"),
        (["none/a.pth"], "there is no config.yaml beside none/a.pth"),
    ],
)
def test_what_is_wrong_is_said(words, sentence, capsys):
    assert main(["serve", *words]) == 1
    assert sentence in capsys.readouterr().err


def test_ctrl_c_closes_the_page_and_leaves_nothing(monkeypatch, capsys, tmp_path):
    pytest.importorskip("gradio")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            if timeout is None and sys._getframe(1).f_code.co_name == "serve":
                raise KeyboardInterrupt
            return super().wait(timeout)

    with keep_files_together():
        gradio = import_gradio()
        with gradio.Blocks(analytics_enabled=False) as blocks:
            gradio.Markdown("text")
        monkeypatch.setattr(server.threading, "Event", Interrupted)
        serve(blocks)
    said = capsys.readouterr().out
    assert "The page is at http://127.0.0.1:" in said and said.endswith("The page is closed.\n")
    assert not list(tmp_path.iterdir()) and not blocks.is_running


def test_alike_features_have_alike_colours():
    """Two kinds of places, whatever the basis in which the features are given."""
    kinds = torch.zeros(8, 8, dtype=torch.long)
    kinds[:, 4:] = 1
    features = torch.randn(2, 16)[kinds].permute(2, 0, 1) + 0.01 * torch.randn(16, 8, 8)
    picture = draw_features(features, (128, 64)).astype(int)
    assert picture.shape == (384, 192, 3)
    left, right = picture[:, :80, :].mean((0, 1)), picture[:, 112:, :].mean((0, 1))
    assert np.abs(left - right).max() > 200
    assert np.abs(picture[:, :80, 0] - left[0]).max() < 30
    assert draw_features(torch.ones(2, 3, 3), (9, 9)).shape[2] == 3  # fewer components, and no difference


def test_features_are_those_of_the_encoder(tmp_path):
    drawer = FeatureDrawer("config.yaml", "weights.pth")
    inputs = []

    class Extractor:
        mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

        def __call__(self, images):
            inputs.append(images)
            return {"e3": torch.randn(1, 8, 4, 4)}

    drawer.extractor = Extractor()
    assert drawer(torch.full((3, 64, 64), 255, dtype=torch.uint8), (64, 64)).shape == (384, 384, 3)
    torch.testing.assert_close(inputs[0], torch.full((1, 3, 64, 64), 2.0))


def test_what_was_written_before_is_not_written_again(tmp_path, monkeypatch):
    """As the slider moves, which chooses the same objects at many places."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    view = DetectorView(None, None)
    found = Found("deep/photo.png", None, None, None, [{"score": 0.1}, {"score": 0.9}])
    paths = [view.write(found, torch.tensor(chosen)) for chosen in ([True, True], [False, True], [True, True])]
    assert paths[0] == paths[2] != paths[1] and len(list(tmp_path.rglob("*.json"))) == 2
    assert Path(paths[1]).name == "photo.json" and json.loads(Path(paths[1]).read_text()) == found.entries[1:]
