"""Configurations and annotation files made to do harm: nothing in them runs, and no file elsewhere is read."""

import json
import os
import zlib

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from convmae_det.config.reading import read_run_config
from convmae_det.data.configuration import read_config
from convmae_det.data.detection.catalog import list_image_names, load_dataset_dicts
from convmae_det.data.image import read_image
from convmae_det.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The working directory, beside a folder with secrets."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/plan.yaml").write_text("SEED: 7\n")
    (tmp_path / "home/configs").mkdir(parents=True)
    (tmp_path / "home/base.yaml").write_text("SEED: 5\n")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


TAGS = ["!!python/object/apply:os.mkdir [proof]", "!!python/object/new:os.mkdir [proof]", "!!python/name:os.mkdir"]
TAGS += ["!!python/module:this", "!!python/object:os.mkdir {}"]


@pytest.mark.parametrize("tag", TAGS)
def test_python_tags_are_not_run(home, tag):
    (home / "own.yaml").write_text(f"MODEL:\n  WEIGHTS: {tag}\n")
    for read in (read_config, read_run_config):
        with pytest.raises(InputError, match="own.yaml.* is not plain YAML"):
            read("own.yaml")
    assert not (home / "proof").exists()


BASES = [
    "../secret/plan.yaml",
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "~/.bashrc",
    "link.yaml",
    "linked/plan.yaml",
]


@pytest.mark.parametrize("base", [*BASES, *map("[{}]".format, BASES)])
def test_bases_elsewhere_are_not_read(home, base):
    (home / "link.yaml").symlink_to(home.parent / "secret/plan.yaml")
    (home / "linked").symlink_to(home.parent / "secret")
    (home / "own.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(InputError, match="own.yaml builds on .*, which is not a .yaml file in its folder"):
        read_config("own.yaml")


@pytest.mark.parametrize(
    "base", ["https://host/base.yaml", "http://host/base.yaml", "s3://x/y.yaml", "file:///etc/passwd"]
)
def test_bases_are_not_downloaded(home, base):
    (home / "own.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(InputError, match=f"own.yaml builds on {base} by _BASE_: download that file"):
        read_config("own.yaml")


def test_bases_nearby_are_read(home):
    """Beside the file, below it, above it where that is the working directory, and the project's own from anywhere."""
    (home / "configs/own.yaml").write_text("_BASE_: ../base.yaml\n")
    (home / "upper.yaml").write_text("_BASE_: [base.yaml, configs/own.yaml]\n")
    ours = os.path.join(os.path.dirname(__file__), "../../configs/mask_rcnn_convmae_tiny.yaml")
    (home / "tiny.yaml").write_text(f"_BASE_: {ours}\n")
    assert read_config("configs/own.yaml").SEED == read_config("upper.yaml").SEED == 5
    assert read_config("tiny.yaml").MODEL.CONVMAE.ARCH == "tiny"


@pytest.mark.parametrize("other", ["_BASE_: own.yaml", "_BASE_: [base.yaml, own.yaml]"])
def test_loops_end(home, other):
    (home / "own.yaml").write_text("_BASE_: configs/other.yaml\n")
    (home / "configs/other.yaml").write_text(other.replace("base", "../base").replace("own", "../own"))
    with pytest.raises(InputError, match="own.yaml builds in a loop by _BASE_"):
        read_config("own.yaml")


def test_bases_that_double_end(home):
    for number in range(40):
        (home / f"{number}.yaml").write_text(f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (home / "40.yaml").write_text("SEED: 5\n")
    with pytest.raises(InputError, match="builds on more than 50 files"):
        read_config("0.yaml")


@pytest.mark.parametrize("kind", ["[{0}, {0}]", "{{x: {0}, y: {0}}}"])
def test_laughs_end(home, kind):
    """Thirty lines that stand for 2³⁰ values."""
    lines = ["k0: &k0 [1]"] + [f"k{i}: &k{i} {kind.format(f'*k{i - 1}')}" for i in range(1, 31)]
    for text in ("\n".join(lines), "a: &a [*a]", "a: &a {b: *a}"):
        (home / "own.yaml").write_text(text)
        for read in (read_config, read_run_config):
            with pytest.raises(InputError, match="own.yaml.* is not plain YAML"):
                read("own.yaml")


NAMES = ["../../secret.png", "/etc/passwd", "a/../../secret.png", "..", "..\\secret.png"]


@pytest.fixture
def annotations(home, request):
    """["mine", file, folder]: one image of two, whose name a test gives, lies elsewhere."""
    Image.new("RGB", (8, 8)).save(home.parent / "secret.png")
    (home / "images/deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(home / "images/1.png")
    images = [{"id": i, "file_name": name, "width": 8, "height": 8} for i, name in ((1, "1.png"), (2, request.param))]
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0} for i in (1, 2)
    ]
    for object in objects:
        object["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "ant"}]}
    (home / "mine.json").write_text(json.dumps(content))
    yield ["mine", str(home / "mine.json"), str(home / "images")]
    DatasetCatalog.pop("mine", None)
    MetadataCatalog.pop("mine", None)


@pytest.mark.parametrize("annotations", NAMES, indirect=True)
@pytest.mark.parametrize("checked_first", [0, 2**26])
def test_names_of_images_that_lead_elsewhere(annotations, monkeypatch, checked_first):
    """Also in files too large to be checked before they are loaded."""
    monkeypatch.setattr("convmae_det.data.detection.catalog.CHECKED_FIRST", checked_first)
    cfg = read_config(
        "", ["DATASETS.COCO_FORMAT", str([annotations]), "DATASETS.TRAIN", "('mine',)", "DATASETS.TEST", "()"]
    )
    for load in (
        lambda: load_dataset_dicts("mine", is_train=True, cfg=cfg),
        lambda: load_dataset_dicts("mine", is_train=False, cfg=cfg),
        lambda: list_image_names("mine", cfg),
    ):
        with pytest.raises(InputError, match="mine.json: image 2 .*(is outside the image folder|outside the folder)"):
            load()


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_decompression_bombs(tmp_path, mode):
    path = tmp_path / "bomb.png"
    Image.new(mode, (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (30000).to_bytes(4, "big") * 2  # the size in the header; its checksum is made anew
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bomb.png is too large.*900000000 pixels.*exceeds limit of \d+ pixels"):
        read_image(path)
