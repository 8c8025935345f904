"""The site of the documentation: every page is in its navigation, links lead somewhere, and nothing is fetched."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NEEDED = ("sphinx", "furo", "myst_parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as a workflow of GitHub builds it; warnings are errors, as in `make docs`."""
    for module in NEEDED:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the extra docs is not installed: there is no {module}")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", folder / "doctrees", DOCS, folder]
    environment = os.environ | {"GITHUB_REPOSITORY": "owner/name"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path.stem: path.read_text() for path in site.glob("*.html")}


def test_every_page_is_in_the_navigation(pages):
    (tree,) = re.findall(r'<div class="sidebar-tree">(.*?)</div>', pages["index"], re.DOTALL)
    linked = set(re.findall(r'href="(\w+)\.html"', tree))
    assert linked == {path.stem for path in DOCS.glob("*.md")} - {"index"}


def test_commands_are_shown_as_commands(pages):
    """Those that the tests run, too: their info string is `sh cpu`."""
    assert pages["quickstart"].count('class="highlight-sh ') == (DOCS / "quickstart.md").read_text().count("\n```sh")


def test_nothing_is_fetched_from_elsewhere(pages):
    for page, text in pages.items():
        assert not re.findall(r'<(?:script|img|iframe|link rel="(?:stylesheet|preload)")[^>]*="(?:https?:)?//', text), (
            page
        )


def test_links_out_of_the_documentation_lead_into_the_repository(pages):
    assert "https://github.com/owner/name/blob/main/README.md" in pages["results"]
    assert "https://colab.research.google.com/github/owner/name/blob/main/docs/notebooks/" in pages["index"]
