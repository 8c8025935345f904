"""Damaged image files give an image or a sentence, with either loader, and pretraining passes over them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reference.faults import Tally, counts, examples
from reference.small import autoencoder_cfg, detector_cfg

from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.pretraining.mapper import PretrainingMapper, SkippingMapper

HEIGHT, WIDTH = 40, 56


def encoded(kind: str, mode: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = Image.fromarray(pixels).convert(mode)
    image.save(buffer, kind, **options, **{"exif": exif} if kind == "JPEG" else {})
    return buffer.getvalue()


GOOD = [encoded("JPEG", mode, **options) for mode in ("RGB", "L", "CMYK") for options in ({}, {"progressive": True})]
GOOD += [encoded("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]


@st.composite
def damaged(draw) -> bytes:
    content = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 6))):
        # the headers are at the beginning: damage there goes deeper
        place = draw(st.integers(0, draw(st.sampled_from([40, 200, len(content)]))))
        match draw(st.sampled_from(["set", "cut", "insert", "repeat", "number"])):
            case "set":
                content[place : place + 1] = [draw(st.integers(0, 255))]
            case "cut":
                del content[place : place + draw(st.integers(1, 400))]
            case "insert":
                content[place:place] = draw(st.binary(max_size=12))
            case "repeat":
                content[place:place] = content[place : place + 60]
            case "number":  # a length or a size
                content[place : place + 4] = draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(
                    4, "big"
                )
    return bytes(content)


@pytest.fixture
def paths(tmp_path):
    good = tmp_path / "good.png"
    good.write_bytes(encoded("PNG", "RGB"))
    return str(good), str(tmp_path / "damaged.img")


def check(sample: dict | None) -> None:
    if sample is None:
        return
    image = sample["image"]
    assert str(image.dtype) == "torch.uint8" and image.shape[0] == 3 and image.numel()
    if "instances" in sample:
        assert sample["instances"].gt_boxes.tensor.isfinite().all() and sample["instances"].gt_boxes.nonempty().all()


@counts(25, 2500)
def test_damaged_images(count, paths):
    good, path = paths
    detection, pretraining = DetectionMapper(detector_cfg(), True), PretrainingMapper(autoencoder_cfg())
    skipping = SkippingMapper(pretraining, [{"file_name": good}])
    triangle = {"bbox": [2, 3, 20, 20], "bbox_mode": 1, "category_id": 1, "segmentation": [[2, 3, 22, 3, 2, 23]]}
    tallies = {name: Tally() for name in ("detection", "pretraining", "pretraining with skipping")}

    @examples(count)
    @given(damaged())
    def run(content):
        with open(path, "wb") as file:
            file.write(content)
        item = {"file_name": path, "image_id": 1, "annotations": [triangle]}
        check(tallies["detection"](detection, item))
        read = tallies["pretraining"](pretraining, item)
        check(read)
        sample = tallies["pretraining with skipping"](skipping, item)
        check(sample)
        assert [name for name, _ in sample["skipped"]] == ([] if read else [path])

    run()
    for name, tally in tallies.items():
        tally.report(f"damaged JPEG and PNG files, {name}")
    assert tallies["pretraining with skipping"].outcomes["refused"] == 0
    assert all(tallies["detection"].outcomes[kind] for kind in ("survived", "refused"))
