"""Every page or frame is an image of its own where the key says so."""

import itertools
import logging
import pickle

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convmae_det.data.pretraining.folders import ImageFiles
from convmae_det.data.pretraining.loader import build_pretraining_dataset, build_pretraining_loader
from convmae_det.data.pretraining.pages import ImagePages

LEVELS = (10, 60, 110, 160, 210)


@pytest.fixture
def cfg(cfg, tmp_path, monkeypatch):
    """For a folder of a TIFF of two pages, a GIF of three frames and a plain image, each page of a grey of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    pages = [Image.fromarray(np.full((32, 32), level, np.uint8)) for level in LEVELS]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:2])
    pages[2].save(folder / "b.gif", save_all=True, append_images=pages[3:])
    Image.fromarray(np.full((32, 32), 250, np.uint8)).save(folder / "c.png")
    cfg.merge_from_list(["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 16, "DATASETS.TRAIN", ("folder",)])
    cfg.merge_from_list(["DATASETS.IMAGE_FOLDERS", [["folder", str(folder)]], "SOLVER.IMS_PER_BATCH", 1])
    cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
    yield cfg
    DatasetCatalog.remove("folder")
    MetadataCatalog.remove("folder")


def greys(cfg, count):
    batches = itertools.islice(build_pretraining_loader(cfg), count)
    return sorted(round(image.float().mean().item()) for batch in batches for image in batch["images"])


def test_every_page_is_an_image(cfg, caplog):
    cfg.INPUT.ALL_PAGES = True
    with caplog.at_level(logging.INFO):
        assert len(build_pretraining_dataset(cfg)) == 6
    assert "3 files with 6 pages or frames" in caplog.text
    assert greys(cfg, 6) == pytest.approx([*LEVELS, 250], abs=1)


def test_without_the_key_the_first_is_read_and_the_rest_is_said(cfg, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(build_pretraining_dataset(cfg)) == 3
    assert "2 of 3 files have several pages or frames, 5 in all" in caplog.text
    assert greys(cfg, 3) == pytest.approx([LEVELS[0], LEVELS[2], 250], abs=1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_pages_are_in_the_order_of_their_files(counts):
    files = ImageFiles.from_names(f"/{number}.tif" for number in range(len(counts)))
    pages = ImagePages(files, counts)
    expected = [(f"/{number}.tif", page) for number, count in enumerate(counts) for page in range(count)]
    assert [(item["file_name"], item["page"]) for item in pages] == expected
    assert [item["image_id"] for item in pages] == list(range(len(expected)))
    assert pages[-1] == pages[len(pages) - 1] and list(pickle.loads(pickle.dumps(pages))) == list(pages)
    assert pages.digest() == ImagePages(files, counts).digest()
    assert pages.digest() != ImagePages(files, [*counts[:-1], counts[-1] + 1]).digest()
    with pytest.raises(IndexError):
        pages[len(pages)]
