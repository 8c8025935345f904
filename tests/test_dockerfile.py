"""The Dockerfile takes the steps that the documentation names, from files that it has, and ends as no superuser.

Without Docker none of them is run here; tests/slow/test_wheel.py takes the same steps.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reference.packages import succeed

from convmae_det.cli.main import COMMANDS
from convmae_det.installation import read_minimums

ROOT = Path(__file__).parents[1]
FILE = ROOT / "Dockerfile"


@pytest.fixture(scope="module")
def steps():
    """Pairs of an instruction and its words, in order."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, shlex.split(rest)) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_it_ends_as_a_user_without_rights(steps):
    (user,) = (words[0] for word, words in steps if word == "USER")
    last_run = max(number for number, (word, _) in enumerate(steps) if word == "RUN")
    assert int(user) > 1000 and steps[last_run][1][:4] == ["useradd", "--create-home", "--uid", user]


def test_its_program_is_the_command_and_by_itself_it_says_what_it_has(steps):
    last = dict(steps)
    assert last["ENTRYPOINT"] == ["[convmae-det]"] and last["CMD"] == ["[doctor]"] and "doctor" in COMMANDS
    assert last["HEALTHCHECK"][-3:] == ["CMD", "[convmae-det,", "doctor]"]


def test_it_installs_what_the_documentation_names(steps):
    runs = [" ".join(words) for word, words in steps if word == "RUN"]
    assert "convmae-det install-detectron2" in runs
    assert "convmae-det install-detectron2" in (ROOT / "docs/index.md").read_text()
    (torch,) = (run for run in runs if "torchvision" in run)
    for name, version in re.findall(r"(\w+)>=([\d.]+)", torch):
        assert read_minimums()[name] == version


def test_its_context_is_enough_to_build_the_wheel(steps, tmp_path):
    """Of the project it has what .dockerignore lets through."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        source = ROOT / line.removeprefix("!")
        if source.is_dir():
            shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif line.startswith("!"):
            shutil.copy(source, tmp_path)
    (build,) = (words[words.index("&&") + 1 :] for word, words in steps if word == "RUN" and "--wheel" in words)
    program, *words = [word.replace("/dist", str(tmp_path / "dist")) for word in build]
    assert program == "python"
    succeed([sys.executable, *words, "--no-isolation"], cwd=tmp_path)
    assert len(list(tmp_path.glob("dist/convmae_det-*.whl"))) == 1


def test_hadolint_has_nothing_to_say():
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
