"""UPerNet: equal to its plain form at any size, its losses, and what differs from the published sizes."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import SHAPE, assert_near, gradients, randomise, segmentor_cfg

from benchmarks.published_upernet import UPerNet
from convmae_det.checkpoint.conversion import to_ours
from convmae_det.errors import InputError

SIDE = "MODEL.CONVMAE.IMAGE_SIZE"


def settle(model, images):
    """Gives the batch norms statistics of their own."""
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def build_pair(side=64, classes=4, channels=12, auxiliary=8, seed=0):
    """A plain network with random weights and scales, and ours with the same."""
    plain = UPerNet(classes=classes, dim=channels, auxiliary_dim=auxiliary, grid=(side // 16, side // 16), **SHAPE)
    torch.manual_seed(seed)
    randomise(plain, seed)
    settle(plain.double(), torch.randn(2, 3, side, side, dtype=torch.float64))
    keys = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes, "MODEL.SEM_SEG_HEAD.CONVS_DIM", channels, SIDE, side)
    ours = build_model(segmentor_cfg(*keys, "MODEL.UPERNET.AUXILIARY_DIM", auxiliary)).double().eval()
    ours.load_state_dict(to_ours(plain.state_dict(), "backbone."))
    return plain, ours


@settings(max_examples=4)
@given(
    side=st.sampled_from([64, 80]),
    classes=st.integers(1, 7),
    channels=st.integers(1, 9),
    auxiliary=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_it_equals_the_plain_form(side, classes, channels, auxiliary, seed):
    plain, ours = build_pair(side, classes, channels, auxiliary, seed)
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        maps, logits, others = plain(images)
        features = ours.backbone(images)
        assert_near(features, dict(zip(("e1", "e2", "e3", "e4"), maps, strict=True)), 1e-8)
        assert_near(ours.sem_seg_head.layers(features), logits, 1e-8)
        if auxiliary:
            assert_near(ours.sem_seg_head.auxiliary_head(features["e3"]), others, 1e-8)
        else:
            assert others is None and ours.sem_seg_head.auxiliary_head is None


def test_results_have_the_size_of_the_image_that_was_asked_for():
    """Detectron2's segmentor pads; what it pads is cut off again, and logits are resized."""
    _, ours = build_pair()
    ours.float()
    image = torch.randint(0, 256, (3, 64, 48), dtype=torch.uint8)
    with torch.no_grad():
        (result,) = ours([{"image": image, "height": 128, "width": 96}])
        (same,) = ours([{"image": image}])
        padded = F.pad((image - ours.pixel_mean) / ours.pixel_std, (0, 16))[None]
        logits = F.interpolate(ours.sem_seg_head.layers(ours.backbone(padded)), scale_factor=4, mode="bilinear")
    assert result["sem_seg"].shape == (4, 128, 96)
    assert_near(same["sem_seg"], logits[0, :, :, :48], 1e-5)


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (16, 48)])
def test_images_that_the_convolution_of_e4_does_not_fill(size):
    _, ours = build_pair()
    with torch.no_grad():
        maps = ours.backbone(torch.randn(1, 3, *size, dtype=torch.float64))
        h, w = (max(side // 16, 3) for side in size)
        assert maps["e4"].shape[-2:] == ((h - 1) // 2, (w - 1) // 2)
        assert ours.sem_seg_head.layers(maps).shape[-2:] == (size[0] // 4, size[1] // 4)


def make_batch(sides=((64, 64), (48, 64)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randint(0, 256, (3, *side), dtype=torch.uint8, generator=generator),
            "sem_seg": torch.randint(0, 4, side, generator=generator),
        }
        for side in sides
    ]


def test_losses_are_means_over_the_pixels_that_have_a_class():
    model = build_model(segmentor_cfg()).train()
    batch = make_batch()
    batch[0]["sem_seg"][:20] = 255
    seen = {}
    head = model.sem_seg_head
    for name, layer in (("loss_sem_seg", head.conv_seg), ("loss_auxiliary", head.auxiliary_head.conv_seg)):
        layer.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output}))
    losses = model(batch)
    targets = torch.stack([batch[0]["sem_seg"], F.pad(batch[1]["sem_seg"], (0, 0, 0, 16), value=255)])
    assert losses.keys() == seen.keys()
    for name, logits in seen.items():
        large = F.interpolate(logits, size=(64, 64), mode="bilinear").movedim(1, -1)
        expected = F.cross_entropy(large[targets != 255], targets[targets != 255])
        assert_near(losses[name], expected * (0.4 if name == "loss_auxiliary" else 1), 1e-5)


def test_every_parameter_has_a_gradient():
    model = randomise(build_model(segmentor_cfg())).train()
    sum(model(make_batch()).values()).backward()
    found = gradients(model)
    lacking = [name for name, _ in model.named_parameters() if name not in found or not found[name].any()]
    assert all(name.endswith("conv.bias") or name == "backbone.e4.0.bias" for name in lacking), lacking


def test_images_without_any_class_change_nothing():
    model, batch = build_model(segmentor_cfg()).train(), make_batch()
    for image in batch:
        image["sem_seg"].fill_(255)
    losses = model(batch)
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert not any(gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.UPERNET.AUXILIARY_DIM", -1),
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 0),
        ("MODEL.CONVMAE.OUT_FEATURES", ["e2", "e3", "e4"]),
    ],
)
def test_values_of_which_no_head_can_be_built(key, value):
    with pytest.raises(InputError, match=f"^{key} is .*; it must "):
        build_model(segmentor_cfg(key, value))


def test_all_blocks_attend_globally_unless_some_are_chosen():
    stage = build_model(segmentor_cfg("MODEL.CONVMAE.DEPTHS", [1, 1, 7])).backbone.encoder.stage3
    assert stage.windows == (None,) * 7 and len(stage.block_biases) == 7
    stage = build_model(segmentor_cfg("MODEL.CONVMAE.GLOBAL_BLOCKS", [2])).backbone.encoder.stage3
    assert [window is None for window in stage.windows] == [False, False, True]
    assert [bias.grid for bias in stage.block_biases] == [(7, 7), (7, 7), (4, 4)]
