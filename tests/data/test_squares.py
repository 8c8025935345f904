"""Squares are the middle of their image, and each image comes once, or the reason why it doesn't."""

import numpy as np
import pytest
import torch
from PIL import Image

from convmae_det.data.image import Decoding, read_image
from convmae_det.data.squares import SquareDataset, SquareLoader, read_square
from convmae_det.errors import InputError


def draw(path, height, width, mode="RGB"):
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return str(path)


def test_a_square_of_the_size_is_the_image(tmp_path):
    name = draw(tmp_path / "a.png", 32, 32)
    assert torch.equal(read_square(name, 32), torch.from_numpy(read_image(name)).permute(2, 0, 1))


@pytest.mark.parametrize(("height", "width", "top", "left"), [(32, 50, 0, 9), (77, 32, 22, 0)])
def test_the_middle_of_a_longer_image(tmp_path, height, width, top, left):
    name = draw(tmp_path / "a.png", height, width)
    expected = torch.from_numpy(read_image(name)).permute(2, 0, 1)[:, top : top + 32, left : left + 32]
    assert torch.equal(read_square(name, 32), expected)


def test_channels_are_those_of_the_format(tmp_path):
    name = draw(tmp_path / "a.png", 20, 30)
    assert [len(read_square(name, 48, kind)) for kind in ("RGB", "L", "RGBA")] == [3, 1, 4]
    assert torch.equal(read_square(name, 48, "BGR"), read_square(name, 48).flip(0))


def test_a_large_jpeg_keeps_what_the_square_shows(tmp_path):
    gradient = np.linspace(0, 255, 1024).astype(np.uint8)
    Image.fromarray(np.broadcast_to(gradient, (1024, 1024))).save(tmp_path / "a.jpg")
    square = read_square(str(tmp_path / "a.jpg"), 64).float()
    assert (square - torch.linspace(2, 253, 64)).abs().max() < 4


def test_damage_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="a.jpg can't be read"):
        read_square(str(tmp_path / "a.jpg"), 32)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_image_once_or_its_reason(tmp_path, workers):
    names = [draw(tmp_path / f"{number}.png", 20 + number, 20) for number in range(7)]
    (tmp_path / "3.png").write_bytes(b"no image")
    dataset = SquareDataset([{"file_name": name} for name in names], 16, "RGB", Decoding())
    batches = list(SquareLoader(dataset, [6, 5, 3, 1], batch_size=2, workers=workers))
    assert [batch.indices.tolist() for batch in batches] == [[6, 5], [1]]
    assert torch.equal(batches[0].images[1], read_square(names[5], 16))
    ((name, reason),) = batches[1].skipped
    assert name == names[3] and reason.startswith("can't be read")


def test_a_batch_of_damaged_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    dataset = SquareDataset([{"file_name": str(tmp_path / "a.jpg")}], 16, "RGB", Decoding())
    (batch,) = SquareLoader(dataset, range(1), batch_size=8)
    assert len(batch.indices) == 0 and len(batch.skipped) == 1


def test_reading_draws_no_random_numbers(tmp_path):
    dataset = SquareDataset([{"file_name": draw(tmp_path / "a.png", 20, 20)}], 16, "RGB", Decoding())
    state = torch.get_rng_state()
    list(SquareLoader(dataset, range(1), batch_size=8))
    assert torch.equal(torch.get_rng_state(), state)
