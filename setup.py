"""Adds to setup.cfg what it can't say: configs/ is installed as convmae_det.configs; links on PyPI lead somewhere."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

# GitHub's workflows say where the project lies; elsewhere links stay as they are, for nobody but pip reads them.
REPOSITORY, VERSION = os.environ.get("GITHUB_REPOSITORY", ""), os.environ.get("GITHUB_REF_NAME", "main")
ADDRESS = f"https://github.com/{REPOSITORY}"
PICTURES = f"https://raw.githubusercontent.com/{REPOSITORY}"


def read_description() -> str:
    """README.md; its links to files of the project, of which PyPI has none, lead into the repository."""
    text = Path("README.md").read_text(encoding="utf-8")
    relative = r'(\]\(|\b(?:src|srcset|href)=")(?![\w+]+:|#)([^)"\s]+)'
    return re.sub(relative, lambda found: found[1] + make_absolute(found[2]), text) if REPOSITORY else text


def make_absolute(link: str) -> str:
    picture = Path(link).suffix in (".gif", ".jpg", ".png", ".svg", ".webp")
    return f"{PICTURES}/{VERSION}/{link}" if picture else f"{ADDRESS}/blob/{VERSION}/{link}"


setup(
    packages=[*find_packages(include=["convmae_det", "convmae_det.*"]), "convmae_det.configs"],
    package_dir={"convmae_det.configs": "configs"},
    package_data={
        "convmae_det": ["py.typed"],
        "convmae_det.configs": ["*.yaml", "*/*.yaml"],
        "convmae_det.report": ["templates/*"],
    },
    long_description=read_description(),
    project_urls={"Source": ADDRESS, "Changes": f"{ADDRESS}/blob/main/CHANGELOG.md"} if REPOSITORY else {},
)
