"""Operations are those of formulas, and every parameter has its part."""

from collections import Counter

import pytest
from detectron2.modeling import build_model
from reference import operations
from reference.small import SHAPE, autoencoder_cfg, detector_cfg

from convmae_det.costs import network
from convmae_det.costs.operations import REST

MANY = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
SFP = (
    *("MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone"),
    *("MODEL.CONVMAE.OUT_FEATURES", ["e3"]),
    *("MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"),
)
NETWORKS = {
    "FPN": detector_cfg(*MANY),
    "simple feature pyramid": detector_cfg(*MANY, *SFP),
    "cascade": detector_cfg(
        *MANY, "MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True
    ),
    "pretraining": autoencoder_cfg(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_of_the_formulas(name):
    """Heads, whose operations depend on what is found, are those of their layers' shapes in the same pass."""
    run = network.Pass(NETWORKS[name], 64, batch_size=1, train=False)
    grid = (4, 4)
    if name == "pretraining":
        expected = operations.autoencoder(grid, dict(dim=16, depth=1), **SHAPE)
    else:
        windows, decomposed = [(3, 0), None, (3, 1)], name == "simple feature pyramid"
        expected = operations.encoder(grid=grid, windows=windows, decomposed=decomposed, **SHAPE)
        with operations.layers(run.model) as layers:
            run()
        parts = Counter()
        for layer, number in layers.items():
            parts[network.find_part(layer)] += number
        heads = {"feature pyramid", "region proposals", "box head", "mask head"}
        assert heads <= parts.keys()
        expected += Counter({part: parts[part] for part in heads})
    assert run.count_operations() == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_has_its_part(name):
    model = build_model(NETWORKS[name])
    parts = network.count_parameters(model)
    assert REST not in parts
    assert sum(parts.values()) == sum(parameter.numel() for parameter in model.parameters())


def test_the_default_sizes_end_with_that_of_the_configuration():
    assert network.choose_default_sizes(detector_cfg("MODEL.CONVMAE.IMAGE_SIZE", 1024)) == [512, 768, 1024]
    assert network.choose_default_sizes(detector_cfg("MODEL.CONVMAE.IMAGE_SIZE", 128)) == [64, 96, 128]
    assert network.choose_default_sizes(autoencoder_cfg("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 224))[-1] == 224


def test_operations_of_the_convolution_stages_grow_with_the_area():
    small, large = (network.Pass(detector_cfg(), size, 1, train=False).count_operations() for size in (64, 96))
    assert large["stage 1"] == 2.25 * small["stage 1"] and large["stage 2"] == 2.25 * small["stage 2"]
