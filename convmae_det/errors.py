"""The two exceptions whose message is all that a user needs to see; other errors and lists shortened for a sentence."""

from collections.abc import Sequence


class PrintableError(Exception):
    """An exception whose text is safe to print on a terminal.

    Names and values from a file may contain control characters or bytes that are not UTF-8; these are escaped.
    """

    def __str__(self) -> str:
        return make_printable(super().__str__())


class InputError(PrintableError, ValueError):
    """A file, key or value from the user that can't be used.

    The message is one sentence that names the file or key, says what is wrong and what to do. The scripts print it
    without a traceback and exit with status 1; library callers can catch it as a ``ValueError``.
    """


class TrainingError(PrintableError, ArithmeticError):
    """Training can't continue: a loss or gradient is not finite. The scripts treat it like an InputError."""


def make_printable(text: str) -> str:
    """Escapes what is neither printable nor the end of a line."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def shorten_error(error: Exception | str) -> str:
    """Returns the first sentence of `error`, without a full stop or colon at its end, at most 120 characters."""
    line = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".: ")
    return line[:120] or type(error).__name__


def shorten_list(values: Sequence[object], shown: int = 5) -> str:
    """Lists the first few values for a sentence."""
    return ", ".join(map(str, values[:shown])) + (", …" if len(values) > shown else "")
