"""torch.compile gives the features that the plain module gives, from the compiler itself."""

import pytest
import torch
from reference.small import SHAPE, assert_near, randomise

from convmae_det import create_encoder

pytestmark = pytest.mark.slow


def test_compiled():
    encoder = randomise(create_encoder(SHAPE))
    images = torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        assert_near(torch.compile(encoder)(images), encoder(images), 1e-5)
