"""What the words of DATASETS.SHARDS stand for."""

import os

import pytest

from convmae_det.data.shards.places import expand_braces, locate_shards
from convmae_det.data.shards.store import hide_secrets, is_remote
from convmae_det.errors import InputError


@pytest.mark.parametrize(
    "pattern, expanded",
    [
        ("a.tar", "a.tar"),
        ("{000..003}.tar", "000.tar 001.tar 002.tar 003.tar"),
        ("{8..11}", "8 9 10 11"),
        ("{08..11}", "08 09 10 11"),
        ("{8..011}", "008 009 010 011"),
        ("{3..1}", "3 2 1"),
        ("{a,b}/{0..1}.tar", "a/0.tar a/1.tar b/0.tar b/1.tar"),
        ("x{a,}", "xa x"),
        ("{a}{,b}{1..a}{}", "{a}{1..a}{} {a}b{1..a}{}"),
    ],
)
def test_braces_are_those_of_a_shell(pattern, expanded):
    assert expand_braces(pattern) == expanded.split()


def test_too_many_numbers():
    with pytest.raises(InputError, match=r"^DATASETS.SHARDS holds \{0\.\.9999999\}.tar, more than 1,000,000 shards"):
        expand_braces("{0..9999999}.tar")


@pytest.fixture
def shards(tmp_path, monkeypatch):
    folder = tmp_path / "some [1] ?"
    folder.mkdir()
    for name in ("000", "001", "010"):
        (folder / f"{name}.tar").write_bytes(b"")
    (folder / "sub.tar").mkdir()
    monkeypatch.chdir(folder)
    return folder


def locate(*patterns, cache=""):
    return [os.path.relpath(place.path) for place in locate_shards("mine", patterns, cache)]


def test_local_shards(shards, monkeypatch):
    assert locate("{000..001}.tar", "010.tar") == ["000.tar", "001.tar", "010.tar"]
    assert locate("0*.tar") == locate(f"{shards}/0*.tar") == ["000.tar", "001.tar", "010.tar"]
    assert locate("01*.tar", "000.tar") == ["010.tar", "000.tar"]  # in the order of the words
    (place,) = locate_shards("mine", ["../some [1] ?/000.tar"], "")
    assert place.name == place.path == f"{shards}/000.tar"
    monkeypatch.setenv("HOME", str(shards))
    assert locate("~/000.tar") == ["000.tar"]


@pytest.mark.parametrize(
    "patterns, message",
    [
        (["{000..009}.tar"], r"/002.tar, a shard of mine in .*, doesn't exist: correct it \(8 of 10 are missing\)\.$"),
        (["x.tar"], r"/x.tar, a shard of mine in DATASETS.SHARDS, doesn't exist: correct it\.$"),
        (["sub.tar"], "is a folder: name the files in it"),
        (["x*.tar"], r"/x\*.tar, of mine in DATASETS.SHARDS, is no file: correct it"),
        (["000.tar", "./000.tar"], "^DATASETS.SHARDS names .*/000.tar twice for mine: name each shard once"),
    ],
)
def test_words_that_stand_for_no_shards(shards, patterns, message):
    with pytest.raises(InputError, match=message):
        locate(*patterns)


def test_secrets_are_not_shown():
    assert hide_secrets("https://me:secret@host/a.tar?signature=1") == "https://host/a.tar"
    assert hide_secrets("s3://bucket/a@b.tar") == "s3://bucket/a@b.tar" and hide_secrets("a?.tar") == "a?.tar"
    assert hide_secrets("403, url='https://host/a?signature=1' (b?)") == "403, url='https://host/a' (b?)"
    assert is_remote("s3://bucket/a.tar") and not is_remote("data/s3:/a.tar") and not is_remote("/a://b")
