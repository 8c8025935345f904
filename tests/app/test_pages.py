"""The pages, in a browser: what they show, what they say, and that they ask for nothing elsewhere."""

import contextlib
import json
import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import autoencoder_cfg, classifier_cfg, detector_cfg, randomise

from convmae_det.app.launch import build_page
from convmae_det.app.server import keep_files_together, start
from convmae_det.data.shapes import CATEGORIES, register_shapes, write_shapes

CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]

NEEDED = os.path.exists(CHROMIUM) and find_spec("gradio") and find_spec("playwright")
pytestmark = pytest.mark.skipif(not NEEDED, reason="needs Chromium, gradio and playwright")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Configurations and random weights of a network of each kind, a data set for them, and an image."""
    place = tmp_path_factory.mktemp("pages")
    write_shapes(place / "shapes", train=3, val=3, size=64)
    register_shapes(place / "shapes")
    data = ("DATASETS.TRAIN", ("shapes_train",), "DATASETS.TEST", ("shapes_val",))
    cfgs = {
        "detector": detector_cfg(*data, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
        "autoencoder": autoencoder_cfg("DATASETS.TRAIN", ("shapes_train",)),
        "classifier": classifier_cfg(),
    }
    for name, cfg in cfgs.items():
        torch.manual_seed(0)
        torch.save({"model": randomise(build_model(cfg)).state_dict()}, place / f"{name}.pth")
        (place / f"{name}.yaml").write_text(cfg.dump())
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "photo.png")
    (place / "broken.png").write_bytes(b"no image")
    yield place
    register_shapes()


@pytest.fixture(scope="module")
def browser():
    from playwright import sync_api

    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visit(place, browser):
    """``visit(kind)`` opens the page of a network, and in the end checks what the browser has to say of it."""
    errors, hosts = [], set()
    with contextlib.ExitStack() as stack:

        def visit(kind, width=1280):
            stack.enter_context(keep_files_together())
            blocks = build_page(str(place / f"{kind}.yaml"), str(place / f"{kind}.pth"), "cpu")
            stack.callback(blocks.close, verbose=False)
            address = start(blocks)
            page = browser.new_page(viewport={"width": width, "height": 900})
            stack.callback(page.close)
            page.on("console", lambda message: message.type == "error" and errors.append(message.text))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
            page.goto(address)
            page.wait_for_selector("#drop")
            hosts.add(address.split("/")[2])
            return page

        yield visit
        assert not errors and len(hosts) == 1


def drop(page, path):
    page.set_input_files("#drop input[type=file]", str(path))
    page.wait_for_selector("#picture img")


def wait_for_change(page, selector, before) -> str:
    selector += " .said"
    page.wait_for_selector(selector)
    page.wait_for_function("([s, text]) => document.querySelector(s).innerText != text", arg=[selector, before])
    return page.inner_text(selector)


def set_slider(page, selector, value):
    number = page.locator(f"{selector} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


def test_objects_by_score_and_class(place, visit, tmp_path):
    page = visit("detector", width=400)
    page.set_input_files("#drop input[type=file]", str(place / "broken.png"))
    sentence = page.get_by_test_id("toast-text")
    assert sentence.inner_text().startswith("broken.png can't be read")
    page.get_by_test_id("toast-close").click()
    assert page.locator("#examples img").count() == 3
    page.locator("#examples button").first.click()
    example = wait_for_change(page, "#counts", "")
    drop(page, place / "photo.png")
    few = wait_for_change(page, "#counts", example)
    set_slider(page, "#threshold", 0)
    every = wait_for_change(page, "#counts", few)
    count = int(every.split()[0])
    assert count == int(every.split("of ")[1].split()[0]) > int(few.split()[0])

    def download() -> list[dict]:
        with page.expect_download() as downloading:
            page.click("#download")
        assert downloading.value.suggested_filename == "photo.json"
        downloading.value.save_as(tmp_path / "photo.json")
        return json.loads((tmp_path / "photo.json").read_text())

    entries = download()
    assert len(entries) == count
    assert all(entry["file_name"] == "photo.png" and "segmentation" in entry for entry in entries)
    name = CATEGORIES[entries[0]["category_id"] - 1]
    page.click("#classes input")
    page.get_by_role("option", name=name).click()
    wait_for_change(page, "#counts", every)
    assert download() == [entry for entry in entries if entry["category_id"] == entries[0]["category_id"]]
    source = page.get_attribute("#picture img", "src")
    for choice in ("masks", "features"):
        page.get_by_label(choice, exact=True).click()
        page.wait_for_function("s => !document.querySelector('#picture img').src.endsWith(s)", arg=source)
        source = page.get_attribute("#picture img", "src")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_reconstructions_with_other_masks(place, visit):
    page = visit("autoencoder")
    drop(page, place / "photo.png")
    first = wait_for_change(page, "#said", "")
    assert first.endswith("with 75% hidden")
    set_slider(page, "#ratio", 0.5)
    half = wait_for_change(page, "#said", first)
    assert half.endswith("with 50% hidden")
    page.click("#mask")
    assert wait_for_change(page, "#said", half).endswith("with 50% hidden")
    page.get_by_text("Features", exact=True).first.click()
    page.click("#ask")
    page.wait_for_selector("#features img")


def test_classes_of_an_image(place, visit):
    page = visit("classifier")
    drop(page, place / "photo.png")
    page.get_by_text("%").first.wait_for()
    said = page.inner_text("#classes")
    assert all(name in said for name in ("blue", "green", "red"))
