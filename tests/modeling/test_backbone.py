"""The detection backbone: features, padding, schedule of windows, refusals, and the detectors that it serves."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import annotated_image, assert_near, detector_cfg, randomise

from benchmarks import published as plain
from convmae_det.config import add_convmae_config
from convmae_det.errors import InputError

CONVMAE = "MODEL.CONVMAE."
BARE = ("MODEL.BACKBONE.NAME", "build_convmae_backbone")
PYRAMID = ("MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone")


def small_backbone(*options):
    return randomise(build_backbone(detector_cfg(*BARE, *options)))


# --- features


@settings(max_examples=10)
@given(h=st.integers(1, 3), w=st.integers(1, 3))
def test_features_have_the_shapes_that_output_shape_tells(h, w):
    backbone = small_backbone()
    features = backbone(torch.randn(2, 3, 32 * h, 32 * w))
    assert list(features) == list(backbone.output_shape()) == ["e1", "e2", "e3", "e4"]
    for name, shape in backbone.output_shape().items():
        assert features[name].shape == (2, shape.channels, 32 * h // shape.stride, 32 * w // shape.stride)
    assert [shape.stride for shape in backbone.output_shape().values()] == [4, 8, 16, 32]
    assert torch.equal(features["e4"], F.max_pool2d(features["e3"], 2))


def test_equals_the_plain_backbone():
    backbone = small_backbone()
    windows = [(3, 0), None, (3, 1)]
    shape = dict(embed_dims=(8, 12, 16), depths=(1, 1, 3), num_heads=2, mlp_ratios=(2, 2, 2))
    reference = plain.DetectionBackbone(**shape, grid=(4, 4), windows=windows)
    plain.take_weights(reference, backbone)
    images = torch.randn(2, 3, 64, 64)
    assert_near(backbone(images), reference(images), 1e-5)


@pytest.mark.parametrize("names", [["e3"], ["e1", "e4"], ["e4", "e2"]])
def test_out_features(names):
    backbone = small_backbone(CONVMAE + "OUT_FEATURES", names)
    assert list(backbone(torch.zeros(1, 3, 64, 64))) == list(backbone.output_shape()) == names


def test_channels_follow_the_pixel_mean():
    backbone = small_backbone("MODEL.PIXEL_MEAN", [1.0] * 4, "MODEL.PIXEL_STD", [1.0] * 4)
    assert backbone(torch.zeros(1, 4, 32, 32))["e1"].shape == (1, 8, 8, 8)


def test_the_detector_has_no_final_norm_and_learns_its_positions_at_its_own_grid():
    backbone = small_backbone(CONVMAE + "IMAGE_SIZE", 96)
    names = {name for name, _ in backbone.named_parameters()}
    assert "encoder.stage3.position_embedding.table" in names and not any(n.startswith("encoder.norm") for n in names)
    assert backbone.encoder.stage3.position_embedding.table.shape == (1, 6, 6, 16)
    decomposed = small_backbone(CONVMAE + "IMAGE_SIZE", 96, CONVMAE + "RELATIVE_POSITION", "decomposed")
    assert decomposed.encoder.stage3.position_embedding.table.shape == (1, 4, 4, 16)  # that of pretraining
    assert decomposed.encoder.stage3.blocks[1].attn.rel_pos_h.shape == (11, 8)  # global: that of IMAGE_SIZE


# --- padding


@pytest.mark.parametrize(
    "builder", ["build_convmae_backbone", "build_convmae_fpn_backbone", "build_convmae_sfp_backbone"]
)
@pytest.mark.parametrize("square", [0, 96])
def test_images_are_padded_to_what_the_backbone_needs(builder, square):
    backbone = build_backbone(detector_cfg("MODEL.BACKBONE.NAME", builder, CONVMAE + "SQUARE_PAD", square))
    images = [torch.zeros(3, 50, 70), torch.zeros(3, 33, 64)]
    padded = ImageList.from_tensors(
        images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints
    ).tensor
    assert padded.shape == ((2, 3, 96, 96) if square else (2, 3, 64, 96))
    backbone(padded)


# --- frozen stages


@pytest.mark.parametrize("stages", [0, 1, 2, 3])
def test_frozen_stages_are_not_trained_and_the_others_are(stages):
    backbone = small_backbone(CONVMAE + "FREEZE_STAGES", stages)
    sum(f.square().sum() for f in backbone(torch.randn(1, 3, 64, 64, requires_grad=True)).values()).backward()
    for number, stage in enumerate(backbone.encoder.stages, start=1):
        for parameter in stage.parameters():
            assert (parameter.grad is None) == (number <= stages)


# --- schedule of stage 3


def test_the_schedule_reaches_the_blocks():
    backbone = small_backbone(CONVMAE + "DEPTHS", [1, 1, 4])
    assert [block.window for block in backbone.encoder.stage3.blocks] == [(3, 0), None, (3, 1), (3, 0)]


# --- what is refused

BAD = [
    ("WINDOW_SIZE", 0),
    ("WINDOW_SIZE", -7),
    ("GLOBAL_BLOCKS", [99]),
    ("GLOBAL_BLOCKS", [-1]),
    ("GLOBAL_BLOCKS", [0, 3]),
    ("NUM_HEADS", 5),
    ("ARCH", "Base"),
    ("EMBED_DIMS", [8, 12]),
    ("DEPTHS", [1, 0, 1]),
    ("MLP_RATIOS", [1, 1]),
    ("CONV_KERNEL_SIZE", 2),
    ("DROP_PATH_RATE", 1.5),
    ("RELATIVE_POSITION", "both"),
    ("IMAGE_SIZE", 1000),
    ("IMAGE_SIZE", 0),
    ("PRETRAIN_IMAGE_SIZE", -16),
    ("OUT_FEATURES", ["e5"]),
    ("OUT_FEATURES", []),
    ("SQUARE_PAD", -32),
    ("SQUARE_PAD", 50),
    ("SQUARE_PAD", 32),  # smaller than the images
    ("FREEZE_STAGES", 4),
    ("FREEZE_STAGES", -1),
]


@pytest.mark.parametrize("key, value", BAD)
def test_bad_values_are_named(key, value):
    with pytest.raises(InputError) as refusal:
        build_model(detector_cfg(CONVMAE + key, value))
    assert CONVMAE + key in str(refusal.value) and "\n" not in str(refusal.value)


def test_one_deviation_a_channel():
    with pytest.raises(InputError, match="MODEL.PIXEL_STD"):
        build_model(detector_cfg("MODEL.PIXEL_STD", [1.0]))


# --- detectors

DETECTORS = {
    "Mask R-CNN": (),
    "Faster R-CNN": ("MODEL.MASK_ON", False),
    "Cascade R-CNN": ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    "RetinaNet": (
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False),
        *("MODEL.FPN.IN_FEATURES", ["e2", "e3", "e4"]),
        *("MODEL.RETINANET.NUM_CLASSES", 4, "MODEL.RETINANET.NUM_CONVS", 1),
    ),
    "RetinaNet without P7": (
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False),
        *("MODEL.RETINANET.NUM_CLASSES", 4, "MODEL.RETINANET.NUM_CONVS", 1),
        *("MODEL.RETINANET.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
    ),
    "Panoptic FPN": (
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.NORM", "LN"),
    ),
    "simple feature pyramid": (*PYRAMID, CONVMAE + "RELATIVE_POSITION", "decomposed", CONVMAE + "OUT_FEATURES", ["e3"]),
    "simple feature pyramid, shared": PYRAMID,
}


def train(model, batch) -> None:
    """Forward and backward; Detectron2's heads log into a storage."""
    with EventStorage():
        losses = model(batch)
    assert losses and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("options", DETECTORS.values(), ids=DETECTORS)
def test_detectors_train_one_step_and_infer(options):
    """One image of the batch has another size, and no object."""
    model = build_model(detector_cfg(*options))
    batch = [annotated_image(64, 64), annotated_image(50, 60, objects=0)]
    train(model, batch)
    assert not [name for name, p in model.backbone.named_parameters() if p.grad is None]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        torch.optim.SGD(model.parameters(), lr=1e-3).step()

    model.eval()
    with torch.no_grad():
        results = model([{key: x[key] for key in ("image", "height", "width")} for x in batch])
    assert [tuple(r["instances"].image_size) for r in results] == [(64, 64), (50, 60)]
    assert all(r["instances"].pred_boxes.tensor.isfinite().all() for r in results)


def test_a_batch_without_any_object_trains():
    train(build_model(detector_cfg()), [annotated_image(objects=0), annotated_image(objects=0)])


def test_a_detector_trains_under_bfloat16_autocast_and_with_every_switch():
    model = build_model(
        detector_cfg(
            CONVMAE + "ACTIVATION_CHECKPOINT", True, CONVMAE + "DROP_PATH_RATE", 0.5, CONVMAE + "SQUARE_PAD", 96
        )
    )
    with torch.autocast("cpu", torch.bfloat16):
        train(model, [annotated_image(64, 50)])
    assert all(p.grad.isfinite().all() for p in model.backbone.parameters())


@pytest.mark.parametrize("name", ["GeneralizedRCNN", "MaskedAutoencoder"])
def test_the_defaults_alone_build_both_models(name):
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    encoder = model.encoder if name == "MaskedAutoencoder" else model.backbone.bottom_up.encoder
    assert encoder.embed_dims == (256, 384, 768)


def test_the_defaults_alone_give_a_detector_of_the_published_size_that_runs():
    """104 million parameters (paper, table 4), on a device that exists."""
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    assert 100e6 < sum(p.numel() for p in model.parameters()) < 112e6
    with torch.no_grad():
        (result,) = model([annotated_image(64, 64)])
    assert result["instances"].image_size == (64, 64)
