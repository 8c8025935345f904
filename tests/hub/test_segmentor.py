"""Segmentors and panoptic FPNs are published with classes and metrics, without paths, and come back as they were."""

import json

import numpy as np
import pytest
import torch
import yaml
from reference.small import detector_cfg, randomise, segmentor_cfg

import convmae_det
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.hub.publish import FILES, write_folder
from convmae_det.inference.model import build_model

SECRET = "/home/someone/secret"
CLASSES = [[0, "road"], [1, "car"], [2, "sky"]]
SEMANTIC = ("DATASETS.SEMANTIC", [["street", SECRET, SECRET, ["road", "car", "sky"]]], "DATASETS.CATEGORIES", CLASSES)
PANOPTIC = (
    *("MODEL.META_ARCHITECTURE", "PanopticFPN", "DATASETS.PANOPTIC", [["street", SECRET, f"{SECRET}.json", SECRET]]),
    *("DATASETS.CATEGORIES", CLASSES[:2], "DATASETS.STUFF_CATEGORIES", CLASSES[2:], "MODEL.ROI_HEADS.NUM_CLASSES", 2),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
)
KINDS = {
    "segmentor": (
        lambda: segmentor_cfg(*SEMANTIC, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        {"sem_seg/mIoU": 51.25, "sem_seg/IoU-car": 33.5},
        convmae_det.SegmentationPredictor,
    ),
    "panoptic": (
        lambda: detector_cfg(*PANOPTIC),
        {"panoptic_seg/PQ": 51.25, "panoptic_seg/PQ-car": 33.5, "segm/AP": 12.25},
        convmae_det.PanopticPredictor,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_with_its_card(kind, tmp_path):
    build, metrics, predictor = KINDS[kind]
    cfg, run, folder = build(), tmp_path / "run", tmp_path / "folder"
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("street",)
    run.mkdir()
    (run / "config.yaml").write_text(cfg.dump())
    best = {"metric": next(iter(metrics)), "value": 51.25, "iterations": 100}
    state = {"model": randomise(build_model(cfg)).state_dict(), "best": best}
    write_checkpoint(state, run / "model_best.pth")
    (run / "metrics.json").write_text(json.dumps({"iteration": 99, "total_loss": 0.5} | metrics) + "\n")
    write_folder(run, folder, "someone/street")
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-segmentation"
    assert "51.25" in card and "33.5" not in card and ("12.2" in card) == (kind == "panoptic")
    assert not any(SECRET.encode() in (folder / name).read_bytes() for name in FILES)
    pairs = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    again = convmae_det.from_pretrained(folder, device="cpu", pairs=pairs)
    assert isinstance(again, predictor) and again.class_names == ["road", "car", "sky"]
    original = predictor(run / "config.yaml", run / "model_best.pth", "cpu", pairs=[*pairs, *no_data(kind)])
    image = np.random.default_rng(0).integers(0, 256, (40, 36, 3)).astype(np.uint8)
    ours, theirs = again([image])[0], original([image])[0]
    assert torch.equal(*(found if kind == "segmentor" else found.ids for found in (ours, theirs)))


def no_data(kind):
    return ["DATASETS.SEMANTIC" if kind == "segmentor" else "DATASETS.PANOPTIC", "[]"]
