"""Configurations of networks as small as those of the golden files, and where these are."""

from pathlib import Path

import pytest
from detectron2.config import get_cfg

from convmae_det.config import add_convmae_config

SMALL_HEADS = ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_BOX_HEAD.CONV_DIM", 16]
SMALL_HEADS += ["MODEL.ROI_MASK_HEAD.CONV_DIM", 16]


@pytest.fixture(scope="session")
def golden():
    return Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(scope="session")
def config():
    """config(**keys of MODEL.CONVMAE): the default detector, on the golden files' encoder unless keys say otherwise."""

    def config(**keys):
        cfg = get_cfg()
        add_convmae_config(cfg)
        cfg.MODEL.DEVICE = "cpu"
        cfg.merge_from_list(SMALL_HEADS)
        if "ARCH" not in keys:
            keys = dict(EMBED_DIMS=[16, 24, 48], DEPTHS=[2, 2, 11], NUM_HEADS=4) | keys
        for key, value in keys.items():
            cfg.MODEL.CONVMAE[key] = value
        return cfg

    return config


@pytest.fixture(scope="session")
def pretraining_config(config):
    """The same for pretraining, with the golden files' decoder of `decoder_depth` blocks."""

    def pretraining_config(decoder_depth=2, **keys):
        cfg = config(**{"DEPTHS": [2, 2, 3]} | keys if "ARCH" not in keys else keys)
        cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
        cfg.MODEL.MAE.DECODER_EMBED_DIM, cfg.MODEL.MAE.DECODER_NUM_HEADS = 32, 4
        cfg.MODEL.MAE.DECODER_DEPTH = decoder_depth
        return cfg

    return pretraining_config
