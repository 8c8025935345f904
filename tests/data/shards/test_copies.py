"""Shards in a store are copied once, whole, and again when they change; a store may fail, answer late, or lie."""

import threading

import pytest

from convmae_det.data.shards import copies
from convmae_det.data.shards.places import locate_shards
from convmae_det.data.shards.store import WAITS
from convmae_det.errors import InputError

ADDRESSES = ["flaky://bucket/{0..2}.tar"]


@pytest.fixture(autouse=True)
def shards(store, monkeypatch):
    monkeypatch.setattr(copies, "THREADS", 1)
    for number in range(3):
        store.pipe(f"/bucket/{number}.tar", bytes([number]) * 3000)


def locate(words=ADDRESSES, cache=""):
    places = locate_shards("mine", words, cache)
    return {place.name: open(place.path, "rb").read() for place in places}


WHOLE = {f"flaky://bucket/{number}.tar": bytes([number]) * 3000 for number in range(3)}


def test_shards_are_copied_once(store, cache, tmp_path):
    assert locate() == WHOLE and len(store.opened) == 3
    assert locate() == WHOLE and len(store.opened) == 3
    assert locate(["flaky://bucket/*.tar"]) == WHOLE and len(store.opened) == 3
    assert {path.name for path in (cache / "shards").glob("*/*")} == {f"{n}.tar" for n in range(3)} | {
        "copy.json",
        "lock",
    }
    assert locate(cache=str(tmp_path / "elsewhere")) == WHOLE and len(store.opened) == 6


def test_a_shard_that_changes_is_copied_anew(store, cache):
    locate()
    store.pipe("/bucket/1.tar", b"x" * 3000)  # the same size
    assert locate() == WHOLE | {"flaky://bucket/1.tar": b"x" * 3000} and len(store.opened) == 4


def test_a_copy_that_is_cut_or_changed_is_made_anew(store, cache):
    locate()
    one, other, third = sorted((cache / "shards").glob("*/*.tar"))
    one.write_bytes(one.read_bytes()[:10])
    other.unlink()
    (third.parent / "copy.json").write_text("{")
    assert locate() == WHOLE and len(store.opened) == 6


def test_a_store_that_fails_and_comes_back(store, caplog):
    store.failures.extend([ConnectionError("reset by peer"), TimeoutError("took too long")])
    assert locate() == WHOLE
    assert store.waits == [1, 2] and "0.tar can't be read (reset by peer): trying again in 1 s" in caplog.text


def test_a_web_server_that_does_not_answer(store, caplog):
    """Of which fsspec says that the file isn't there."""
    error = FileNotFoundError("https://host/0.tar")
    error.__cause__ = ConnectionError("refused")
    store.failures.append(error)
    assert locate() == WHOLE and "0.tar can't be read (refused): trying again in 1 s" in caplog.text


def test_a_store_that_stays_away(store, cache):
    store.failures.extend([ConnectionError("reset by peer")] * 99)
    with pytest.raises(
        InputError,
        match=r"^flaky://bucket/0.tar, of DATASETS.SHARDS, can't be read \(reset by peer\), tried 6 times: see "
        "whether its store answers, and start again; what has been copied is kept.$",
    ):
        locate()
    assert store.waits == list(WAITS) and not list((cache / "shards").glob("*/*.t*"))


def test_a_shard_that_comes_cut(store, cache):
    type(store).cut = 1000
    with pytest.raises(InputError, match="0.tar, .* can't be read .it ended after 1,000 of 3,000 bytes"):
        locate()
    type(store).cut = None
    assert locate() == WHOLE


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["flaky://bucket/{0..9}.tar"],
            "^flaky://bucket/3.tar, of DATASETS.SHARDS, doesn't exist: correct",
        ),
        (["flaky://bucket/x*.tar"], r"^flaky://bucket/x\*.tar, of mine in DATASETS.SHARDS, is no file: correct it"),
        (["flakey://bucket/1.tar"], "^flakey://bucket/1.tar, .*, is in no store that fsspec knows"),
    ],
)
def test_words_that_stand_for_no_shards(store, words, message):
    with pytest.raises(InputError, match=message):
        locate(words)
    assert not store.waits


def test_errors_that_time_does_not_mend(store):
    for error, message in [
        (
            PermissionError("Access Denied"),
            r"can't be read \(Access Denied\): correct the address, or see",
        ),
        (ImportError("Install s3fs"), r"needs a library \(Install s3fs\): pip install 'convmae_det\[shards\]'"),
        (FileNotFoundError("1.tar"), "doesn't exist: correct the address"),
    ]:
        store.failures.append(error)
        with pytest.raises(InputError, match=message):
            locate()
    assert not store.waits


def test_a_disk_that_is_too_small_or_full(store, cache, tmp_path, monkeypatch):
    usage = copies.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda folder: usage._replace(free=8999))
    with pytest.raises(InputError, match=r"^The shards of mine need 0.00 GB in .*/shards, whose disk has 0.00 GB left"):
        locate()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))

    def fill(file, tell=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convmae_det.files.os.fsync", fill)
    with pytest.raises(InputError, match=r"\d.tar can't be written \(No space left on device\)"):
        locate()
    assert not store.waits and not list((cache / "shards").glob("*/*.t*"))


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/cache can't be written .*: let DATASETS.SHARD_CACHE name a folder"):
        locate(cache=str(tmp_path / "file" / "cache"))


def test_two_processes_copy_a_shard_once(store, cache, monkeypatch):
    """Each waits for the lock of the other, here for that of another thread, which locks as a process does."""
    begun, going_on, read_pieces = threading.Event(), threading.Event(), copies.read_pieces

    def read_slowly(address):
        begun.set()
        going_on.wait(10)
        yield from read_pieces(address)

    monkeypatch.setattr(copies, "read_pieces", read_slowly)
    found = []
    threads = [threading.Thread(target=lambda: found.append(locate())) for _ in range(2)]
    threads[0].start()
    begun.wait(10)
    threads[1].start()
    going_on.set()
    for thread in threads:
        thread.join(20)
    assert found == [WHOLE, WHOLE] and len(store.opened) == 3


def test_what_a_killed_process_left_is_removed(store, cache):
    locate()
    for path in (cache / "shards").glob("*/*.tar"):
        path.with_name(f".{path.name}.123.tmp").write_bytes(b"x" * 999)
        path.unlink()
    assert locate() == WHOLE and not list((cache / "shards").glob("*/.*"))
