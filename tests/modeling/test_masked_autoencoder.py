"""The masked autoencoder against the plain form, its invariants, its switches and what it refuses."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.small import SHAPE, assert_near, autoencoder_cfg, gradients, randomise
from torch import nn
from torch.testing import assert_close

from benchmarks import published as plain
from convmae_det.config import add_convmae_config
from convmae_det.config.presets import PRESETS
from convmae_det.errors import InputError
from convmae_det.modeling.blocks import ConvBlock, TransformerBlock
from convmae_det.modeling.decoder import Decoder, MultiScaleFusion
from convmae_det.modeling.embeddings import fold
from convmae_det.modeling.encoder import Encoder
from convmae_det.modeling.masked_autoencoder import FUSION_RATIOS, MaskedAutoencoder, patchify
from convmae_det.ops.recomputation import recompute_activations

MAE = "MODEL.MAE."


def small_model(*options) -> MaskedAutoencoder:
    return randomise(build_model(autoencoder_cfg(*options)))


def hidden_pixels_changed(images: torch.Tensor, visible: torch.Tensor, patch: int = 16) -> torch.Tensor:
    """The images with other pixels wherever `visible` (N, L), on a grid of `patch` pixels, is False."""
    grid = images.shape[-2] // patch, images.shape[-1] // patch
    mask = visible.view(-1, 1, *grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return torch.where(mask, images, torch.randn_like(images))


# --- the visible path is the published method


def compare_with_the_plain_form(shape: dict, mask_ratio: float, seed: int, dtype, tolerances, **switches) -> None:
    """Visible mask, latents, predictions of hidden patches, loss and all gradients of a training step of two images,
    within `tolerances` of outputs and of gradients.
    """
    channels, grid = shape["in_channels"], shape["grid"]
    decoder = dict(dim=8, depth=2, num_heads=2, mlp_ratio=shape["mlp_ratios"][0], patch_values=256 * channels)
    ours = MaskedAutoencoder(
        encoder=Encoder(**shape),
        fusion=MultiScaleFusion(shape["embed_dims"], FUSION_RATIOS),
        decoder=Decoder(in_dim=shape["embed_dims"][2], grid=grid, **decoder),
        pixel_mean=[0.0] * channels,
        pixel_std=[1.0] * channels,
        mask_ratio=mask_ratio,
        **switches,
    )
    theirs = plain.MaskedAutoencoder(
        **shape, **switches, decoder_dim=8, decoder_depth=2, decoder_heads=2, mask_ratio=mask_ratio
    )
    plain.take_weights(theirs, randomise(ours, seed))
    ours, theirs = ours.to(dtype), theirs.to(dtype)

    images = torch.randn(2, channels, 16 * grid[0], 16 * grid[1], dtype=dtype)
    noise = torch.rand(2, grid[0] * grid[1])
    result, expected = ours.reconstruct(images, noise), theirs(images, noise)
    hidden = expected.visible == 0
    assert torch.equal(result.visible, ~hidden)
    of_outputs, of_gradients = tolerances
    assert_near(result.latent, plain.take(expected.latent, expected.kept.argsort(dim=1)), of_outputs)
    assert_near(result.prediction[hidden], expected.prediction[hidden], of_outputs)
    assert_near(result.loss, expected.loss.float(), 1e-6)
    result.loss.backward()
    expected.loss.backward()
    assert_near(plain.published(gradients(ours)), gradients(theirs), of_gradients)


@settings(max_examples=20)
@given(
    widths=st.tuples(*[st.integers(1, 3)] * 3),
    depths=st.tuples(*[st.integers(1, 2)] * 3),
    heads=st.sampled_from([1, 2]),
    mlp_ratios=st.sampled_from([(4, 4, 4), (2, 3, 4)]),
    grid=st.tuples(st.integers(1, 4), st.integers(2, 5)),
    mask_ratio=st.floats(0.1, 0.5),
    channels=st.sampled_from([1, 3]),
    switches=st.fixed_dictionaries({"masked_conv": st.booleans(), "norm_pix_loss": st.booleans()}),
    seed=st.integers(0, 999),
)
def test_visible_path_equals_the_dense_masked_form(
    widths, depths, heads, mlp_ratios, grid, mask_ratio, channels, switches, seed
):
    assume(0 < int(grid[0] * grid[1] * (1 - mask_ratio)) < grid[0] * grid[1])
    shape = dict(
        embed_dims=tuple(4 * heads * width for width in widths),
        depths=depths,
        num_heads=heads,
        mlp_ratios=mlp_ratios,
        grid=grid,
        in_channels=channels,
    )
    compare_with_the_plain_form(shape, mask_ratio, seed, torch.float64, (1e-9, 1e-5), **switches)  # loss: float32


@pytest.mark.parametrize("seed, grid, mask_ratio", [(0, (4, 4), 0.75), (1, (3, 5), 0.6), (2, (7, 7), 0.9)])
def test_visible_path_equals_the_dense_masked_form_in_float32(seed, grid, mask_ratio):
    shape = dict(embed_dims=(16, 24, 48), depths=(2, 2, 3), num_heads=4, mlp_ratios=(4, 4, 4), grid=grid, in_channels=3)
    compare_with_the_plain_form(shape, mask_ratio, seed, torch.float32, (1e-5, 1e-4))


@settings(max_examples=10)
@given(seed=st.integers(0, 999), grid=st.tuples(st.integers(2, 5), st.integers(2, 5)))
def test_hidden_pixels_change_no_visible_latent_bit_for_bit(seed, grid):
    torch.manual_seed(seed)
    model = small_model()
    images, noise = torch.randn(2, 3, 16 * grid[0], 16 * grid[1]), torch.rand(2, grid[0] * grid[1])
    first = model.reconstruct(images, noise)
    second = model.reconstruct(hidden_pixels_changed(images, first.visible), noise)
    assert torch.equal(first.latent, second.latent)
    assert torch.equal(first.prediction, second.prediction)
    assert not torch.equal(first.loss, second.loss)


def test_a_model_serves_any_image_size():
    model = small_model()
    for height, width in [(32, 32), (48, 80), (96, 64)]:
        result = model.reconstruct(torch.randn(2, 3, height, width))
        length = height * width // 256
        assert result.prediction.shape == (2, length, 768)
        assert result.latent.shape == (2, length // 4, 16)
        assert (result.visible.sum(1) == length // 4).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels_trains(channels):
    options = ("MODEL.PIXEL_MEAN", [100.0] * channels, "MODEL.PIXEL_STD", [50.0] * channels)
    model = small_model(*options)
    batch = [{"image": torch.randint(0, 256, (channels, 64, 48), dtype=torch.uint8)} for _ in range(2)]
    (loss,) = model(batch).values()
    loss.backward()
    assert loss.isfinite() and model.decoder.pred.out_features == 256 * channels


def test_dense_features_do_not_exist_in_the_masked_path():
    """Nothing but the depthwise convolution makes a map of stages 1 and 2 with hidden tokens in it."""
    model, (n, h, w) = small_model("MODEL.CONVMAE.DEPTHS", [2, 2, 1]), (2, 4, 5)
    visible, seen = n * (h * w // 4), []

    def check(module, _, output, name, s):
        tokens = output.numel() // output.shape[-1]
        seen.append(name)
        assert tokens == visible * s * s, name

    for stage, s in ((model.encoder.stage1, 4), (model.encoder.stage2, 2)):
        for name, module in stage.named_modules():
            if not isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda *args, name=name, s=s: check(*args, name, s))
    model.reconstruct(torch.randn(n, 3, 16 * h, 16 * w))
    assert "patch_embed.proj" in seen and "blocks.1.mlp" in seen


def test_only_hidden_patches_are_decoded():
    model, shapes = small_model(), []
    model.decoder.pred.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape)))
    result = model.reconstruct(torch.randn(2, 3, 64, 64))
    assert shapes == [(2, 12, 768)]
    assert not result.prediction[result.visible].any()
    assert torch.equal(result.hidden, ~result.visible[..., None].expand(-1, -1, 768))


# --- interface


def test_forward_normalises_and_returns_a_loss():
    model = small_model("MODEL.PIXEL_MEAN", [10.0, 20.0, 30.0], "MODEL.PIXEL_STD", [2.0, 4.0, 8.0])
    images = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    noise = torch.rand(2, 12)
    batch = [{"image": image, "noise": values} for image, values in zip(images, noise, strict=True)]
    normalised = (images - torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)) / torch.tensor([2.0, 4.0, 8.0]).view(3, 1, 1)
    losses = model(batch)
    assert list(losses) == ["loss_reconstruction"]
    assert_close(losses["loss_reconstruction"], model.reconstruct(normalised, noise).loss)


def test_masks_are_drawn_anew_and_follow_the_seed():
    model, images = small_model(), torch.randn(1, 3, 96, 96)
    first, second = model.reconstruct(images).visible, model.reconstruct(images).visible
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    third = model.reconstruct(images).visible
    torch.manual_seed(3)
    assert torch.equal(third, model.reconstruct(images).visible)


def test_reconstruct_is_differentiable_in_the_images():
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    small_model().reconstruct(images).loss.backward()
    assert images.grad.isfinite().all() and images.grad.any()


MODES = [
    (),
    (MAE + "MASKED_CONV", False),
    (MAE + "MASKING", "random"),
    (MAE + "COMPLEMENTARY_MASKS", True),
    (MAE + "MULTI_SCALE_DECODER", False),
    (MAE + "NORM_PIX_LOSS", False),
]


@pytest.mark.parametrize("options", MODES, ids=lambda options: options[0] if options else "default")
def test_every_parameter_gets_a_gradient(options):
    model = small_model(*options)
    model.reconstruct(torch.randn(2, 3, 64, 64)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == (["decoder.mask_token"] if "random" in options else [])  # no token is hidden at stride 16


@pytest.mark.parametrize("options", MODES, ids=lambda options: options[0] if options else "default")
def test_the_loss_is_float32_under_bfloat16(options):
    model, images = small_model(*options), torch.randn(2, 3, 64, 64)
    noise = torch.rand(2, 256 if "random" in options else 16)
    exact = model.reconstruct(images, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.reconstruct(images, noise)
    assert rounded.loss.dtype == torch.float32 and rounded.prediction.dtype == torch.bfloat16
    assert_close(rounded.loss, exact.loss, rtol=0.05, atol=0.0)
    rounded.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_activation_checkpointing_changes_nothing():
    images, noise, results = torch.randn(2, 3, 64, 64), torch.rand(2, 16), []
    model = small_model()
    for recompute in (False, True):
        if recompute:
            recompute_activations(model, (ConvBlock, TransformerBlock))
        model.zero_grad()
        loss = model.reconstruct(images, noise).loss
        loss.backward()
        results.append((loss, gradients(model)))
    assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_one_tensor_or_a_list_of_images(dtype):
    model = build_model(autoencoder_cfg())
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8).to(dtype)
    noise = torch.rand(3, 16)
    stacked = model({"images": images, "noise": noise})
    listed = model([{"image": image, "noise": order} for image, order in zip(images, noise, strict=True)])
    assert_close(stacked, listed, rtol=0, atol=0)


@pytest.mark.parametrize("arch", PRESETS)
def test_every_preset_builds(arch):
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "MaskedAutoencoder", "MODEL.CONVMAE.ARCH", arch])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    dims = PRESETS[arch]["embed_dims"]
    assert model.encoder.embed_dims == dims and model.encoder.norm is not None
    assert [len(stage.blocks) for stage in model.encoder.stages] == list(PRESETS[arch]["depths"])
    assert [head.in_features for head in model.fusion.heads] == [16 * dims[0], 4 * dims[1]]
    assert model.decoder.pred.out_features == 768 and len(model.decoder.blocks) == 8


# --- the paper's ablations, each by what it changes


def test_without_masked_convolution_hidden_pixels_leak():
    model = small_model(MAE + "MASKED_CONV", False)
    images, noise = torch.randn(2, 3, 64, 64), torch.rand(2, 16)
    first = model.reconstruct(images, noise)
    second = model.reconstruct(hidden_pixels_changed(images, first.visible), noise)
    assert first.latent.shape == (2, 4, 16)
    assert not torch.equal(first.latent, second.latent)


def test_random_masking_keeps_all_tokens_of_stage_3():
    model = small_model(MAE + "MASKING", "random")
    images, noise = torch.randn(2, 3, 64, 80), torch.rand(2, 16 * 20)
    first = model.reconstruct(images, noise)
    assert first.latent.shape == (2, 20, 16) and first.visible.all()

    seen = noise <= noise.sort(1).values[:, [79]]  # a quarter of 320 patches of 4×4 pixels
    second = model.reconstruct(hidden_pixels_changed(images, seen, patch=4), noise)
    assert torch.equal(first.latent, second.latent)
    third = model.reconstruct(hidden_pixels_changed(images, ~seen, patch=4), noise)
    assert not torch.equal(first.latent, third.latent)


def test_random_masking_counts_hidden_pixels_only():
    model = small_model(MAE + "MASKING", "random", MAE + "NORM_PIX_LOSS", False)
    images, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 64)
    result = model.reconstruct(images, noise)
    hidden = (noise > noise.sort(1).values[:, [15]]).view(2, 8, 8, 1)
    hidden = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2).expand(-1, -1, -1, 3)
    hidden = fold(hidden, 16).flatten(1, 2)
    assert torch.equal(result.hidden, hidden)
    error = (result.prediction - patchify(images)).square()
    assert_close(result.loss, error[hidden].mean())


@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_kernel_size(kernel):
    """The receptive field of one convolution block in stage 1 grows; the interface stays."""
    model = small_model("MODEL.CONVMAE.CONV_KERNEL_SIZE", kernel, "MODEL.CONVMAE.DEPTHS", [1, 1, 1])
    images = torch.randn(1, 3, 192, 192, requires_grad=True)
    model.encoder(images)[0][0, 24, 24].sum().backward()
    reached = (images.grad[0].abs().sum(0) > 0).any(0).nonzero()
    assert (reached.max() - reached.min() + 1).item() == 4 * kernel
    assert model.reconstruct(torch.randn(1, 3, 64, 64)).loss.isfinite()


def test_without_multi_scale_decoder_early_stages_reach_it_through_stage_3_alone():
    images = torch.randn(1, 3, 64, 64)
    for multi_scale in (True, False):
        model = small_model(MAE + "MULTI_SCALE_DECODER", multi_scale)
        assert any(name.startswith("fusion") for name, _ in model.named_parameters()) == multi_scale
        model.encoder.stage3.register_forward_hook(lambda *args: torch.zeros_like(args[2]))
        model.reconstruct(images).loss.backward()
        reached = any(p.grad is not None and p.grad.any() for p in model.encoder.stage1.parameters())
        assert reached == multi_scale


@pytest.mark.parametrize("normalise", [True, False])
def test_target(normalise):
    model = small_model(MAE + "NORM_PIX_LOSS", normalise)
    images = 3 + 2 * torch.randn(2, 3, 64, 64)
    result = model.reconstruct(images)
    errors = []
    for image, prediction, visible in zip(images, result.prediction, result.visible, strict=True):
        for index in (~visible).nonzero().flatten().tolist():
            y, x = 16 * (index // 4), 16 * (index % 4)
            patch = image[:, y : y + 16, x : x + 16].permute(1, 2, 0).flatten()
            if normalise:
                patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            errors.append((prediction[index] - patch).square().mean())
    assert_close(result.loss, torch.stack(errors).mean())


def test_decoder_keys():
    keys = dict(DECODER_EMBED_DIM=24, DECODER_DEPTH=3, DECODER_NUM_HEADS=4, DECODER_MLP_RATIO=5)
    decoder = small_model(*(item for key, value in keys.items() for item in (MAE + key, value))).decoder
    assert decoder.embed.out_features == 24 and len(decoder.blocks) == 3
    assert all(b.attn.num_heads == 4 and b.mlp.fc1.out_features == 5 * 24 for b in decoder.blocks)
    by_default = small_model("MODEL.CONVMAE.MLP_RATIOS", [6, 2, 2]).decoder
    assert by_default.blocks[0].mlp.fc1.out_features == 6 * 16  # that of the encoder's stage 1


def test_a_decoder_without_blocks_trains():
    assert small_model(MAE + "DECODER_DEPTH", 0).reconstruct(torch.randn(1, 3, 64, 64)).loss.isfinite()


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.9])
def test_mask_ratio(ratio):
    result = small_model(MAE + "MASK_RATIO", ratio).reconstruct(torch.randn(2, 3, 64, 64))
    assert (result.visible.sum(1) == int(16 * (1 - ratio))).all()


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_complementary_masks_are_single_ones_side_by_side(ratio):
    model, images, noise = small_model(MAE + "MASK_RATIO", ratio), torch.randn(2, 3, 64, 48), torch.rand(2, 12)
    model.complementary_masks = True
    together = model.reconstruct(images, noise)
    groups = round(1 / (1 - ratio))
    visible = together.visible.view(2, groups, 12)
    assert (visible.sum(1) == 1).all()  # each block is seen once

    model.complementary_masks = False
    single = [model.reconstruct(images, (~visible[:, g]).float()) for g in range(groups)]
    assert_close(together.loss, torch.stack([result.loss for result in single]).mean())
    latents = torch.stack([result.latent for result in single], dim=1).flatten(0, 1)
    assert_close(together.latent, latents, rtol=1e-4, atol=1e-5)


def test_complementary_masks_come_from_the_configuration():
    result = small_model(MAE + "COMPLEMENTARY_MASKS", True).reconstruct(torch.randn(2, 3, 64, 64))
    assert result.visible.shape == (8, 16) and result.visible.sum() == 32


# --- what is refused

BAD = [
    ("MODEL.MAE.MASK_RATIO", 0.0),
    ("MODEL.MAE.MASK_RATIO", 1.0),
    ("MODEL.MAE.MASK_RATIO", -0.5),
    ("MODEL.MAE.MASKING", "blocks"),
    ("MODEL.MAE.DECODER_EMBED_DIM", 0),
    ("MODEL.MAE.DECODER_EMBED_DIM", 18),
    ("MODEL.MAE.DECODER_NUM_HEADS", 3),
    ("MODEL.MAE.DECODER_NUM_HEADS", 0),
    ("MODEL.MAE.DECODER_DEPTH", -1),
    ("MODEL.MAE.DECODER_MLP_RATIO", -1),
    ("MODEL.CONVMAE.ARCH", "giant"),
    ("MODEL.CONVMAE.EMBED_DIMS", [8, 16]),
    ("MODEL.CONVMAE.EMBED_DIMS", [8, 0, 16]),
    ("MODEL.CONVMAE.EMBED_DIMS", [8, 12, 18]),
    ("MODEL.CONVMAE.DEPTHS", [1, 1, 1, 1]),
    ("MODEL.CONVMAE.DEPTHS", [1, -1, 1]),
    ("MODEL.CONVMAE.MLP_RATIOS", [4, 4, -4]),
    ("MODEL.CONVMAE.NUM_HEADS", 3),
    ("MODEL.CONVMAE.NUM_HEADS", -2),
    ("MODEL.CONVMAE.CONV_KERNEL_SIZE", 4),
    ("MODEL.CONVMAE.CONV_KERNEL_SIZE", -1),
    ("MODEL.CONVMAE.DROP_PATH_RATE", 1.0),
    ("MODEL.CONVMAE.DROP_PATH_RATE", -0.1),
    ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 100),
    ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 0),
]


@pytest.mark.parametrize("key, value", BAD)
def test_bad_values_are_named(key, value):
    with pytest.raises(InputError) as refusal:
        build_model(autoencoder_cfg(key, value))
    assert key in str(refusal.value) and "\n" not in str(refusal.value)


def test_complementary_masks_need_blocks():
    with pytest.raises(InputError, match="COMPLEMENTARY_MASKS.*MASKING"):
        build_model(autoencoder_cfg(MAE + "COMPLEMENTARY_MASKS", True, MAE + "MASKING", "random"))


def test_unmasked_convolution_needs_blocks():
    with pytest.raises(InputError, match="MASKED_CONV.*MASKING"):
        build_model(autoencoder_cfg(MAE + "MASKED_CONV", False, MAE + "MASKING", "random"))


def test_an_image_that_is_not_a_multiple_of_16_is_refused():
    with pytest.raises(InputError, match="60×64.*16"):
        small_model().reconstruct(torch.zeros(1, 3, 60, 64))


@pytest.mark.parametrize("shape", [(2, 15), (1, 16), (16,)])
def test_noise_of_another_shape_is_refused(shape):
    with pytest.raises(InputError, match="noise"):
        small_model().reconstruct(torch.zeros(2, 3, 64, 64), torch.rand(shape))


def test_a_ratio_that_leaves_no_block_of_a_small_image_is_refused():
    with pytest.raises(InputError, match="MASK_RATIO"):
        small_model(MAE + "MASK_RATIO", 0.9).reconstruct(torch.zeros(1, 3, 32, 32))


def test_the_plain_form_is_built_from_the_same_arguments():
    """The benchmark times it with the presets of the package."""
    model = plain.MaskedAutoencoder(**SHAPE, grid=(4, 4), decoder_dim=16, decoder_depth=1, decoder_heads=2)
    model(torch.randn(2, 3, 64, 64)).loss.backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == {"pos_embed", "decoder_pos_embed"}
