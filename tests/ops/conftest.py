"""Tests run each form of an operation, whichever the machine would choose."""

import pytest

from convmae_det.ops import choice


@pytest.fixture
def force(monkeypatch):
    """force(linear="convolution") makes that form run from here on; force() leaves all to the rule."""

    def forced(**forms: str) -> None:
        assert all(form in choice.FORMS[operation] for operation, form in forms.items())
        monkeypatch.setattr(choice, "read_overrides", lambda: forms)

    forced()
    return forced
