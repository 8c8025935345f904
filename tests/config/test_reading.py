"""The project's own configurations by name, files that build on others, and a run's config.yaml."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from reference.small import autoencoder_cfg

from convmae_det.config.reading import (
    OURS,
    find_configs_folder,
    flatten_keys,
    locate_config,
    read_run_config,
    read_yaml,
)
from convmae_det.data.configuration import read_config
from convmae_det.errors import InputError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
NAMES = [
    path.relative_to(CONFIGS).as_posix() for path in sorted(CONFIGS.rglob("*.yaml")) if path.parent.name != "studies"
]
TINY = "mask_rcnn_convmae_tiny.yaml"


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True))
    return str(path)


# Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = dict(read_yaml(f"{OURS}{name}"))
    assert settings == dict(read_yaml(str(CONFIGS / name))) and len(settings) > 3
    own = write(tmp_path / "own.yaml", {"_BASE_": f"{OURS}{name}", "SEED": 11})
    assert dict(read_yaml(own)) == settings | {"SEED": 11}


def test_a_name_among_several_bases(tmp_path):
    write(tmp_path / "other.yaml", {"SEED": 5, "MODEL": {"CONVMAE": {"ARCH": "small"}}})
    for bases, arch in ([f"{OURS}{TINY}", "other.yaml"], "small"), (["other.yaml", f"{OURS}{TINY}"], "tiny"):
        cfg = read_config(write(tmp_path / "own.yaml", {"_BASE_": bases}))
        assert (cfg.MODEL.CONVMAE.ARCH, cfg.SEED) == (arch, 5)


def test_a_name_in_place_of_a_file():
    cfg = read_config(f"{OURS}{TINY}", ["SEED", "11"])
    assert (cfg.MODEL.CONVMAE.ARCH, cfg.SEED) == ("tiny", 11)


@pytest.mark.parametrize(
    "name, near",
    [
        ("mask_rcnn_convmae_tinny.yaml", TINY),
        ("mask_rcnn_convmae_tiny", TINY),
        ("mask_rcnn_convmae_tiny_shapes.yaml", "quickstart/mask_rcnn_convmae_tiny_shapes.yaml"),
        ("configs/mask_rcnn_convmae_b.yaml", "mask_rcnn_convmae_b.yaml"),
        ("qwertz", "upernet_convmae_s.yaml"),
        ("", "pretrain_convmae_b.yaml"),
    ],
)
def test_another_name_is_refused_with_near_ones(name, near, tmp_path):
    own = write(tmp_path / "own.yaml", {"_BASE_": f"{OURS}{name}"})
    for path in (f"{OURS}{name}", own):
        with pytest.raises(InputError, match=f"^{OURS}{name} is none of the project's configurations: .*{OURS}{near}"):
            list(read_yaml(path))


@pytest.mark.parametrize(
    "name",
    [
        "../setup.cfg",
        "../x.yaml",
        "quickstart/../mask_rcnn_convmae_b.yaml",
        "/etc/passwd",
        "~/x.yaml",
        "./mask_rcnn_convmae_b.yaml",
        "\\..\\x.yaml",
        "a\0b.yaml",
    ],
)
def test_a_name_does_not_lead_out_of_the_folder(name, tmp_path):
    (tmp_path / "home").mkdir()
    with pytest.raises(InputError, match="is none of the project's configurations"):
        list(read_yaml(f"{OURS}{name}"))
    own = write(tmp_path / "home/own.yaml", {"_BASE_": f"{OURS}{name}"})
    with pytest.raises(InputError, match="is none of the project's configurations"):
        list(read_yaml(own))


@given(st.text() | st.lists(st.sampled_from(["..", ".", "/", "quickstart", TINY, "~", "x.yaml"])).map("/".join))
@example(f"../configs/{TINY}")
@example(f"quickstart/../{TINY}")
def test_a_name_is_one_of_the_list_or_refused(name):
    try:
        path = locate_config(f"{OURS}{name}")
    except InputError:
        assert name not in NAMES
    else:
        assert name in NAMES and path == str(CONFIGS / name)


@given(st.text())
def test_other_paths_stay(path):
    assert path.startswith(OURS) or locate_config(path) == path


def test_a_clone_reads_its_own_files():
    """Also where the package of another clone, or of a release, is installed."""
    assert find_configs_folder() == CONFIGS


def test_an_installed_package_reads_those_that_came_with_it(tmp_path, python):
    """Also without Detectron2. Beside a package lie others, which may have a configs/, too."""
    package = tmp_path / "site/convmae_det"
    shutil.copytree(ROOT / "convmae_det", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONFIGS, package / "configs")
    (tmp_path / "site/configs").mkdir()
    write(tmp_path / "site/configs" / TINY, {"SEED": 1})
    own = write(tmp_path / "own.yaml", {"_BASE_": f"{OURS}{TINY}"})
    code = f"""import sys
sys.modules["detectron2"] = None
sys.path.insert(0, {str(tmp_path / "site")!r})
from convmae_det.config import reading
assert reading.__file__.startswith({str(package)!r})
print(reading.locate_config({OURS + TINY!r}))
print(dict(reading.read_yaml({own!r})) == {dict(read_yaml(str(CONFIGS / TINY)))!r})"""
    command = [python, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": ""})
    assert result.stdout.split() == [str(package / "configs" / TINY), "True"], result.stderr


# Files

KEYS = st.sampled_from(["SOLVER", "MODEL", "A", "B"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abcé: -#'", max_size=5)
TREES = st.recursive(
    st.dictionaries(KEYS, PLAIN | st.lists(PLAIN, max_size=3), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | PLAIN, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_a_file_gives_the_keys_that_were_written(tmp_path, tree):
    assert dict(read_yaml(write(tmp_path / "own.yaml", tree))) == dict(flatten_keys(tree))


@given(TREES, TREES)
def test_what_builds_on_nothing_or_on_itself_stays(tmp_path, tree, other):
    """Keys that the upper file has are the upper file's; all others are those of its base."""
    write(tmp_path / "base.yaml", other)
    own = write(tmp_path / "own.yaml", tree | {"_BASE_": "base.yaml"})
    upper, lower = dict(flatten_keys(tree)), dict(flatten_keys(other))
    try:
        merged = dict(read_yaml(own))
    except InputError as error:
        assert "is not made of nested keys in a _BASE_ of it" in str(error)
        return
    assert upper.items() <= merged.items()
    assert merged.keys() <= upper.keys() | lower.keys()
    assert all(merged[key] == lower[key] for key in merged.keys() - upper.keys())


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_is_read_or_refused(tmp_path, content):
    (tmp_path / "own.yaml").write_bytes(content)
    for read in (lambda path: list(read_yaml(path)), read_run_config):
        try:
            read(str(tmp_path / "own.yaml"))
        except InputError as error:
            assert "own.yaml" in str(error)


# config.yaml


def test_the_configuration_of_a_run_is_read_as_it_is(tmp_path):
    cfg = autoencoder_cfg("SOLVER.STEPS", (3, 5))
    again = read_run_config(write(tmp_path / "config.yaml", cfg.dump()))
    assert dict(flatten_keys(again)) == dict(flatten_keys(yaml.safe_load(cfg.dump())))


@pytest.mark.parametrize("change", ["_BASE_: other.yaml", "MODEL: 3", "MODEL: {CONVMAE: {ARCH: tiny}}"])
def test_what_is_not_the_configuration_of_a_run(tmp_path, change):
    with pytest.raises(InputError, match=r"config.yaml .*: take the config.yaml that a run wrote"):
        read_run_config(write(tmp_path / "config.yaml", change))
