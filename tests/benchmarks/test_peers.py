"""Peers have the shapes, parameters and operations of the published networks, and are compared with ours in one run."""

import argparse
import functools

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import vit
from reference import operations
from timm.models.hiera import MaskUnitAttention
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention
from torch import nn

from benchmarks import benchmark, peers, steps
from convmae_det.costs import measuring
from convmae_det.costs.operations import OperationCounter
from convmae_det.errors import InputError

SIZE = 128
DECODER = dict(dim=16, depth=2, heads=2)
TINY = {
    "MAE ViT-B": lambda: peers.MaskedViT(SIZE, dim=16, depth=2, heads=2, decoder=DECODER),
    "MAE Hiera-B": lambda: peers.MaskedHiera(SIZE, dim=8, depths=(1, 1, 2, 1), decoder=DECODER),
    "ViTDet ViT-B": lambda: peers.vitdet(SIZE, embed_dim=16, depth=3, num_heads=2, global_blocks=(1,)),
    "Swin-B": lambda: peers.swin(SIZE, embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2)),
    "Hiera-B": lambda: peers.hiera(SIZE, embed_dim=8, stages=(1, 1, 2, 1)),
    "ConvNeXt-B": lambda: peers.convnext(SIZE, dims=(8, 8, 16, 16), depths=(1, 1, 2, 1)),
}


def inputs(name: str) -> tuple[torch.Tensor, ...]:
    images = torch.randn(2, 3, SIZE, SIZE)
    if name not in peers.PRETRAINING:
        return (images,)
    return images, torch.rand(2, (SIZE // peers.PRETRAINING[name].mask_unit) ** 2)


def features(result) -> list[torch.Tensor]:
    return list(result.values() if isinstance(result, dict) else result)


@pytest.fixture
def meta(monkeypatch):
    """Networks without memory; Detectron2's ViT takes numbers out of a linspace."""
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        yield


def test_every_peer_has_a_tiny_form():
    assert TINY.keys() == {*peers.PRETRAINING, *peers.BACKBONES}


@pytest.mark.parametrize(
    ("name", "millions"),
    [("MAE ViT-B", 86), ("MAE Hiera-B", 51), ("ViTDet ViT-B", 86), ("Swin-B", 87), ("Hiera-B", 51), ("ConvNeXt-B", 88)],
)
def test_parameters_are_the_published_ones(meta, name, millions):
    model = (peers.PRETRAINING | peers.BACKBONES)[name](224)
    counted = sum(p.numel() for key, p in model.named_parameters() if not key.startswith(("decoder.", "fusion.")))
    assert counted / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_relative_positions_of_vitdet_are_those_of_its_windows_and_its_grid(meta):
    sides = [block.attn.rel_pos_h.shape[0] for block in peers.vitdet(1024).blocks]
    assert sides == [27, 27, 127] * 4


@pytest.mark.parametrize("name", TINY)
def test_operations_are_those_of_the_layers_and_of_attention(name):
    model = TINY[name]().eval()
    counted = []
    for module in model.modules():
        module.register_forward_hook(lambda module, args, _: counted.append(attention(module, *args)))
    with torch.no_grad(), operations.layers(model) as layers, OperationCounter() as counter:
        model(*inputs(name))
    assert name == "ConvNeXt-B" or sum(counted) > 0
    assert counter.operations.total() == layers.total() + sum(counted)


def attention(module: nn.Module, tokens: torch.Tensor, *_) -> int:
    """Operations of its two products, and of ViTDet's relative positions; 0 of another module."""
    if isinstance(module, (Attention, WindowAttention)):
        images, length, dim = tokens.shape  # or windows
        return 4 * images * length**2 * dim
    if isinstance(module, MaskUnitAttention):
        images, length, _ = tokens.shape
        queries = length // module.q_stride
        keys = module.window_size * module.q_stride if module.use_mask_unit_attn else length
        return 4 * images * queries * keys * module.dim_out
    if isinstance(module, vit.Attention):
        images, h, w, dim = tokens.shape
        return 4 * images * (h * w) ** 2 * dim + 2 * images * h * w * (h + w) * dim
    return 0


def test_operations_of_mae_are_those_of_its_form(meta):
    """224×224: 50 tokens in 12 blocks of 768, 197 in 8 blocks of 512."""
    block = operations.transformer_block
    expected = 2 * 196 * 768 * 768 + 12 * block(768, 4, 50) + operations.decoder(768, 50, 197, 197)
    with torch.no_grad(), OperationCounter() as counter:
        result = peers.MaskedViT(224)(torch.empty(1, 3, 224, 224), torch.empty(1, 196))
    assert counter.operations.total() == expected
    assert result.latent.shape == (1, 50, 768)


def test_hiera_keeps_two_fifths_of_its_units():
    model = peers.MaskedHiera(224, dim=8, decoder=DECODER)
    shapes = []
    for block in model.encoder.blocks:
        block.register_forward_hook(lambda block, args, result: shapes.append(tuple(result.shape[1:])))
    decoded = []
    model.decoder.blocks.register_forward_hook(lambda blocks, args, result: decoded.append(result.shape[1]))
    with torch.no_grad():
        model(torch.randn(1, 3, 224, 224), torch.rand(1, 49))
    assert shapes == [(1216, 8)] * 2 + [(304, 16)] * 3 + [(76, 32)] * 16 + [(76, 64)] * 3
    assert decoded == [196]


def lowest(noise: torch.Tensor, mask_ratio: float) -> torch.Tensor:
    return noise.argsort(1).argsort(1) < int(noise.shape[1] * (1 - mask_ratio))


@pytest.mark.parametrize("name", peers.PRETRAINING)
def test_hidden_pixels_do_not_influence_the_encoder(name):
    model, (images, noise) = TINY[name](), inputs(name)
    side, unit = SIZE // model.mask_unit, model.mask_unit
    visible = lowest(noise, model.mask_ratio)
    shown = F.interpolate(visible.view(2, 1, side, side).float(), scale_factor=unit).bool()
    with torch.no_grad():
        latent, others = model(images, noise).latent, torch.randn_like(images)
        assert torch.equal(model(torch.where(shown, images, others), noise).latent, latent)
        changed = model(torch.where(shown, others, images), noise).latent
    assert (changed != latent).any(-1).all()


@pytest.mark.parametrize("name", peers.PRETRAINING)
def test_the_loss_is_that_of_the_hidden_patches(name):
    """A decoder that knows the normalised pixels of the hidden units, and nothing of the others, errs by nothing."""
    model, (images, noise) = TINY[name](), inputs(name)
    unit = model.mask_unit

    def know(latent, visible, **_):
        assert torch.equal(visible, lowest(noise, model.mask_ratio))
        prediction = torch.full((*visible.shape, (unit // 16) ** 2, 768), 7.0)
        for image, index in (~visible).nonzero().tolist():
            y, x = index // (SIZE // unit) * unit, index % (SIZE // unit) * unit
            corners = [(y + dy, x + dx) for dy in range(0, unit, 16) for dx in range(0, unit, 16)]
            for patch, (top, left) in enumerate(corners):
                pixels = images[image, :, top : top + 16, left : left + 16].permute(1, 2, 0).flatten()
                prediction[image, index, patch] = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
        return prediction

    model.decoder.forward = know
    assert float(model(images, noise).loss) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_gradient(name):
    model = TINY[name]()
    result = model(*inputs(name))
    loss = result.loss if name in peers.PRETRAINING else sum(map_.square().mean() for map_ in features(result))
    loss.backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", peers.BACKBONES)
def test_backbones_give_their_strides(name):
    shapes = [sorted(map_.shape[1:]) for map_ in features(TINY[name]()(*inputs(name)))]
    strides = [16] if name == "ViTDet ViT-B" else [4, 8, 16, 32]
    assert all(shape.count(SIZE // stride) >= 2 for shape, stride in zip(shapes, strides, strict=True))


@pytest.mark.parametrize("build", [peers.MaskedHiera, peers.hiera])
def test_a_size_that_hiera_cannot_take_is_named(build):
    with pytest.raises(InputError, match="multiples of 32 pixels, not 80"):
        build(80)


# --- in a run


@pytest.fixture
def arguments(monkeypatch):
    """Of a run of tiny networks, as if they were of base size."""
    monkeypatch.setattr(steps, "PEERS_ARCH", "tiny")
    monkeypatch.setattr(steps, "measure_waiting", lambda *arguments: 0.0)  # of test_waiting.py
    monkeypatch.setitem(measuring.MATMUL_SIZE, "cpu", 64)
    for kind in (peers.PRETRAINING, peers.BACKBONES):
        for name in kind:
            monkeypatch.setitem(kind, name, lambda size, name=name: TINY[name]())
    return argparse.Namespace(
        task="", arch="tiny", batch=2, dtype="float32", device="cpu", threads=1, compile=False, repeats=1, peers=None,
        published_up_to=SIZE, images=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "names"), [(steps.PRETRAINING, peers.PRETRAINING), ("backbone training step", peers.BACKBONES)]
)
def test_a_run_compares_ours_with_each_peer(monkeypatch, arguments, capsys, kind, names):
    measured = []

    def in_this_process(script, *options):
        benchmark.main(list(options))
        measured.append(next(option for option in options if option.startswith("--form=")))
        return 10**9 + int(capsys.readouterr().out)  # this process may have had its peak before

    monkeypatch.setattr(steps, "measure_process_peak", in_this_process)
    result = steps.measure([kind], [SIZE], arguments)
    steps.report(result)
    output, (row,) = capsys.readouterr().out, result["workloads"]
    assert list(row["forms"]) == [*steps.FORMS, *names] == [form.removeprefix("--form=") for form in measured]
    assert row["peers"].keys() == names.keys()
    ours = row["forms"][steps.OURS]
    for name, ratios in row["peers"].items():
        peer = row["forms"][name]
        assert min(peer["seconds"], peer["images_per_second"], peer["share_of_matmul_rate"]) > 0
        assert ratios["time_ratio"] == ours["seconds"] / peer["seconds"]
        operations_ratio = ours["forward_gflop_per_image"] / peer["forward_gflop_per_image"]
        assert ratios["operations_ratio"] == pytest.approx(operations_ratio)
        assert (
            f"convmae_det takes {ratios['time_ratio']:.2f} times the time of {name}, "
            f"with {operations_ratio:.2f} times its operations\n"
        ) in output


def test_peers_are_chosen(arguments):
    def compared(kind=steps.PRETRAINING, **changes):
        return steps.forms_of(kind, SIZE, argparse.Namespace(**vars(arguments) | changes))

    ours = list(steps.FORMS)
    assert compared() == [*ours, "MAE ViT-B", "MAE Hiera-B"]
    assert compared(peers=["MAE Hiera-B"]) == [*ours, "MAE Hiera-B"]
    assert compared(peers=[]) == compared(arch="small") == compared("detector inference") == ours
    with pytest.raises(InputError, match="use --arch tiny, not small"):
        steps.measure([], [], argparse.Namespace(**vars(arguments) | {"arch": "small", "peers": ["Swin-B"]}))


@pytest.mark.parametrize(
    ("words", "chosen"), [([], None), (["--peers"], []), (["--peers", "Swin-B", "Hiera-B"], ["Swin-B", "Hiera-B"])]
)
def test_peers_on_the_command_line(words, chosen):
    assert benchmark.parse(["detect", *words]).peers == chosen
