"""torch.compile takes every network as one graph, and few graphs serve all sizes."""

import contextlib

import pytest
import torch
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, detector_cfg

from convmae_det.ops import choice

pytestmark = pytest.mark.slow

SIZES = ((64, 64), (64, 80), (80, 64), (48, 112), (128, 96), (112, 160), (96, 96), (160, 112))
MOST = 4  # graphs: a size and batch at first, then each axis that has changed


def graphs_of(function, inputs, training: bool) -> int:
    """The number of graphs that compiling `function`, as a whole, makes for all the inputs in turn."""
    graphs = []

    def note(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=note, fullgraph=True)
    with torch.set_grad_enabled(training):
        for arguments in inputs:
            compiled(*arguments)
    torch._dynamo.reset()
    return len(graphs)


@pytest.mark.parametrize("relative_position", ["shared", "blocks", "decomposed", "none"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("forms", [contextlib.nullcontext, choice.simulate_gpu])
def test_the_dense_encoder(relative_position, training, forms):
    """In the forms of a CPU, and in those of a GPU, where biases leave kernels out."""
    encoder = build_model(detector_cfg("MODEL.CONVMAE.RELATIVE_POSITION", relative_position)).backbone.bottom_up.encoder
    with forms():
        assert graphs_of(encoder.train(training), [(torch.randn(1, 3, *size),) for size in SIZES], training) <= MOST


@pytest.fixture(scope="module")
def autoencoder():
    return build_model(autoencoder_cfg())


def batch(n: int, side: int) -> list[dict]:
    return [{"image": torch.randint(0, 256, (3, side, side), dtype=torch.uint8)} for _ in range(n)]


BATCHES = ((4, 64), (4, 64), (2, 64), (4, 96), (3, 128), (2, 160))


def test_the_whole_autoencoder(autoencoder):
    assert graphs_of(autoencoder, [(batch(4, side),) for side in (64, 64, 96, 128)], True) <= MOST


def test_the_masked_encoder_and_the_decoder(autoencoder):
    masked = [autoencoder.draw_mask(torch.randn(n, 3, side, side), None) for n, side in BATCHES]
    assert graphs_of(autoencoder.encoder, [(images, mask.layout) for images, mask in masked], True) <= MOST
    width = autoencoder.encoder.embed_dims[-1]
    latents = [(torch.randn(*mask.visible.row.shape, width), mask.visible, mask.predicted) for _, mask in masked]
    assert graphs_of(autoencoder.decoder, latents, True) <= MOST
