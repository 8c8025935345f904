"""The last screen of the demonstration: what it advises works, and tests on other images than it trains on."""

import json
import re
from pathlib import Path

import pytest
import yaml

from convmae_det.cli import demo_summary
from convmae_det.cli.main import COMMANDS
from convmae_det.data.configuration import read_config
from convmae_det.data.shapes import write_shapes
from convmae_det.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def advice(tmp_path, monkeypatch, capsys, catalog):
    """What is printed, in a folder with a demonstration, the configurations, and data as the advice assumes them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo/mask_rcnn").mkdir(parents=True)
    (tmp_path / "demo/mask_rcnn/metrics.json").write_text(
        json.dumps({"iteration": 1, "total_loss": 1.0, "bbox/AP": 12.34, "segm/AP": 5.67}) + "\n"
    )
    (tmp_path / "demo/report.html").touch()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    write_shapes(tmp_path / "shapes", train=2, val=2, size=64)
    for name in ("train", "val"):
        (tmp_path / f"shapes/annotations/instances_{name}.json").rename(f"{name}.json")
    (tmp_path / "shapes/train").rename("photos")
    demo_summary.main(["demo"])
    return capsys.readouterr().out


def test_the_advice_trains_and_tests_on_different_images(advice):
    assert "box AP of 12.3 and a mask AP of 5.7" in advice
    (text,) = re.findall(r"^  _BASE_.*?\n\n", advice, re.MULTILINE | re.DOTALL)
    written = yaml.safe_load("\n".join(line.removeprefix("  ") for line in text.splitlines()))
    Path("mine.yaml").write_text(yaml.safe_dump(written))
    cfg = read_config("mine.yaml")
    files = {name: file for name, file, *_ in cfg.DATASETS.COCO_FORMAT}
    trained, tested = ({files[name] for name in names} for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST))
    assert (trained, tested) == ({"train.json"}, {"val.json"})
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == len(cfg.DATASETS.CATEGORIES) > 0


def test_the_advice_names_commands_and_files_that_belong_together(advice):
    commands = re.findall(r"^  \d\. \S+ (\S+) --config-file (\S+)", advice, re.MULTILINE)
    assert [file for _, file in commands] == ["mine.yaml", "mine.yaml", "output/mine/config.yaml"]
    assert {command for command, _ in commands} <= COMMANDS.keys()


def test_the_last_line_is_the_address_of_the_report(advice):
    assert advice.splitlines()[-1].endswith(Path("demo/report.html").resolve().as_uri())


def test_a_demonstration_that_was_not_evaluated(tmp_path):
    (tmp_path / "mask_rcnn").mkdir()
    (tmp_path / "mask_rcnn/metrics.json").write_text('{"iteration": 1, "total_loss": 1.0}\n')
    with pytest.raises(InputError, match="has not been evaluated: run make demo to its end"):
        demo_summary.main([str(tmp_path)])
