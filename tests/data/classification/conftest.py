"""Images of three colours, and a classifier of them."""

from functools import partial

import pytest
from reference.colours import build_colours_cfg, write_colours


@pytest.fixture(scope="session")
def colours_folder(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture
def colours_cfg(colours_folder, tmp_path):
    """``colours_cfg(KEY, value, …)``"""
    return partial(build_colours_cfg, colours_folder, tmp_path / "out")
