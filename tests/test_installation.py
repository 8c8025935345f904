"""Each trap of an installation is told apart and gets its fix; the facts are those of this machine."""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from convmae_det import installation

SCRIPT = Path(__file__).parents[1] / "tools/doctor.py"

HEALTHY = installation.Facts(
    python=(3, 12),
    minimums={"torch": "2.6", "torchvision": "0.21", "timm": "1.0", "yacs": "0.1.8"},
    versions={
        "torch": "2.15.0",
        "torchvision": "0.29.2",
        "timm": "1.0.31",
        "yacs": "0.1.8",
        "numpy": "2.4.6",
        "pillow": "13.0.0",
        "pycocotools": "2.0.11",
    },
    gpus=("NVIDIA H100",),
    cuda_of_torch="13.2",
    cuda_of_toolkit="13.0",
    cuda_works=True,
)


def without(name):
    return {"versions": {key: value for key, value in HEALTHY.versions.items() if key != name}}


def with_version(name, version):
    return {"versions": HEALTHY.versions | {name: version}}


def failing(**reasons):
    return {"failures": reasons}


MULTIARRAY = "ValueError: numpy.dtype size changed, may indicate binary incompatibility"
NO_NMS = "RuntimeError: operator torchvision::nms does not exist"

# check, what is wrong, what its sentence says
TRAPS = [
    (installation.old_python, {"python": (3, 9)}, "PYTHON=python3.12"),
    (installation.missing_or_old_packages, without("yacs"), "missing: yacs; run `make setup` in a clone"),
    (
        installation.missing_or_old_packages,
        with_version("torch", "2.5.1+cu124"),
        r"torch 2\.5\.1\+cu124 \(needs 2\.6\)",
    ),
    (installation.missing_or_old_packages, with_version("timm", "0.3.2"), r"timm 0\.3\.2 \(needs 1\.0\).*make setup"),
    (
        installation.broken_torch,
        failing(torch="OSError: libcudart.so.13: cannot open"),
        "libcudart.*force-reinstall torch",
    ),
    (installation.mismatched_torchvision, failing(torchvision=NO_NMS), "nms does not exist.*same build"),
    (installation.mismatched_pycocotools, failing(pycocotools=MULTIARRAY), "binary.*force-reinstall.*pycocotools"),
    (
        installation.broken_detectron2,
        failing(detectron2="ModuleNotFoundError: No module named 'detectron2'"),
        "missing: run `convmae-det install-detectron2`",
    ),
    (
        installation.broken_detectron2,
        failing(detectron2="AttributeError: module 'PIL.Image' has no attribute 'LINEAR'"),
        "too old for the installed Pillow.*pip uninstall detectron2",
    ),
    (installation.broken_detectron2, failing(detectron2="ImportError: anything else"), "ImportError: anything else"),
    (installation.broken_project, failing(convmae_det="SyntaxError: invalid syntax"), "SyntaxError.*git status"),
    (
        installation.missing_compiled_part,
        {"failures": {"detectron2._C": "ImportError: cannot import name '_C'"}},
        "rotated boxes.*deformable.*--source",
    ),
    (installation.missing_pkg_resources, {"pkg_resources": False}, "model_zoo.*setuptools<82"),
    (
        installation.cpu_torch_beside_gpu,
        {"cuda_of_torch": None, "cuda_works": False},
        "H100.*built for the CPU.*reinstall",
    ),
    (installation.old_driver, {"cuda_works": False}, r"CUDA 13\.2.*driver"),
    (installation.mismatched_toolkit, {"cuda_of_toolkit": "12.8"}, r"12\.8.*13\.2.*CUDA_HOME"),
]


@pytest.mark.parametrize(("check", "wrong", "sentence"), TRAPS)
def test_each_trap_is_detected_and_only_where_it_is(check, wrong, sentence):
    facts = replace(HEALTHY, **wrong)
    assert re.search(sentence, check(facts))
    assert [other for other in installation.PROBLEMS + installation.NOTES if other(facts)] == [check]


def test_every_check_is_tried():
    assert {check for check, _, _ in TRAPS} == {*installation.PROBLEMS, *installation.NOTES}


def test_a_healthy_machine_gets_no_sentence():
    assert not any(check(HEALTHY) for check in installation.PROBLEMS + installation.NOTES)


def test_one_cause_gives_one_problem():
    """Without torch nothing else imports, and that is not to be told five times."""
    reasons = dict.fromkeys(installation.PROBES, "ModuleNotFoundError: No module named 'torch'")
    del reasons["pycocotools"]
    facts = replace(HEALTHY, failures=reasons, **without("torch"))
    assert [check for check in installation.PROBLEMS if check(facts)] == [installation.missing_or_old_packages]


def test_the_fix_of_torchvision_keeps_the_build_of_torch():
    facts = replace(HEALTHY, failures={"torchvision": NO_NMS}, **with_version("torch", "2.13.0+cpu"))
    assert "--index-url https://download.pytorch.org/whl/cpu" in installation.mismatched_torchvision(facts)


@pytest.mark.parametrize(
    ("older", "newer"), [("2.5.1+cu124", "2.6"), ("0.9.16", "1.0"), ("2.9.0", "2.10.0a0+git"), ("0.1.5", "0.1.5.post1")]
)
def test_release_orders_versions(older, newer):
    assert installation.parse_release(older) <= installation.parse_release(newer)
    assert not installation.parse_release(newer) < installation.parse_release(older)


@pytest.mark.parametrize("clone", [True, False])
def test_required_versions_come_from_the_clone_or_from_what_was_installed(monkeypatch, tmp_path, clone):
    if not clone:
        monkeypatch.setattr(installation, "ROOT", tmp_path)
        monkeypatch.setattr(installation, "find_version", lambda name: "1.0")
        requirements = ["torch>=2.6", "omegaconf<2.4,>=2.1", "fvcore>=0.1", "pycocotools>=2.0.8"]
        requirements += [
            'hypothesis>=6.100; extra == "dev"',
            'detectron2>=1; extra == "dev"',
            "onnx>=1.16;extra=='onnx'",
        ]
        monkeypatch.setattr(installation.importlib.metadata, "requires", lambda name: requirements)
    minimums = installation.read_minimums()
    assert minimums["torch"] == "2.6"
    assert {"omegaconf", "fvcore", "pycocotools"} <= minimums.keys()
    for module in ("hypothesis", "detectron2", "onnx"):
        assert module not in minimums
    assert installation.read_minimums("onnx")["onnx"] == "1.16"


def test_failure_of_turns_whatever_is_raised_into_one_line():
    def broken():
        raise AttributeError("first line\nsecond line")

    assert installation.find_failure(broken) == "AttributeError: first line"
    assert installation.find_failure(lambda: None) is None


# --- extras


def test_each_extra_for_users_is_described():
    setup_cfg = configparser.ConfigParser()
    setup_cfg.read(installation.ROOT / "setup.cfg")
    assert installation.EXTRAS.keys() == set(setup_cfg["options.extras_require"]) - {"dev", "docs"}


@pytest.mark.parametrize("version", [None, "1.9.1", "2.0"])
def test_an_extra_is_there_or_says_what_it_would_give(monkeypatch, version):
    monkeypatch.setattr(installation, "read_minimums", lambda extra: {"gadget": "2.0"})
    monkeypatch.setattr(installation, "find_version", lambda name: version)
    line = installation.describe_extra("fun", "a picture of it")
    missing = "fun: not there; `pip install 'convmae_det[fun]'` brings a picture of it"
    assert line == ("fun: gadget 2.0" if version == "2.0" else missing)


# --- data sets


def test_data_sets_says_which_parts_of_coco_are_there(tmp_path):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/annotations/instances_val2017.json").touch()
    (tmp_path / "coco/val2017").mkdir()
    for index in range(3):
        (tmp_path / f"coco/val2017/{index}.jpg").touch()
    (tmp_path / "shapes/annotations").mkdir(parents=True)
    (tmp_path / "not_a_data_set").mkdir()
    coco, shapes = installation.describe_data_sets(tmp_path)
    assert "instances_val2017.json" in coco and "val2017 3 images" in coco
    assert "instances_train2017.json MISSING" in coco and "train2017 0 images" in coco
    assert "shapes" in shapes


def test_data_sets_names_what_is_not_there(tmp_path):
    assert list(installation.describe_data_sets(tmp_path)) == [f"{tmp_path / 'coco'}: missing"]
    (line,) = installation.describe_data_sets(tmp_path / "nowhere")
    assert "nowhere" in line and "DETECTRON2_DATASETS" in line


# --- the script


def test_a_python_that_is_too_old_gets_its_sentence():
    """Postponed annotations alone let it import the module, which would end at the first `str | None`."""
    ast.parse(Path(installation.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    assert installation.old_python.__annotations__["return"] == "str | None"


def run_doctor(python=sys.executable, script=SCRIPT, **environment):
    return subprocess.run([python, script], env=os.environ | environment, capture_output=True, text=True)


def test_the_project_can_run_here(python, tmp_path):
    run = run_doctor(python, DETECTRON2_DATASETS=str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("Python", "torch", "torchvision", "Detectron2", "timm", "numpy", "pillow", "pycocotools", "device"):
        assert re.search(rf"^{name} +\S", run.stdout, re.MULTILINE), name
    assert "problem:" not in run.stdout and "CPU, " in run.stdout


def hide(folder: Path, *modules: str) -> str:
    """A PYTHONPATH on which ``modules`` are missing."""
    for module in modules:
        (folder / f"{module}.py").write_text(
            f'raise ModuleNotFoundError("No module named {module!r}", name={module!r})\n'
        )
    return str(folder)


def test_without_detectron2_it_says_how_to_install_it(python, tmp_path):
    run = run_doctor(python, PYTHONPATH=hide(tmp_path, "detectron2"))
    assert run.returncode == 1
    assert re.search("problem: Detectron2 is missing.*install-detectron2.*make setup", run.stdout)


def test_it_works_where_everything_is_broken(tmp_path):
    run = run_doctor(PYTHONPATH=hide(tmp_path, "torch", "torchvision", "numpy", "pycocotools", "yacs", "PIL"))
    assert run.returncode == 1 and not run.stderr
    assert "problem: torch does not import" in run.stdout


def test_it_works_where_the_package_is_broken(tmp_path):
    """Of a clone, only the script and the module that it runs are whole."""
    for path in (SCRIPT, Path(installation.__file__)):
        copy = tmp_path / path.relative_to(installation.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "convmae_det/__init__.py").write_text("not Python")
    environment = {"PYTHONPATH": hide(tmp_path, "torch", "torchvision", "pycocotools", "detectron2")}
    run = run_doctor(script=tmp_path / SCRIPT.relative_to(installation.ROOT), **environment)
    assert run.returncode == 1 and "problem: " in run.stdout and not run.stderr
    assert run.stdout.endswith("convmae_det can't run here: see the problems above.\n")


def test_the_command_is_the_same(python, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(installation.ROOT)}
    command = [python, "-m", "convmae_det", "doctor"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == run_doctor(python).stdout


def test_detectron2_comes_from_a_distribution_a_build_or_a_stray_folder(monkeypatch, tmp_path):
    def install(name, **direct_url):
        distribution = SimpleNamespace(
            version="1", read_text=lambda file: json.dumps(direct_url), locate_file=lambda path: tmp_path / path
        )
        monkeypatch.setattr(installation, "find_version", lambda wanted: "1" if wanted == name else None)
        monkeypatch.setattr(installation.importlib.metadata, "distribution", {name: distribution}.get)

    install("sal-detectron2")
    assert installation.find_origin_of_detectron2(tmp_path / "detectron2") == "from the distribution sal-detectron2 1"
    assert installation.find_origin_of_detectron2(tmp_path / "elsewhere") == "from that folder"
    install("detectron2", url="git+https://host/detectron2.git")
    assert (
        installation.find_origin_of_detectron2(tmp_path / "detectron2") == "built from git+https://host/detectron2.git"
    )
