"""Folders of small images, tar files of any content, and a store whose failures can be chosen."""

import io
import tarfile
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from convmae_det.data.shards import store as stores


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "convmae_det"


@pytest.fixture(scope="session")
def encode():
    """encode(number, ...): the content of an image file, each number another image."""

    def encode(number, size=(9, 7), kind="PNG"):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
        return content.getvalue()

    return encode


@pytest.fixture
def write_tar(tmp_path):
    """write_tar(name, files): writes the contents, by name, in their order; returns the path."""

    def write_tar(name, files, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", **options) as tar:
            for member, content in files.items() if isinstance(files, dict) else files:
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return str(path)

    return write_tar


class Flaky(MemoryFileSystem):
    """Files in memory, of a store that fails."""

    protocol = "flaky"
    store: ClassVar[dict] = {}  # apart from that of memory://
    pseudo_dirs: ClassVar[list] = [""]
    failures: ClassVar[list] = []  # raised by the next openings, one each
    opened: ClassVar[list] = []  # paths that were read
    waits: ClassVar[list] = []  # seconds between attempts
    cut = None  # bytes that are read of a file

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("flaky://", "memory://"))

    def unstrip_protocol(self, name):
        return f"flaky:/{name}"

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            self.opened.append(path)
            if self.failures:
                raise self.failures.pop(0)
        file = super()._open(path, mode, **options)
        return file if self.cut is None else io.BytesIO(file.getvalue()[: self.cut])


@pytest.fixture
def store(monkeypatch):
    """A store at flaky://."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store.clear()
    Flaky.failures, Flaky.opened, Flaky.cut, Flaky.waits = [], [], None, []
    monkeypatch.setattr(stores.time, "sleep", Flaky.waits.append)
    yield Flaky(skip_instance_cache=True)
    Flaky.store.clear()
