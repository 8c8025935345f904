"""A folder as shards: all its images, in its order, with their bytes or smaller, the same each time."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from convmae_det.data.file_kinds import SUFFIXES
from convmae_det.data.image import read_image
from convmae_det.data.shards import writing
from convmae_det.data.shards.index import index_shard
from convmae_det.data.shards.members import Shard
from convmae_det.data.shards.pictures import read_picture
from convmae_det.data.shards.writing import Packing, write_shards
from convmae_det.errors import InputError

PACKING = Packing(shard_bytes=10**9, shard_images=0, short_side=0, max_pixels=10**6)
# By name in a folder, in its order, the name in a shard.
NAMES = {
    "3.png": "3.png",
    "b.png": "b.png",
    "über.png": "über.png",
    "a.b/naked": "a.b/naked.jpeg",
    "a.b/x.JPG": "a.b/x.JPG",
    "b/1.2.png": "b/1_2.png",
    "b/1.jpg": "b/1.jpg",
    "b/1.png": "b/1_3.png",
    "b/1_2.png": "b/1_2_2.png",
}


@pytest.fixture
def folder(tmp_path, encode):
    """Images whose names collide in one way or another."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(number, kind="PNG" if name.endswith("png") else "JPEG"))
    return tmp_path / "images"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "shards"


def write(folder, output, **packing):
    return write_shards(str(folder), str(output), PACKING._replace(**packing))


def read(output):
    """Names and contents in shards, in their order."""
    found = []
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [(entry.name, tar.extractfile(entry).read()) for entry in tar]
    return found


def everything(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_all_images_in_the_order_of_the_folder(folder, output):
    account = write(folder, output, shard_images=4)
    assert read(output) == [(name, (folder / file).read_bytes()) for file, name in NAMES.items()]
    assert account.images == 9 and account.shards == ["000000.tar", "000001.tar", "000002.tar"]
    assert account.size == sum(path.stat().st_size for path in output.glob("*.tar"))
    for shard in account.shards:  # no image is taken for a part of the sample of another
        index = index_shard(Shard.from_path(str(output / shard)), SUFFIXES)
        assert json.loads(index.left_out.tobytes()) == {}
    assert len({name.rpartition(".")[0] for name in NAMES.values()}) == 9


def test_a_shard_ends_with_the_image_that_reaches_its_size(folder, output):
    assert write(folder, output, shard_bytes=1).shards == [f"00000{number}.tar" for number in range(9)]
    assert read(output) == [(name, (folder / file).read_bytes()) for file, name in NAMES.items()]


def test_the_same_bytes_each_time(folder, output, tmp_path):
    write(folder, output, shard_images=4, short_side=5)
    for path in folder.rglob("*.*"):
        os.utime(path, (1, 1))
    write(folder, tmp_path / "again", shard_images=4, short_side=5)
    assert everything(output) == everything(tmp_path / "again")


@pytest.mark.parametrize("failing", range(9))
def test_it_goes_on_where_it_was_interrupted(folder, output, tmp_path, monkeypatch, failing):
    for name in ("3.png", "a.b/x.JPG", "b/1_2.png"):  # the first, one in the middle, the last
        (folder / name).write_bytes(b"damaged")
    write(folder, tmp_path / "whole", shard_images=2)

    def fail(index, *rest):
        if index == failing:
            raise KeyboardInterrupt
        return read_picture(index, *rest)

    monkeypatch.setattr(writing, "read_picture", fail)
    with pytest.raises(KeyboardInterrupt):
        write(folder, output, shard_images=2)
    finished = {name: (output / name).stat().st_ino for name in everything(output) if name.endswith(".tar")}
    monkeypatch.undo()
    write(folder, output, shard_images=2)
    assert everything(output) == everything(tmp_path / "whole")
    assert all((output / name).stat().st_ino == number for name, number in finished.items())
    assert write(folder, output, shard_images=2).images == 6  # once more, with nothing to do


def test_what_cannot_be_read_is_left_out(folder, output, caplog):
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:-30])
    (folder / "b" / "1.jpg").unlink()
    (folder / "b" / "1.jpg").symlink_to("nowhere")
    Image.new("L", (1001, 1000)).save(folder / "über.png")
    account = write(folder, output)
    left_out = [f"{folder}/{name}" for name in ("b.png", "über.png", "b/1.jpg")]
    assert [name for name, _ in account.left_out] == left_out and account.images == 6
    assert json.loads((output / "shards.json").read_text())["left_out"] == account.left_out
    assert all(f"Left out: {name} " in caplog.text for name in left_out)


def test_nothing_is_overwritten(folder, output, tmp_path):
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="shards holds files already: name a new folder"):
        write(folder, output)
    with pytest.raises(InputError, match="mine.txt is a file, not a folder"):
        write(folder, output / "mine.txt")
    (output / "mine.txt").unlink()
    write(folder, output, shard_images=8)
    before = everything(output)
    for packing in ({"shard_images": 7}, {"shard_images": 8, "short_side": 9}):
        with pytest.raises(InputError, match="shards holds shards of other images, or written with other options"):
            write(folder, output, **packing)
    (folder / "another.png").write_bytes((folder / "b.png").read_bytes())
    with pytest.raises(InputError, match="shards holds shards of other images"):
        write(folder, output, shard_images=8)
    assert everything(output) == before
    (output / "shards.json").write_text("{")
    with pytest.raises(InputError, match="shards.json can't be read"):
        write(folder, output)


def test_a_shard_that_somebody_else_wrote_meanwhile(folder, output, monkeypatch):
    def read(*arguments):
        (output / "000000.tar").write_bytes(b"mine")
        return read_picture(*arguments)

    monkeypatch.setattr(writing, "read_picture", read)
    with pytest.raises(InputError, match="000000.tar is there already, but not in shards.json: move it away"):
        write(folder, output)
    assert (output / "000000.tar").read_bytes() == b"mine"


def test_a_full_disk(folder, output, monkeypatch):
    def fill(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing.tarfile.TarFile, "addfile", fill)
        with pytest.raises(InputError, match=r"000000.tar can't be written \(No space left on device\)"):
            write(folder, output)
    assert everything(output).keys() == {"shards.json"}
    assert write(folder, output).images == 9


def test_folders_without_images(folder, output, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, message in [
        ("nowhere", "nowhere doesn't exist: correct it"),
        ("empty", "empty holds no images"),
        ("images/b.png", "b.png is a file, not a folder"),
    ]:
        with pytest.raises(InputError, match=message):
            write(tmp_path / source, output)
    assert not output.exists()
    (folder / "a.b" / "naked").unlink()  # which would be no image
    for name in NAMES.keys() - {"a.b/naked"}:
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="^None of the 8 images in .*/images can be read; the first: .*3.png"):
        write(folder, output)


# --- smaller images

COLOURS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
ORIENTATION = 274


def make(mode):
    if mode == "I;16":
        return Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 200)
    return Image.fromarray(COLOURS).convert(mode)


def shrink(path, short_side, image, **options):
    image.save(path, **options)
    picture = read_picture(0, str(path), "key", short_side, 10**6)
    assert not picture.error
    return picture


@pytest.mark.parametrize("kind, modes", [("JPEG", ["L", "RGB", "CMYK"]), ("PNG", ["1", "L", "LA", "P", "RGB", "RGBA"])])
def test_larger_images_become_smaller(tmp_path, kind, modes):
    """And look as the larger ones do when they are resized, whatever their mode."""
    for mode in modes:
        picture = shrink(tmp_path / f"x.{kind.lower()}", 15, make(mode), format=kind)
        assert picture.name == f"key.{kind.lower()}"
        (tmp_path / picture.name).write_bytes(picture.content)
        with Image.open(tmp_path / picture.name) as image:
            assert image.size == (25, 15) and image.format == kind
            assert image.mode == {"1": "L", "L": "L", "LA": "RGBA", "RGBA": "RGBA"}.get(mode, "RGB")
        whole = Image.fromarray(read_image(tmp_path / f"x.{kind.lower()}"))
        difference = read_image(tmp_path / picture.name).astype(int) - whole.resize((25, 15), Image.Resampling.BICUBIC)
        assert abs(difference).mean() < (4 if kind == "JPEG" else 1)


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = shrink(tmp_path / "x.JPG", 15, make("RGB"), format="JPEG", exif=exif, icc_profile=b"profile")
    assert picture.name == "key.JPG"
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (15, 25) and ORIENTATION not in image.getexif()
        assert image.info["icc_profile"] == b"profile"


def test_other_formats_become_png(tmp_path):
    for name, options in [("x.webp", {"lossless": True}), ("x.bmp", {}), ("x.tif", {}), ("x.gif", {})]:
        assert shrink(tmp_path / name, 15, make("RGB"), **options).name == "key.png"
    assert shrink(tmp_path / "wrong.png", 15, make("RGB"), format="JPEG").name == "key.jpg"


@pytest.mark.parametrize(
    "name, short_side, mode, options",
    [
        ("x.jpg", 30, "RGB", {}),
        ("x.jpg", 99, "RGB", {}),
        ("x.png", 15, "I;16", {}),
        ("x.tif", 15, "F", {}),
        ("x.gif", 15, "L", {"save_all": True, "append_images": [Image.fromarray(COLOURS[..., 1])]}),
    ],
)
def test_some_images_stay_as_they_are(tmp_path, name, short_side, mode, options):
    """Those that are small, and those of which a smaller one would hold less: of several pages, or more than 8 bits."""
    image = make(mode) if mode != "F" else Image.fromarray(COLOURS[..., 0] / np.float32(255))
    picture = shrink(tmp_path / name, short_side, image, **options)
    assert picture.content == (tmp_path / name).read_bytes() and picture.name == f"key{os.path.splitext(name)[1]}"


def test_long_images_keep_at_least_a_row(tmp_path):
    for size in ((2000, 3), (3, 2000), (2, 2)):
        picture = shrink(tmp_path / "x.png", 1, Image.new("RGB", size))
        with Image.open(io.BytesIO(picture.content)) as image:
            assert min(image.size) == 1 and max(image.size) == round(max(size) / min(size))
