"""What of a data set's files is not read, or may be turned, is counted and said before training."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from convmae_det.data import survey
from convmae_det.data.image import Decoding, read_image, read_size
from convmae_det.data.large_image import open_large_image
from convmae_det.data.survey import (
    describe_pages,
    describe_turned,
    log_file_kinds,
    look_at_file,
    look_at_files,
    spread_indices,
)
from convmae_det.data.tiles import Tile
from convmae_det.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def frames(count):
    return [Image.fromarray(np.roll(RGB, number, axis=0)) for number in range(count)]


def save_frames(path, count):
    first, *rest = frames(count)
    first.save(path, save_all=True, append_images=rest)
    return str(path)


def save_turned(path, orientation, shape=(8, 8)):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).resize(shape[::-1]).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_pages_and_frames_are_counted(tmp_path, cfg, suffix):
    paths = [save_frames(tmp_path / f"{count}{suffix}", count) for count in (1, 3, 4)]
    assert [look_at_file(path, "RGB").pages for path in paths] == [1, 3, 4]
    said = describe_pages(look_at_files(tuple(paths), "RGB"), len(paths), cfg)
    assert said.startswith("2 of 3 files have several pages or frames, 7 in all, of which the first alone is read")
    assert paths[1] in said and "INPUT.ALL_PAGES" in said
    cfg.INPUT.ALL_PAGES = True
    assert not describe_pages(look_at_files(tuple(paths), "RGB"), len(paths), cfg)


def test_a_photograph_s_second_picture_is_no_page(tmp_path):
    first, *rest = frames(2)
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=rest)
    assert look_at_file(str(tmp_path / "a.jpg"), "RGB").pages == 1


@pytest.fixture
def pyramid(tmp_path):
    """``pyramid(kinds, suffix)``: a TIFF with a frame for each NewSubfileType, each of a size and a grey of its own."""

    def write(kinds, dtype="uint8"):
        path = str(tmp_path / "pyramid.tif")
        with tifffile.TiffWriter(path) as file:
            for number, kind in enumerate(kinds, 1):
                side, level = (16 if kind & 0b101 else 32), number * 50 * (257 if dtype == "uint16" else 1)
                pixels = np.full((side, side + number, 3), level, dtype)
                if kind & 0b100:
                    file.write(pixels[:, :, 0] > 0, photometric="minisblack", subfiletype=kind)
                else:
                    file.write(pixels, photometric="rgb", tile=(16, 16), subfiletype=kind)
        return path

    return write


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "kinds, frames",
    [((0, 1, 1), [0]), ((0, 1, 4, 5), [0]), ((2, 1, 2, 1), [0, 2]), ((1, 0), [1]), ((0, 2), [0, 1]), ((1, 1), [0])],
)
def test_smaller_copies_and_masks_are_no_pages(pyramid, cfg, kinds, frames, dtype):
    path = pyramid(kinds, dtype)
    assert look_at_file(path, "RGB").pages == len(frames)
    assert bool(describe_pages([look_at_file(path, "RGB")], 1, cfg)) == (len(frames) > 1)
    for page, frame in enumerate(frames):
        assert read_image(path, page=page).mean() == (frame + 1) * 50
    assert read_size(path)[1] == read_image(path).shape[1]
    with pytest.raises(InputError, match=rf"no page {len(frames) + 1}"):
        read_image(path, page=len(frames))


@pytest.mark.parametrize("kinds, grey", [((0, 1), 50), ((1, 0), 100), ((5, 1, 2), 150)])
def test_bands_and_windows_are_those_of_the_image_not_of_its_preview(pyramid, kinds, grey):
    path = pyramid(kinds)
    assert read_image(path, "bands").mean() == grey
    image = open_large_image(path)
    assert image.height == 32 and image.read(Tile(3, 3, 9, 9)).mean() == grey


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(8, 8), (8, 12)])
def test_what_the_size_does_not_tell_is_told(tmp_path, cfg, orientation, shape):
    """A quarter turn of a photo that isn't square is noticed by its size (tests/data/detection/test_mapper.py)."""
    paths = [save_turned(tmp_path / "a.jpg", orientation, shape), save_turned(tmp_path / "b.jpg", 1)]
    told = orientation > 1 and (shape == (8, 8) or orientation < 5)
    said = describe_turned(look_at_files(tuple(paths), "RGB"), len(paths), cfg)
    assert bool(said) == told
    assert not told or (paths[0] in said and "set INPUT.IGNORE_EXIF True" in said and said.startswith("1 of 2 files"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_key_leaves_photos_as_they_are_stored(tmp_path, suffix, orientation):
    plain, turned = (save_turned(tmp_path / f"{number}{suffix}", number, (16, 32)) for number in (1, orientation))
    assert np.array_equal(read_image(turned, "RGB", Decoding(ignore_exif=True)), read_image(plain))


def test_it_is_said_once(tmp_path, cfg, caplog):
    images = [{"file_name": save_turned(tmp_path / "a.jpg", 3)}, {"file_name": save_frames(tmp_path / "a.gif", 2)}]
    images.append({"file_name": str(tmp_path / "missing.jpg")})
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            log_file_kinds("mine", images, cfg)
    assert caplog.text.count("have several pages") == caplog.text.count("EXIF orientation") == 1


def test_of_many_files_some_are_looked_at(tmp_path, cfg, monkeypatch, caplog):
    monkeypatch.setattr(survey, "LOOKED_AT", 3)
    images = [{"file_name": save_frames(tmp_path / f"{number}.gif", 2)} for number in range(7)]
    with caplog.at_level(logging.WARNING):
        log_file_kinds("mine", images, cfg)
    assert "3 of 3 files that were looked at, of 7," in caplog.text


@pytest.mark.parametrize("length, most", [(1, 5), (5, 5), (6, 5), (1000, 7)])
def test_what_is_chosen_is_spread(length, most):
    chosen = spread_indices(length, most)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(length, most)
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    assert spread_indices(0, most) == []
