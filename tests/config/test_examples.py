"""The examples are configurations that training takes, once there are data, and the documentation names them all."""

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from convmae_det.config import add_convmae_config
from convmae_det.config.architectures import is_autoencoder, is_classifier
from convmae_det.config.checks.training import check_classification, check_fine_tuning, check_pretraining
from convmae_det.config.keys import set_keys
from convmae_det.modeling.embeddings import PatchEmbed

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.yaml"))


@pytest.fixture
def load(monkeypatch):
    """load(NAME): in a folder without configs/, as of those who have the wheel alone."""
    monkeypatch.chdir(ROOT / "examples")

    def load(name: str) -> CfgNode:
        cfg = get_cfg()
        add_convmae_config(cfg)
        set_keys(cfg, name, (), "")
        return cfg

    return load


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_if_there_are_data(load, name):
    cfg = load(name)
    check = check_classification if is_classifier(cfg) else check_fine_tuning
    (check_pretraining if is_autoencoder(cfg) else check)(cfg, processes=1)
    named = {entry[0] for kind in ("COCO_FORMAT", "IMAGE_FOLDERS", "CLASS_FOLDERS") for entry in cfg.DATASETS[kind]}
    assert cfg.DATASETS.TRAIN and {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} == named
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    first = next(layer for layer in model.modules() if isinstance(layer, PatchEmbed))
    assert first.proj.in_features == first.patch_size**2 * len(cfg.MODEL.PIXEL_MEAN)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_how_it_is_run_and_is_named_in_the_documentation(load, name):
    text = (ROOT / "examples" / name).read_text()
    command = "pretrain" if is_autoencoder(load(name)) else "train"
    assert f"#     convmae-det {command} --config-file examples/{name} " in text
    assert f"(../examples/{name})" in (ROOT / "docs/own_data.md").read_text()


def test_outputs_lie_apart(load):
    folders = [load(name).OUTPUT_DIR for name in EXAMPLES]
    assert len({*folders}) == len(folders)
