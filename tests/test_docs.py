"""The documentation is true: its commands run, its links lead somewhere, and the keys that it names exist.

Blocks marked ``sh cpu`` and ``python cpu`` are run: those of a page in one folder, in which the project's files and the
results of a demonstration lie; first its commands in their order, then its Python as one program.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from convmae_det.cli.main import COMMANDS
from convmae_det.config import add_convmae_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w+)( cpu)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ["bash", "-eu", "-o", "pipefail"]
SOURCES = (
    "configs",
    "convmae_det",
    "docs",
    "examples",
    "tools",
    "train_net.py",
    "pretrain_net.py",
    "README.md",
    "setup.cfg",
)

# A demonstration of seconds, in place of that of `make demo`.
DEMONSTRATION = """
convmae-det shapes datasets/shapes --train 16 --val 4
convmae-det pretrain --config-file configs/quickstart/pretrain_convmae_tiny_shapes.yaml \
    SOLVER.MAX_ITER 2 OUTPUT_DIR output/quickstart/pretrain
convmae-det train --config-file configs/quickstart/mask_rcnn_convmae_tiny_shapes.yaml \
    SOLVER.MAX_ITER 2 OUTPUT_DIR output/quickstart/mask_rcnn
"""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """What is marked to be run."""
    return [text for kind, cpu, text in BLOCK.findall(page.read_text()) if kind == language and cpu]


@pytest.fixture(scope="module")
def run_in(python, tmp_path_factory):
    """``run_in(folder, program, text)`` runs `text`, given to the `program`, or shows what it said when it failed."""
    command = tmp_path_factory.mktemp("bin") / "convmae-det"
    command.write_text('#!/bin/sh\nexec python -m convmae_det "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), str(Path(python).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "DETECTRON2_DATASETS": "datasets"}

    def run_in(folder: Path, program: list[str], text: str) -> None:
        streams = {"input": text, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(program, cwd=folder, env=environment, text=True, **streams)
        assert done.returncode == 0, done.stdout[-6000:]

    return run_in


@pytest.fixture(scope="module")
def demonstration(run_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstration")
    link_sources(folder)
    run_in(folder, SHELL, DEMONSTRATION)
    return folder


def link_sources(folder: Path) -> None:
    for source in SOURCES:
        (folder / source).symlink_to(ROOT / source)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh") or blocks(page, "python")], ids=name)
def test_commands_run(page, demonstration, run_in, tmp_path):
    commands, programs = blocks(page, "sh"), blocks(page, "python")
    link_sources(tmp_path)
    for results in ("datasets", "output"):
        shutil.copytree(demonstration / results, tmp_path / results)
    if commands:
        run_in(tmp_path, SHELL, "set -x\n" + "\n".join(commands))
    if programs:
        run_in(tmp_path, ["python", "-"], "\n".join(programs))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sections_that_are_linked_to_exist(page):
    for target, section in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
        if "://" not in target:
            text = (page.parent / target if target else page).read_text()
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_in_commands_exist(page):
    pattern = r"\b((?:configs|tools|convmae_det|tests|docs)/[\w/.-]+\.(?:py|yaml|md|slurm)|\w+_net\.py)\b"
    for path in re.findall(pattern, page.read_text()):
        assert (ROOT / path).exists(), f"{name(page)} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page):
    """In blocks, and where the text names one."""
    named = set(re.findall(r"(?:^ *|`)convmae-det ([a-z]\S*?)(?=`|\s)", page.read_text(), re.MULTILINE))
    assert named <= COMMANDS.keys()


def known_keys(node, prefix="") -> set[str]:
    keys = set()
    for key, value in node.items():
        keys |= {prefix + key} | (known_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else set())
    return keys


@pytest.fixture(scope="module")
def keys():
    cfg = get_cfg()
    add_convmae_config(cfg)
    return known_keys(cfg)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_exist(page, keys):
    named = set(re.findall(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)(?:\.[A-Z0-9_]+)+", page.read_text()))
    assert named <= keys
