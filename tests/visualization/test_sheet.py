import numpy as np
import pytest
from PIL import Image

from convmae_det.errors import InputError
from convmae_det.visualization.sheet import draw_sheet, save_png


def colour(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def test_panels_of_any_size_lie_side_by_side():
    rows = [[colour(300, 240, 10), colour(200, 400, 20)], [colour(50, 300, 30), colour(60, 280, 40)]]
    sheet = np.asarray(draw_sheet(rows, ["one", "two"]))
    for row in rows:
        for panel in row:
            found = np.argwhere((sheet == panel[0, 0]).all(-1))
            assert len(found) >= panel[..., 0].size  # text is antialiased and may have the same grey
    assert sheet.shape[0] > 300 + 60 and sheet.shape[1] > 300 + 400


def test_small_panels_are_enlarged_and_large_ones_shrunk():
    pattern = np.arange(30 * 100 * 3, dtype=np.uint8).reshape(30, 100, 3)
    sheet = np.asarray(draw_sheet([[pattern], [colour(2000, 3000, 99)]], ["title"]))
    assert 1024 < sheet.shape[1] < 1100 and sheet.shape[0] < 900
    top = np.argwhere((sheet == pattern[0, 0]).all(-1)).min(0)
    assert np.array_equal(sheet[top[0] :, top[1] :][:90, :300], pattern.repeat(3, 0).repeat(3, 1))


def test_a_caption_adds_to_the_height():
    rows = [[colour(300, 300, 0)]] * 2
    without, named = draw_sheet(rows, ["title"]), draw_sheet(rows, ["title"], ["first", "zweites: ß, é, 東"])
    assert named.width == without.width and named.height > without.height


def test_writing_replaces_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    for level in (0, 200):
        save_png(Image.fromarray(colour(4, 5, level)), path)
    assert np.array_equal(np.asarray(Image.open(path)), colour(4, 5, 200))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_a_failure_leaves_what_was_there(tmp_path):
    class Unlucky:
        def save(self, file, format):
            file.write(b"half")
            raise OSError(28, "No space left on device")

    path = tmp_path / "a.png"
    save_png(Image.fromarray(colour(4, 5, 7)), path)
    with pytest.raises(InputError, match="No space left"):
        save_png(Unlucky(), path)
    assert np.array_equal(np.asarray(Image.open(path)), colour(4, 5, 7))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_places_and_names_that_will_not_do(tmp_path):
    picture = Image.fromarray(colour(4, 5, 7))
    with pytest.raises(InputError, match=r"end in \.png"):
        save_png(picture, tmp_path / "a.jpg")
    with pytest.raises(InputError, match="can't be written"):
        save_png(picture, tmp_path / "missing" / "a.png")
