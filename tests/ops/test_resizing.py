"""Resizing to the same size changes nothing, whether it is left out or not."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from convmae_det.ops.maps import resize


@pytest.mark.parametrize("mode, shape", [("bicubic", (2, 3, 7, 5)), ("linear", (2, 3, 9))])
def test_the_same_size(mode, shape):
    maps = torch.randn(shape)
    assert resize(maps, shape[2:], mode) is maps
    assert_close(torch.func.vmap(lambda x: resize(x[None], shape[2:], mode)[0])(maps), maps, rtol=0, atol=0)
    interpolated = F.interpolate(maps, size=shape[2:], mode=mode, align_corners=False)
    assert_close(interpolated, maps, rtol=0, atol=0)


def test_another_size():
    maps = torch.randn(1, 2, 4, 4)
    expected = F.interpolate(maps, size=(6, 3), mode="bicubic", align_corners=False)
    assert torch.equal(resize(maps, (6, 3), "bicubic"), expected)
