"""What a release consists of says the same everywhere: one version, one name, and notes for it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from convmae_det import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(path: str | Path) -> dict:
    return yaml.safe_load((ROOT / path).read_text())


def commands(workflow: Path) -> list[str]:
    return [step["run"] for job in read(workflow)["jobs"].values() for step in job["steps"] if "run" in step]


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == __version__ and citation["type"] == "software"
    (paper,) = citation["references"]
    assert paper["url"] == "https://arxiv.org/abs/2205.03892"


def test_versions_of_the_change_log_fall():
    versions = re.findall(r"^## ([\d.]+), \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert versions[0] == __version__ and numbers == sorted(set(numbers), reverse=True)


def test_the_notes_of_a_release_are_its_section_of_the_change_log(tmp_path):
    """By the command of the workflow."""
    (extract,) = (line for line in commands(ROOT / ".github/workflows/release.yml") if "CHANGELOG.md >" in line)
    command = extract.replace("CHANGELOG.md", str(ROOT / "CHANGELOG.md"))
    subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=os.environ | {"GITHUB_REF_NAME": f"v{__version__}"}, check=True
    )
    notes = (tmp_path / "notes.md").read_text()
    assert "### Added" in notes and not re.search("^## ", notes, re.MULTILINE)
    assert notes.strip() in (ROOT / "CHANGELOG.md").read_text()


def test_the_check_of_the_tag_knows_where_the_version_stands(tmp_path):
    (check,) = (text for text in commands(ROOT / ".github/workflows/release.yml") if "version=$(sed" in text)
    for tag, status in ((f"v{__version__}", 0), ("v0.0.1", 1)):
        environment = os.environ | {"GITHUB_REF_NAME": tag}
        assert subprocess.run(["bash", "-e", "-c", check], cwd=ROOT, env=environment).returncode == status


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_files_and_targets_that_a_workflow_names_exist(workflow):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(workflow):
        assert set(re.findall(r"^make ([a-z-]+)", command)) <= targets
        for path in re.findall(r"(?:\.ci|tests|docs)/[\w/.]+", command):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_why(workflow):
    content = read(workflow)
    assert content["permissions"] == {"contents": "read"}
    granted = {name for name, job in content["jobs"].items() if "permissions" in job}
    assert granted <= {"publish", "notes", "deploy"}


def test_a_report_of_a_bug_asks_for_the_doctor():
    fields = {field["id"]: field for field in read(".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert (
        "convmae-det doctor" in fields["doctor"]["attributes"]["label"] and fields["doctor"]["validations"]["required"]
    )
