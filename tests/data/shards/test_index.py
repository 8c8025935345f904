"""What is found in a tar file: the images of its samples, where they lie, and whether it is whole."""

import gzip
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.data.file_kinds import SUFFIXES
from convmae_det.data.shards import index as indexing
from convmae_det.data.shards.index import LINKS, SIBLINGS, find_index, index_shard
from convmae_det.data.shards.members import Member, Shard, ShardError


def index(path):
    return index_shard(Shard.from_path(path), SUFFIXES)


def names(found):
    return [os.fsdecode(name) for name in found.names.tobytes().split(b"\0")[:-1]]


def read(path, found):
    shard = Shard.from_path(path)
    places = zip(found.offsets.tolist(), found.sizes.tolist(), strict=True)
    return [Member("x", shard, offset, size).read() for offset, size in places]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0/.", exclude_categories=["Cs"]), min_size=1,
                                  max_size=60), st.integers(0, 1500)), min_size=1, max_size=9))  # fmt: skip
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_image_is_where_the_index_says(write_tar, format, files):
    """In all formats of tar, with long names and those of any letters."""
    files = [(f"{number}{name[:20] if format == tarfile.USTAR_FORMAT else name * 4}.jpg", os.urandom(size))
             for number, (name, size) in enumerate(files)]  # fmt: skip
    path = write_tar("a.tar", files, format=format)
    found = index(path)
    assert names(found) == [name for name, _ in files]
    assert read(path, found) == [content for _, content in files]


def test_a_sample_has_one_image(write_tar):
    files = ["a/1.json", "a/1.JPG", "a/1.seg.png", "a/1.cls", "a/2.jpg", "a/2.png", "b.c/2.jpg", "3.left.png",
             "3.right.png", "4.txt", "._5.jpg", "dir.x/.6.jpg", "7.jpg"]  # fmt: skip
    found = index(write_tar("a.tar", dict.fromkeys(files, b"x")))
    assert names(found) == ["a/1.JPG", "a/2.jpg", "b.c/2.jpg", "3.left.png", "3.right.png", "7.jpg"]
    left_out = json.loads(found.left_out.tobytes())
    assert left_out == {".json": [1, "a/1.json"], SIBLINGS: [2, "a/1.seg.png"], ".cls": [1, "a/1.cls"],
                        ".txt": [1, "4.txt"]}  # fmt: skip


def test_links_are_named(write_tar, tmp_path):
    path = write_tar("a.tar", {"1.jpg": b"x"})
    with tarfile.open(path, "a") as tar:
        for name, kind in (("2.jpg", tarfile.LNKTYPE), ("3.jpg", tarfile.SYMTYPE), ("4.jpg", tarfile.DIRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "1.jpg"
            tar.addfile(entry)
    found = index(path)
    assert names(found) == ["1.jpg"] and json.loads(found.left_out.tobytes()) == {LINKS: [2, "2.jpg"]}


def test_a_shard_that_is_cut_anywhere_is_noticed(write_tar, tmp_path):
    path = write_tar("a.tar", {f"{number}.jpg": bytes([number] * 700) for number in range(4)})
    whole = Path(path).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(0, 4 * 3 * 512 + 1, 128):  # a header and two blocks each
        cut.write_bytes(whole[:length])
        with pytest.raises(ShardError, match=r"^.*cut.tar is (cut|no tar file, or damaged) \(.*\): copy or write it"):
            index(str(cut))


def test_damage_is_noticed(write_tar):
    path = write_tar("a.tar", {f"{number}.jpg": b"x" for number in range(4)})
    content = bytearray(Path(path).read_bytes())
    content[2 * 1024 + 5] ^= 255  # in the third header
    Path(path).write_bytes(content)
    with pytest.raises(ShardError, match="no tar file, or damaged .no header at byte 2,048"):
        index(path)


def test_other_files_than_shards(write_tar, tmp_path):
    path = write_tar("a.tar", {"1.jpg": b"x"})
    whole = Path(path).read_bytes()
    for content, reason in [
        (whole + whole, "goes on behind its end"),
        (gzip.compress(whole), "is compressed, in which single images can't be found: decompress"),
        (b"\xff\xd8\xff" * 999, "is no tar file, or damaged"),
        (Path(write_tar("b.tar", {})).read_bytes(), "holds no images: leave it out"),
        (Path(write_tar("c.tar", {"a.txt": b"x", "b.mp4": b"x"})).read_bytes(), "holds no images: leave it out"),
    ]:
        (tmp_path / "other.tar").write_bytes(content)
        with pytest.raises(ShardError, match=f"^{tmp_path}/other.tar {reason}"):
            index(str(tmp_path / "other.tar"))
    with pytest.raises(ShardError, match="gone.tar can't be read .No such file"):
        index(str(tmp_path / "gone.tar"))


def test_a_shard_is_listed_once(write_tar, monkeypatch, cache, caplog):
    walks, walk = [], indexing._walk
    monkeypatch.setattr(indexing, "_walk", lambda shard: walks.append(shard) or walk(shard))
    path = write_tar("a.tar", {"1.jpg": b"x", "2.npy": b"y"})

    def find(suffixes=SUFFIXES):
        return find_index(Shard.from_path(path), suffixes)

    first, second = find(), find()
    assert len(walks) == 1 and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert names(find((*SUFFIXES, ".npy"))) == ["1.jpg", "2.npy"] and len(walks) == 2  # of others than images alone
    write_tar("a.tar", {"3.jpg": b"x"})
    assert names(find()) == ["3.jpg"] and len(walks) == 3
    for file in (cache / "shard_indices").iterdir():
        file.write_bytes(b"damaged")
    assert names(find()) == ["3.jpg"] and len(walks) == 4 and "can't be used" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_alone(write_tar, cache, caplog):
    cache.parent.mkdir()
    cache.write_text("in the way")
    path = write_tar("a.tar", {"1.jpg": b"x"})
    assert names(find_index(Shard.from_path(path), SUFFIXES)) == ["1.jpg"]
    assert "will be listed each time" in caplog.text
