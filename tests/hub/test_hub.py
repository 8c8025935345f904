"""What is published is three files, complete and without secrets, and comes back bit for bit; no network is touched."""

import functools
import hashlib
import json
import os
import pickle
import re
import shutil
import socket
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import unquote

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from huggingface_hub import ModelCard, errors, repocard_data
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference.small import assert_near, autoencoder_cfg, detector_cfg, randomise

import convmae_det
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.weights import read_weights
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError
from convmae_det.hub.card import build_model_card
from convmae_det.hub.publish import FILES, write_folder

NAME = "someone/some-model"
CATEGORIES = [[7, "cat"], [90, "dog"], [91, "cow"], [92, "hen"]]
SECRET = "/home/someone/secret"


def small_config(detector: bool):
    """As a run dumps it: with paths of the machine."""
    cfg = detector_cfg("DATASETS.CATEGORIES", CATEGORIES) if detector else autoencoder_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("pets_train",), ("pets_val",)
    cfg.DATASETS.COCO_FORMAT = [["pets_train", f"{SECRET}.json", SECRET]]
    cfg.DATASETS.IMAGE_FOLDERS = [["more", SECRET]]
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = f"{SECRET}/output", f"{SECRET}/weights.pth"
    return cfg


def write_run(folder: Path, detector: bool) -> None:
    folder.mkdir()
    cfg = small_config(detector)
    (folder / "config.yaml").write_text(cfg.dump())
    model = randomise(build_model(cfg))
    state = {"model": model.state_dict(), "trainer": {"optimizer": {"state": {0: torch.ones(3)}}}, "iteration": 99}
    write_checkpoint(state, folder / "model_final.pth")
    records = [{"iteration": 59, "bbox/AP": 41.26, "segm/AP": 31.0, "total_loss": 0.5}]
    records += [{"iteration": 99, "total_loss": 0.1234}, {"iteration": 100, "bbox/AP": 40.0, "segm/AP": 33.33}]
    (folder / "metrics.json").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def detector(tmp_path):
    write_run(tmp_path / "detector", detector=True)
    return tmp_path / "detector"


@pytest.fixture
def pretraining(tmp_path):
    write_run(tmp_path / "pretraining", detector=False)
    return tmp_path / "pretraining"


class Hub:
    """Stands for huggingface_hub: a repository is a folder, and what is asked for is noted."""

    def __init__(self, root: Path):
        self.root, self.asked = root, []

    def create_repo(self, repo_id, private, exist_ok):
        self.asked.append((repo_id, private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        assert convmae_det.__version__ in commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id, revision, allow_patterns):
        self.asked.append((repo_id, revision))
        cache = self.root / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        for name in allow_patterns:
            assert not set(name) & set("*?[]/")  # names, and no patterns
            if (self.root / repo_id / name).exists():
                shutil.copy(self.root / repo_id / name, cache)
        return str(cache)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    for name in ("create_repo", "upload_folder", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    return hub


def same(ours, theirs) -> None:
    assert len(ours) == len(theirs) > 0
    for name, value in theirs.get_fields().items():
        value, other = (getattr(v, "tensor", v) for v in (value, ours.get(name)))
        assert torch.equal(other, value), name


# --- there and back


def test_detector(hub, detector, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    address = convmae_det.push(detector, NAME, private=True)
    assert address == f"https://huggingface.co/{NAME}"
    assert {file.name for file in (hub.root / NAME).iterdir()} == set(FILES)
    (hub.root / NAME / "virus.py").write_text("raise SystemExit")  # is not fetched
    original = convmae_det.Predictor(detector / "config.yaml", detector / "model_final.pth", device="cpu")
    fetched = convmae_det.from_pretrained(NAME, revision="v1", device="cpu")
    assert hub.asked == [(NAME, True), (NAME, "v1")]
    assert {file.name for file in (hub.root / "cache").iterdir()} == set(FILES)
    same(fetched(pixels), original(pixels))
    assert fetched.category_ids == [7, 90, 91, 92] and fetched.class_names == ["cat", "dog", "cow", "hen"]
    images = torch.randn(1, 3, 50, 70)
    encoder = convmae_det.from_pretrained(NAME, encoder=True, features=["e3"])
    expected = convmae_det.create_encoder(pretrained=detector / "model_final.pth", features=["e3"])
    assert_near(encoder(images), expected(images), 0)


def test_encoder(hub, pretraining):
    convmae_det.push(pretraining / "model_final.pth", NAME)
    assert hub.asked == [(NAME, False)]
    images = torch.randn(1, 3, 50, 70)
    expected = convmae_det.create_encoder(pretrained=pretraining / "model_final.pth")
    assert_near(convmae_det.from_pretrained(NAME)(images), expected(images), 0)
    assert_near(convmae_det.from_pretrained(pretraining)(images), expected(images), 0)  # an OUTPUT_DIR will do


@pytest.mark.parametrize("kind", ["detector", "pretraining"])
def test_weights_alone_are_published_and_all_of_them(request, kind, tmp_path):
    run = request.getfixturevalue(kind)
    write_folder(run, tmp_path / "folder", NAME)
    published, own = (
        read_checkpoint(tmp_path / "folder" / "model.safetensors"),
        read_checkpoint(run / "model_final.pth"),
    )
    assert set(published) == {"model", "format"}
    assert published["model"].keys() == own["model"].keys()
    assert all(torch.equal(tensor, own["model"][name]) for name, tensor in published["model"].items())


def test_the_best_weights_come_first(detector, tmp_path):
    content = read_checkpoint(detector / "model_final.pth")
    weights = {name: tensor + 1 for name, tensor in content["model"].items()}
    best = {"metric": "segm/AP", "value": 31.0, "iterations": 60}
    write_checkpoint({"model": weights, "best": best}, detector / "model_best.pth")
    write_folder(detector, tmp_path / "folder", NAME)
    published = read_checkpoint(tmp_path / "folder" / "model.safetensors")["model"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in published.items())
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "`model_best.pth`, chosen by segm/AP" in card and "60, 16 images each" in card
    assert "41.3" in card and "31.0" in card and "33.3" not in card


def test_of_averaged_weights_the_card_has_their_own_scores(detector, tmp_path):
    content = read_checkpoint(detector / "model_final.pth")
    best = {"metric": "ema/bbox/AP", "value": 44.0, "iterations": 60}
    write_checkpoint({"model": content["model"], "best": best}, detector / "model_best.pth")
    (detector / "metrics.json").write_text(
        json.dumps({"iteration": 59, "bbox/AP": 41.26, "ema/bbox/AP": 44.04, "total_loss": 1.0})
    )
    write_folder(detector, tmp_path / "folder", NAME)
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "44.0" in card and "41.3" not in card


# --- the card and the configuration


def test_card_of_a_detector(detector, tmp_path):
    write_folder(detector, tmp_path / "folder", NAME, license="mit")
    card = (tmp_path / "folder" / "README.md").read_text()
    front = ModelCard(card).data
    assert (front.license, front.pipeline_tag, front.library_name) == ("mit", "object-detection", "convmae_det")
    numbers = sum(tensor.numel() for tensor in read_checkpoint(detector / "model_final.pth")["model"].values())
    for fact in (
        NAME, "pets_train", "pets_val", "100, 16 images each", f"{numbers:,}", "widths 8 12 16", "model_final.pth",
        "cat, dog, cow, hen", "2205.03892", convmae_det.__version__, f'convmae_det.from_pretrained("{NAME}")',
    ):  # fmt: skip
        assert fact in card, fact
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in card.splitlines() if line.startswith("|")]
    assert ["box", "40.0"] in rows and ["mask", "33.3"] in rows  # those of the last evaluation
    index = huggingface_hub.metadata_load(tmp_path / "folder" / "README.md")["model-index"]
    model, results = repocard_data.model_index_to_eval_results(index)
    assert model == "some-model"
    assert {(result.task_type, result.dataset_name, result.metric_name): result.metric_value for result in results} == {
        ("object-detection", "pets_val", "box AP"): 40.0,
        ("image-segmentation", "pets_val", "mask AP"): 33.33,
    }


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=2))
@settings(max_examples=50)
@example(names=["a\n---\nlicense: other", "cat | dog"])
@example(names=["yes", "3: [1, 2]"])
def test_no_name_breaks_the_card(detector, names):
    cfg = small_config(detector=True)
    cfg.DATASETS.TEST, cfg.DATASETS.CATEGORIES = (names[0],), [[1, names[1]], [2, "hen"]]
    weights, curves = read_weights(detector / "model_final.pth"), {"bbox/AP": [(99, 12.3456)]}
    card = ModelCard(build_model_card(NAME, cfg, weights, curves, "model_final.pth", "mit", "1.0"))
    (result,) = card.data.eval_results
    assert result.dataset_name.split() == names[0].split()  # YAML takes some line ends for others
    assert (result.metric_value, card.data.license) == (12.346, "mit")
    (row,) = (line for line in card.text.splitlines() if line.startswith("| classes"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3 and row.rstrip(" |").endswith(", hen")


def test_card_of_an_encoder(pretraining, tmp_path):
    write_folder(pretraining, tmp_path / "folder", NAME)
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "image-feature-extraction" in card and "0.1234" in card and "encoder(images)" in card


@pytest.mark.parametrize("metrics", [None, "", '{"iteration": 5, "total_loss": 1.0}', "not JSON"])
def test_a_run_without_scores(detector, tmp_path, metrics):
    (detector / "metrics.json").unlink()
    if metrics is not None:
        (detector / "metrics.json").write_text(metrics)
    write_folder(detector, tmp_path / "folder", NAME)
    assert "not evaluated" in (tmp_path / "folder" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["detector", "pretraining"])
def test_no_path_of_the_machine_is_published(request, kind, tmp_path):
    run = request.getfixturevalue(kind)
    assert SECRET in (run / "config.yaml").read_text()
    write_folder(run, tmp_path / "folder", NAME)
    for name in FILES:
        content = (tmp_path / "folder" / name).read_bytes()
        assert SECRET.encode() not in content and str(tmp_path).encode() not in content
    published = yaml.safe_load((tmp_path / "folder" / "config.yaml").read_text())
    original = yaml.safe_load((run / "config.yaml").read_text())
    assert published["MODEL"]["CONVMAE"] == original["MODEL"]["CONVMAE"] and published["INPUT"] == original["INPUT"]


@pytest.mark.parametrize("kind", ["detector", "pretraining"])
@pytest.mark.parametrize("as_type", [str, Path])
def test_a_checkpoint_is_loaded_with_the_configuration_beside_it(hub, request, kind, as_type):
    """The file that is named, where the folder's own choice would be another."""
    run = request.getfixturevalue(kind)
    content = read_checkpoint(run / "model_final.pth")
    (run / "model_final.pth").rename(run / "model_0000099.pth")
    write_checkpoint({"model": {name: tensor + 1 for name, tensor in content["model"].items()}}, run / "model_best.pth")
    options = {"device": "cpu"} if kind == "detector" else {}
    model = convmae_det.from_pretrained(as_type(run / "model_0000099.pth"), **options)
    module = model.model if kind == "detector" else model
    values = {name.rpartition("encoder.")[2]: tensor for name, tensor in content["model"].items() if "stage1" in name}
    own = {name.rpartition("encoder.")[2]: tensor for name, tensor in module.state_dict().items()}
    assert values and all(torch.equal(own[name], tensor) for name, tensor in values.items())
    assert hub.asked == []


@pytest.mark.parametrize("name", ["output/model_final.pth", "someone/model.safetensors", Path("someone/some-model")])
def test_a_missing_file_is_not_looked_for_on_the_hub(hub, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"there is no file or folder {name}: name the OUTPUT_DIR"):
        convmae_det.from_pretrained(name)
    assert hub.asked == []


def test_a_checkpoint_without_its_configuration(hub, detector):
    (detector / "config.yaml").unlink()
    with pytest.raises(InputError, match="model_final.pth has no config.yaml beside it.*create_encoder"):
        convmae_det.from_pretrained(detector / "model_final.pth")
    with pytest.raises(InputError, match="has no revision main"):
        convmae_det.from_pretrained(detector / "model_final.pth", revision="main")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["README.md", "config.yaml"])
def test_a_file_of_a_user_is_not_written_over(detector, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds other files, such as {name}"):
        write_folder(detector, tmp_path / "folder", NAME)
    assert (tmp_path / "folder" / name).read_text() == "mine"


# --- what isn't published, and what isn't loaded


def test_a_model_that_does_not_load_is_not_published(hub, detector, tmp_path):
    config = yaml.safe_load((detector / "config.yaml").read_text())
    config["MODEL"]["FPN"]["OUT_CHANNELS"] = 32
    (detector / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="doesn't fit the model"):
        convmae_det.push(detector, NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    "missing, complaint", [("config.yaml", "config.yaml can't be read"), ("model_final.pth", "none")]
)
def test_an_incomplete_run(hub, detector, missing, complaint):
    (detector / missing).unlink()
    with pytest.raises(InputError, match=complaint):
        convmae_det.push(detector, NAME)
    assert hub.asked == []


def test_a_folder_with_other_files_is_left_alone(detector, tmp_path):
    before = {file.name: file.read_bytes() for file in detector.iterdir()}
    with pytest.raises(InputError, match="holds other files"):
        write_folder(detector, detector, NAME)
    assert {file.name: file.read_bytes() for file in detector.iterdir()} == before
    write_folder(detector, tmp_path / "folder", NAME)
    write_folder(detector, tmp_path / "folder", NAME)  # what it wrote itself is replaced


@pytest.mark.parametrize(
    "name", ["model", "a/b/c", "../x", "/x/y", "some one/x", "", "~nobody/x", "a/b\n", "https://huggingface.co/a/b"]
)
def test_names_that_are_none(hub, detector, name, tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")  # where no folder is called so
    with pytest.raises(InputError, match="USER/NAME"):
        convmae_det.push(detector, name)
    if name:
        with pytest.raises(InputError, match="no folder .* named USER/NAME"):
            convmae_det.from_pretrained(name)
    assert hub.asked == []


@pytest.mark.parametrize(
    "config, complaint",
    [
        ("_BASE_: ../../../secret.yaml\n", "_BASE_"),
        ("<<: {_BASE_: /etc/passwd}\n", "_BASE_"),
        ("MODEL: !!python/object/apply:os.system ['touch ran']\n", "not plain YAML"),
        ("MODEL: 3\n", "doesn't describe a ConvMAE network"),
        (None, "config.yaml can't be read"),
    ],
)
def test_a_configuration_from_the_hub_reaches_nothing(hub, pretraining, monkeypatch, tmp_path, config, complaint):
    convmae_det.push(pretraining, NAME)
    monkeypatch.chdir(tmp_path)
    path = hub.root / NAME / "config.yaml"
    path.unlink()
    if config:
        path.write_text(config)
    with pytest.raises(InputError, match=complaint):
        convmae_det.from_pretrained(NAME)
    assert not (tmp_path / "ran").exists()


VALUES = [("WINDOW_SIZE", ["x"]), ("WINDOW_SIZE", float("nan")), ("GLOBAL_BLOCKS", 10**12), ("GLOBAL_BLOCKS", "/etc")]
VALUES += [("EMBED_DIMS", 3), ("NUM_HEADS", "x\ny"), ("PIXEL_MEAN", ["x"] * 3), ("PIXEL_STD", [None] * 3)]


@pytest.mark.parametrize("key, value", VALUES)
@pytest.mark.parametrize("options", [{"encoder": True}, {"device": "cpu"}])
def test_values_from_the_hub_that_no_model_has(hub, detector, key, value, options):
    convmae_det.push(detector, NAME)
    path = hub.root / NAME / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    (tree["MODEL"] if key.startswith("PIXEL") else tree["MODEL"]["CONVMAE"])[key] = value
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError) as caught:
        convmae_det.from_pretrained(NAME, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="featurs"):  # a caller's mistake is no stranger's
        convmae_det.from_pretrained(NAME, encoder=True, featurs=["e3"])


def test_a_huge_configuration_is_not_read(hub, pretraining):
    convmae_det.push(pretraining, NAME)
    with (hub.root / NAME / "config.yaml").open("a") as file:
        file.write("#" * 2**20)
    with pytest.raises(InputError, match=r"config.yaml has 1,0\d\d,\d\d\d bytes, more than any run writes"):
        convmae_det.from_pretrained(NAME)


def test_paths_and_addresses_in_a_configuration_from_the_hub_are_left_alone(hub, detector, monkeypatch, tmp_path):
    convmae_det.push(detector, NAME)
    shutil.copy(detector / "config.yaml", hub.root / NAME)
    path = hub.root / NAME / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["MODEL"]["WEIGHTS"] = "https://host/weights.pkl"
    tree["OUTPUT_DIR"] = str(tmp_path / "elsewhere")
    tree["DATASETS"]["PROPOSAL_FILES_TRAIN"] = tree["DATASETS"]["PROPOSAL_FILES_TEST"] = ["../../secret.pkl"]
    path.write_text(yaml.safe_dump(tree))
    connections = Mock(side_effect=OSError("no network"))
    monkeypatch.setattr(socket.socket, "connect", connections)
    before = set(tmp_path.rglob("*"))
    predictor = convmae_det.from_pretrained(NAME, device="cpu")
    predictor(np.zeros((60, 80, 3), np.uint8))
    convmae_det.from_pretrained(NAME, encoder=True)
    assert not connections.called
    assert {file.parent for file in set(tmp_path.rglob("*")) - before} <= {hub.root, hub.root / "cache"}


class Malice:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "bomb", "link", "lfs"])
def test_weights_from_the_hub_that_are_none(hub, pretraining, tmp_path, kind):
    convmae_det.push(pretraining, NAME)
    path, proof = hub.root / NAME / "model.safetensors", tmp_path / "proof"
    path.unlink()
    if kind in ("zip", "legacy"):
        torch.save({"model": Malice(proof)}, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb/data.pkl", bytes(10**7))
    else:  # the hub serves a link in a repository as a file that says where it leads
        content = {"pickle": pickle.dumps(Malice(proof)), "link": b"../../../secret.pth"}
        path.write_bytes(content.get(kind, b"version https://git-lfs.github.com/spec/v1"))
    with pytest.raises(InputError, match="model.safetensors .*: ") as caught:
        convmae_det.from_pretrained(NAME)
    assert "\n" not in str(caught.value) and not proof.exists()


def test_data_sets_of_a_published_configuration_are_not_registered(hub, detector):
    convmae_det.push(detector, NAME)
    shutil.copy(detector / "config.yaml", hub.root / NAME)  # someone else's, with their paths
    predictor = convmae_det.from_pretrained(NAME, device="cpu")
    assert predictor.cfg.DATASETS.COCO_FORMAT == [] and not predictor.cfg.DATASETS.TRAIN + predictor.cfg.DATASETS.TEST


def response(status: int) -> Mock:
    return Mock(status_code=status, headers={})


@pytest.mark.parametrize(
    "error, advice",
    [
        (errors.RepositoryNotFoundError("404 Client Error.\n\nmore", response=response(404)), "no such model"),
        (errors.RevisionNotFoundError("404", response=response(404)), "no such revision"),
        (errors.LocalTokenNotFoundError("no token"), "hf auth login"),
        (errors.HfHubHTTPError("403 Forbidden", response=response(403)), "hf auth login"),
        (errors.HfHubHTTPError("500 Server Error", response=response(500)), "500 Server Error; check the network"),
        (ConnectionError("Name or service not known"), "check the network"),
        (errors.LocalEntryNotFoundError("Cannot find it"), "check the network"),
    ],
)
def test_what_goes_wrong_there_is_said_in_one_sentence(hub, detector, monkeypatch, error, advice):
    def fail(*args, **kwargs):
        raise error

    for name in ("create_repo", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, fail)
    for use in (lambda: convmae_det.push(detector, NAME), lambda: convmae_det.from_pretrained(NAME)):
        with pytest.raises(InputError, match=advice) as caught:
            use()
        assert "\n" not in str(caught.value) and NAME in str(caught.value)


# --- a repository that lies about its files, met by huggingface_hub itself


class Hostile(BaseHTTPRequestHandler):
    """A hub of one repository: `files` are listed and sent, with `longer` bytes more than announced."""

    files: dict[str, bytes]
    longer: int
    asked: list[str]

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(b"x" * self.longer)

    def answer(self, more: bytes):
        self.asked.append(self.path)
        if "/tree/" in self.path:
            sizes = {name: len(content) for name, content in self.files.items()}
            body = [{"type": "file", "path": name, "size": sizes[name], "oid": "0" * 40} for name in sizes]
        else:
            body = {"id": NAME, "sha": "a" * 40, "siblings": []}
        body = json.dumps(body).encode()
        if "/resolve/" in self.path:
            body = self.files[unquote(self.path.split("/resolve/")[1].partition("/")[2])] + more
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    handler = type("Handler", (Hostile,), {"files": {}, "longer": 0, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address, cache = f"http://127.0.0.1:{server.server_port}", tmp_path / "above/cache"
        fetch = functools.partial(huggingface_hub.snapshot_download, endpoint=address, cache_dir=cache, token=False)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        yield handler
        server.shutdown()
        thread.join()


def outside(folder: Path) -> list[Path]:
    """The files below `folder` that are not in the cache, and links in there that lead out of it."""
    cache = folder / "above/cache"
    return [file for file in folder.rglob("*") if not file.is_dir() and not file.resolve().is_relative_to(cache)]


def test_names_of_files_that_lead_elsewhere_are_not_fetched(hostile, pretraining, tmp_path):
    write_folder(pretraining, tmp_path / "folder", NAME)
    before = outside(tmp_path)
    good = {name: (tmp_path / "folder" / name).read_bytes() for name in FILES}
    names = [f"{way}{name}" for way in ("../" * 6, "/", f"{tmp_path}/", "sub/", "a\nb/", "..\\") for name in FILES]
    hostile.files = good | dict.fromkeys([*names, "config.yaml\n", "config.yaml/x", "virus.py"], b"evil")
    convmae_det.from_pretrained(NAME)
    fetched = {path.partition("/resolve/")[2].partition("/")[2] for path in hostile.asked if "/resolve/" in path}
    assert fetched == set(FILES)
    assert outside(tmp_path) == before


REVISIONS = ["../../../../evil", "..", ".", "", "x/../../../y", "/etc/evil", "a\nb", "main?x=1", "a b", "-x", "a\0"]


@pytest.mark.parametrize("revision", [*REVISIONS, "{}/absolute"])
def test_revisions_that_lead_elsewhere(hostile, tmp_path, revision):
    hostile.files = {"config.yaml": b"MODEL: 3"}
    with pytest.raises(InputError, match="^revision is .*, which no branch, tag or commit can be: "):
        convmae_det.from_pretrained(NAME, revision=revision.format(tmp_path))
    assert hostile.asked == [] and outside(tmp_path) == []


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", "feature/a_b-c", "b" * 40])
def test_revisions_that_may_be(hostile, tmp_path, revision):
    hostile.files = {"config.yaml": b"MODEL: 3"}
    with pytest.raises(InputError, match="holds none of model.safetensors"):
        convmae_det.from_pretrained(NAME, revision=revision)
    assert outside(tmp_path) == []


@pytest.mark.parametrize("longer", [1, 10**6])
def test_files_larger_than_said(hostile, tmp_path, longer):
    hostile.files, hostile.longer = {"config.yaml": b"MODEL: 3", "model.safetensors": b"1234"}, longer
    with pytest.raises(InputError, match=f"{NAME}, and .*can't be fetched: .*should be of size") as caught:
        convmae_det.from_pretrained(NAME)
    assert "\n" not in str(caught.value)
    assert outside(tmp_path) == [] and not list(tmp_path.glob("above/cache/*/snapshots/*/*"))


def test_without_huggingface_hub(detector, tmp_path, monkeypatch):
    write_folder(detector, tmp_path / "folder", NAME)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (
        lambda: convmae_det.push(detector, NAME),
        lambda: write_folder(detector, tmp_path / "other", NAME),
        lambda: convmae_det.from_pretrained(NAME),
    ):
        with pytest.raises(InputError, match="python -m pip install huggingface_hub"):
            use()
    convmae_det.from_pretrained(tmp_path / "folder", device="cpu")  # a folder needs none


def test_a_folder_has_no_revision(detector):
    with pytest.raises(InputError, match="no revision"):
        convmae_det.from_pretrained(detector, revision="main")
