"""A file in a shard is read as the same file by itself is, and only while the shard stays what it was."""

import copy
import io
import os
import pickle

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from convmae_det.data.image import Decoding, read_crop, read_image, read_size, read_values
from convmae_det.data.inspection.image_files import find_missing, read_image_file
from convmae_det.data.shards.index import index_shard
from convmae_det.data.shards.members import Member, Shard, ShardError, announce_contents
from convmae_det.data.survey import look_at_file
from convmae_det.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def describe(number):
    exif = Image.Exif()
    exif[274] = number
    return exif


def save(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def make_files():
    """Images of every way of reading: by Pillow, whole or reduced, by OpenCV, tifffile and numpy; and no images."""
    grey = Image.fromarray(RGB[..., 0])
    large = Image.fromarray(np.repeat(np.repeat(RGB, 5, 0), 5, 1))
    array, bands = io.BytesIO(), io.BytesIO()
    np.save(array, np.dstack([RGB, RGB[..., 0]]))
    tifffile.imwrite(bands, np.moveaxis(np.dstack([RGB] * 2), 2, 0), photometric="minisblack")
    return {
        "turned.jpg": save(Image.fromarray(RGB), "JPEG", exif=describe(6)),
        "large.jpg": save(large, "JPEG"),
        "grey.png": save(grey, "PNG"),
        "palette.gif": save(Image.fromarray(RGB).quantize(8), "GIF"),
        "raw.bmp": save(Image.fromarray(RGB), "BMP"),
        "turned.tif": save(Image.fromarray(RGB), "TIFF", exif=describe(8)),
        "wide.png": save(Image.fromarray(RGB[..., 0].astype(np.uint16) * 200), "PNG"),
        "wide_colour.png": cv2.imencode(".png", RGB.astype(np.uint16) * 200)[1].tobytes(),
        "animation.gif": save(grey, "GIF", save_all=True, append_images=[Image.fromarray(RGB[::-1, :, 0])]),
        "bands.npy": array.getvalue(),
        "samples.tif": bands.getvalue(),
        "empty.jpg": b"",
        "cut.jpg": save(large, "JPEG")[:900],
        "text.png": b"no image",
        "video.mp4": b"no image",
    }


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """By name, a file and the same in a shard."""
    import tarfile

    folder = tmp_path_factory.mktemp("twins")
    with tarfile.open(folder / "all.tar", "w") as tar:
        for name, content in make_files().items():
            (folder / name).write_bytes(content)
            tar.add(folder / name, name)
    shard = Shard.from_path(str(folder / "all.tar"))
    index = index_shard(shard, tuple({os.path.splitext(name)[1] for name in make_files()}))
    members = {}
    for name, offset, size in zip(index.names.tobytes().decode().split("\0"), index.offsets, index.sizes, strict=False):
        members[name] = (str(folder / name), Member(f"{folder}/{name}", shard, int(offset), int(size)))
    assert members.keys() == make_files().keys()
    return members


def outcome(function, *arguments):
    """What a function returns, or says."""
    try:
        found = function(*arguments)
        parts = map(np.asarray, found if isinstance(found, tuple) else [found])
        return [(part.shape, part.dtype, part.tobytes()) for part in parts]
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("name", make_files())
def test_a_member_is_read_as_the_file_is(twins, name):
    """With the same name, and so with the same errors."""
    file, member = twins[name]
    assert str(member) == file and hash(member) == hash(file)
    for format, page in (("RGB", 0), ("BGR", 1), ("bands", 0)):
        for decoding in (Decoding(), Decoding(white_level=4095, ignore_exif=True), Decoding(max_pixels=100)):
            args = (format, decoding, page)
            assert outcome(read_image, member, *args) == outcome(read_image, file, *args)
            args = (format, lambda height, width: (1, 2, height - 3, width - 4), 8, decoding)
            assert outcome(read_crop, member, *args) == outcome(read_crop, file, *args)
            assert outcome(read_values, member, format, decoding) == outcome(read_values, file, format, decoding)
        assert look_at_file(member, format) == look_at_file(file, format)
    assert outcome(read_size, member) == outcome(read_size, file)
    one, other = (read_image_file(path, "RGB", Decoding()) for path in (member, file))
    assert [str(part) for part in one] == [str(part) for part in other]


def test_a_member_stays_one(twins):
    _, member = twins["grey.png"]
    for same in (pickle.loads(pickle.dumps(member)), copy.deepcopy(member), os.fspath(member)):
        assert same == member and type(same) is Member and same.read() == make_files()["grey.png"]
    assert find_missing([member, "/nowhere/1.jpg"]) == {"/nowhere/1.jpg"}


@pytest.fixture
def member(write_tar):
    path = write_tar("a.tar", {"1.jpg": b"first", "2.jpg": b"second"})
    return Member(f"{path}:1.jpg", Shard.from_path(path), 512, 5)


def announce(member):
    announce_contents([{"file_name": member}, {"file_name": "1.jpg"}, {}, 3])


def test_a_shard_that_changes_is_not_read(member, write_tar):
    assert member.read() == b"first"
    with open(member.shard.path, "r+b") as file:  # in place: the same size
        file.seek(512)
        file.write(b"other")
        os.utime(member.shard.path, ns=(1, member.shard.changed + 1))
    with pytest.raises(ShardError, match=f"^{member.shard.path} has changed since its images were listed"):
        member.read()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_shard_that_is_replaced(member, write_tar, tmp_path, is_open):
    """A process that has it open reads on in the old one, which is whole; others don't read the new one."""
    if is_open:
        announce(member)
    os.replace(write_tar("b.tar", {"1.jpg": b"other and longer" * 99}), member.shard.path)
    if is_open:
        assert member.read() == b"first"
    else:
        with pytest.raises(ShardError, match="has changed since its images were listed"):
            member.read()


def test_a_shard_that_is_cut_or_gone(member):
    os.truncate(member.shard.path, 514)
    announce(member)
    with pytest.raises(ShardError, match="has changed since its images were listed"):
        member.read()
    os.remove(member.shard.path)
    gone = Member(member, member.shard._replace(size=1), 512, 5)  # of which no descriptor is open
    announce(gone)
    with pytest.raises(ShardError, match=r"a.tar can't be read \(No such file or directory\): put the shard there"):
        gone.read()
