"""The site of the documentation, by Sphinx, from the pages beside this file: `make docs`.

index.md lists all pages by section, and the navigation is taken from there.
"""

import os
import re

from sphinx.application import Sphinx

# GitHub's workflows say where the project lies; elsewhere there are no links out of docs/.
REPOSITORY = os.environ.get("GITHUB_REPOSITORY", "")
FILES = f"https://github.com/{REPOSITORY}/blob/main/"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/docs/"

project = "convmae_det"
copyright = "the authors of convmae_det, Apache License 2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links lead to titles, as on GitHub
html_theme = "furo"
html_title = project
html_copy_source = False
html_theme_options = (
    {"source_repository": f"https://github.com/{REPOSITORY}", "source_directory": "docs"} if REPOSITORY else {}
)
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]  # GitHub adds those of its pages later


def setup(app: Sphinx) -> None:
    app.connect("source-read", prepare_page)


def prepare_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Changes the text of a page, the one entry of `source`: links out of docs/ lead somewhere, the index navigates."""
    if REPOSITORY:
        source[0] = re.sub(r"\]\(\.\./", f"]({FILES}", source[0])
        source[0] = re.sub(r"\]\(([\w/]+\.ipynb)\)", rf"]({COLAB}\1)", source[0])
    else:
        source[0] = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", source[0])
    if page == "index":
        source[0] += list_navigation(source[0])


def list_navigation(index: str) -> str:
    """MyST's navigation of an index: its sections, each with the pages that it links to."""
    lists = []
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        pages = "\n".join(f"{name} <{page}>" for name, page in re.findall(r"\[(.*?)\]\((\w+)\.md\)", text))
        if pages:
            lists.append(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n{pages}\n```\n")
    return "".join(lists)
