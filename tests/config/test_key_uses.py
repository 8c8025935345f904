"""Every key is obeyed, or refused in a sentence: none that a user sets does nothing in silence."""

import importlib.util
import re
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import yacs.config
from config.key_uses import DETECTRON2, OTHERS, REFUSED, list_keys
from detectron2.modeling import DatasetMapperTTA, build_model
from detectron2.solver import build_lr_scheduler
from reference.small import autoencoder_cfg, detector_cfg

from convmae_det.config.checks.training import check_fine_tuning, check_pretraining
from convmae_det.config.reading import flatten_keys, read_yaml
from convmae_det.config.unused import PARTS, UNUSED, UNUSED_WITH_CONVMAE, find_idle_keys
from convmae_det.data.configuration import read_config
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.errors import InputError

DEFAULTS = dict(flatten_keys(read_config("")))
NOT_READ = UNUSED | UNUSED_WITH_CONVMAE
CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").rglob("*.yaml") if path.parent.name != "studies"
)


def test_every_key_stands_in_the_table_once():
    """A key that is new, ours or Detectron2's, belongs into key_uses.py or config/unused.py, whichever is true."""
    listed = [key for _, key in list_keys(DETECTRON2) + list_keys(OTHERS)] + [*NOT_READ, *REFUSED]
    assert sorted(listed) == sorted(DEFAULTS)


@pytest.mark.parametrize("module, key", list_keys(DETECTRON2) + list_keys(OTHERS))
def test_its_reader_names_it(module, key):
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    assert re.search(rf"\b{key.rpartition('.')[2]}\b", source)


@pytest.fixture(scope="module")
def read():
    """The keys that modules read while all that Detectron2 builds for us is built, as (module, key)."""
    found, paths = set(), {}
    original = yacs.config.CfgNode.__getattr__

    def get(node, name):
        value = original(node, name)
        found.add((sys._getframe(1).f_globals["__name__"], f"{paths.get(id(node), '?')}{name}"))
        return value

    def record(cfg, build):
        def name_nodes(node, path):
            paths[id(node)] = path
            for name, value in node.items():
                if isinstance(value, dict):
                    name_nodes(value, f"{path}{name}.")

        name_nodes(cfg, "")
        build(cfg)
        kept.append(cfg)  # lest another takes its place in memory

    def build_scheduler(cfg):
        cfg.SOLVER.MAX_ITER = 9
        build_lr_scheduler(cfg, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))

    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yacs.config.CfgNode, "__getattr__", get)
        record(detector_cfg("MODEL.KEYPOINT_ON", True), build_model)
        cascade = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
        record(detector_cfg(*cascade), build_model)
        record(detector_cfg("MODEL.META_ARCHITECTURE", "PanopticFPN"), build_model)
        record(detector_cfg("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False), build_model)
        for is_train in (True, False):
            record(detector_cfg(), lambda cfg, is_train=is_train: DetectionMapper(cfg, is_train))
        record(detector_cfg(), DatasetMapperTTA)
        for scheduler in ("WarmupMultiStepLR", "WarmupCosineLR"):
            record(detector_cfg("SOLVER.LR_SCHEDULER_NAME", scheduler), build_scheduler)
    return found


@pytest.mark.parametrize("module, key", list_keys(DETECTRON2))
def test_detectron2_reads_it(read, module, key):
    assert (module, key) in read


# Keys that nothing reads


def change(value):
    """Another value of the same type."""
    match value:
        case None:
            return 1.0
        case bool():
            return not value
        case str():
            return f"{value}x"
        case list() | tuple():
            return type(value)([*value, *(value[:1] or ["a"])])
    return value + 1


def put(cfg, key, value):
    node, _, name = key.rpartition(".")
    (attrgetter(node)(cfg) if node else cfg)[name] = value


@pytest.mark.parametrize("key", [*NOT_READ, *REFUSED])
def test_a_key_that_nothing_reads_is_refused_once_it_is_changed(key):
    cfg = detector_cfg()
    put(cfg, key, change(DEFAULTS[key]))
    with pytest.raises(InputError, match=rf"^{re.escape(key)} is .*; it must (stay|be) "):
        check_fine_tuning(cfg, 1)


@pytest.mark.parametrize("key", NOT_READ)
def test_it_is_refused_in_pretraining_too(key):
    cfg = autoencoder_cfg()
    put(cfg, key, change(DEFAULTS[key]))
    with pytest.raises(InputError, match=rf"^{re.escape(key)} is "):
        check_pretraining(cfg, 1)


@pytest.mark.parametrize("form", [lambda value: value, lambda value: list(value) if type(value) is tuple else value])
def test_its_default_may_be_stated(form):
    """As the config.yaml of a run does, which has every key."""
    for make, check in ((detector_cfg, check_fine_tuning), (autoencoder_cfg, check_pretraining)):
        cfg = make()
        for key, (values, _) in NOT_READ.items():
            assert values[0] == DEFAULTS[key]
            put(cfg, key, form(values[0]))
        check(cfg, 1)


def test_a_sentence_names_no_key_that_does_not_exist():
    for _, reason in NOT_READ.values():
        for key in re.findall(r"\b(?:MODEL|SOLVER|INPUT|TEST)\.[A-Z_.]+", reason):
            assert any(known == key or known.startswith(f"{key}.") for known in DEFAULTS), key


def test_another_backbone_may_read_its_own_keys():
    cfg = detector_cfg("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 101)
    check_fine_tuning(cfg, 1)


# Keys that others switch off


@pytest.mark.parametrize("beginnings, other, needed", PARTS)
def test_a_key_that_another_switches_off_is_named(beginnings, other, needed):
    kind = type(DEFAULTS[other])
    assert all(isinstance(value, kind) for value in needed)
    changed = {key: change(value) for key, value in DEFAULTS.items() if key.startswith(beginnings) and key != other}
    assert changed and all(any(key.startswith(beginning) for key in DEFAULTS) for beginning in beginnings)
    off = next(value for value in (True, False, "another") if isinstance(value, kind) and value not in needed)

    def find(value):
        sentences = find_idle_keys(DEFAULTS | changed | {other: value}, DEFAULTS)
        parts = (sentence.partition(" is for ") for sentence in sentences)
        return {key for key, _, where in parts if where.startswith(f"{other} ")}

    assert find(off) == changed.keys()
    assert not any(map(find, needed))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_configuration_of_ours_sets_a_key_that_does_nothing(path):
    assert not list(find_idle_keys(DEFAULTS | dict(read_yaml(str(path))), DEFAULTS))
