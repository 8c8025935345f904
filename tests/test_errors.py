"""What a message may hold."""

import pytest

from convmae_det.errors import InputError, TrainingError


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_messages_hold_text_alone(kind):
    """Names and values from a stranger's file can't move the cursor, and can always be printed."""
    message = str(kind("a\x1b[31m.jpg \udcff\r über 日本\n  second line"))
    assert message == "a\\x1b[31m.jpg \\udcff\\r über 日本\n  second line"
    message.encode()


def test_library_callers_catch_them_as_pythons_own():
    assert issubclass(InputError, ValueError) and issubclass(TrainingError, ArithmeticError)
