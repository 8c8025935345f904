"""Every configuration that is shipped loads, keeps the rules of the solver and builds its model."""

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from reference.small import annotated_image

from convmae_det.config import add_convmae_config
from convmae_det.config.checks.training import check_solver
from convmae_det.config.presets import PRESETS
from convmae_det.modeling.masked_autoencoder import MaskedAutoencoder

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if path.parent.name != "studies")
ARCH_OF_SUFFIX = {"s": "small", "b": "base", "l": "large", "h": "huge", "tiny": "tiny"}


def load(name: str) -> CfgNode:
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


def test_there_are_configs():
    assert {"mask_rcnn_convmae_b.yaml", "quickstart/mask_rcnn_convmae_tiny_shapes.yaml"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_config_loads_and_builds(name):
    cfg = load(name)
    check_solver(cfg)
    cfg.MODEL.DEVICE = "meta"  # shapes without numbers: huge builds in no time
    with torch.device("meta"):
        model = build_model(cfg)
    assert isinstance(model, MaskedAutoencoder) == (cfg.MODEL.META_ARCHITECTURE == "MaskedAutoencoder")
    dims = PRESETS[cfg.MODEL.CONVMAE.ARCH]["embed_dims"]
    (depthwise,) = {m.in_channels for n, m in model.named_modules() if n.endswith("encoder.stage1.blocks.0.depthwise")}
    assert depthwise == dims[0]


@pytest.mark.parametrize("name", [name for name in FILES if not Path(name).name.startswith("Base")])
def test_the_name_of_a_config_tells_what_it_trains(name):
    cfg, words = load(name), Path(name).stem.split("_")
    assert cfg.MODEL.CONVMAE.ARCH == ARCH_OF_SUFFIX[words[words.index("convmae") + 1]]
    assert ("pretrain" in words) == (cfg.MODEL.META_ARCHITECTURE == "MaskedAutoencoder")
    assert ("cascade" in words) == (cfg.MODEL.ROI_HEADS.NAME == "CascadeROIHeads")


def test_output_folders_differ():
    folders = [load(name).OUTPUT_DIR for name in FILES if not Path(name).name.startswith("Base")]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("quickstart")])
def test_quickstart_models_train_one_step(name):
    cfg = load(name)
    cfg.MODEL.DEVICE = "cpu"
    size = cfg.MODEL.CONVMAE.IMAGE_SIZE if "rcnn" in name else cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE
    with EventStorage():
        losses = build_model(cfg)([annotated_image(size, size), annotated_image(size, size, objects=0)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("key", ["MODEL.CONVMAE.WINDOWSIZE", "MODEL.MAE.RATIO", "SOLVER.EPOCHS"])
def test_a_key_that_does_not_exist_is_refused(tmp_path, key):
    *nodes, leaf = key.split(".")
    lines = [f"{'  ' * i}{node}:" for i, node in enumerate(nodes)] + [f"{'  ' * len(nodes)}{leaf}: 1"]
    (tmp_path / "typo.yaml").write_text("\n".join(lines))
    with pytest.raises(KeyError, match=key):
        load(str(tmp_path / "typo.yaml"))
