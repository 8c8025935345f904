"""The two exceptions whose message is all that a user needs to see, and how others are put into one line."""


class Sentence(Exception):
    """Its text has no control characters, which a stranger's file may have put into a name or value.

    They, and bytes that are no UTF-8, are escaped, so that nothing but text reaches the terminal.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


class InputError(Sentence, ValueError):
    """A file, key or value from the user that can't be used.

    The message is one sentence that names the file or key, says what is wrong and what to do. The scripts print it
    without a traceback and exit with status 1; library callers can catch it as a ``ValueError``.
    """


class TrainingError(Sentence, ArithmeticError):
    """Training can't go on: a loss or gradient is not finite. The scripts treat it as they treat an InputError."""


def one_line(error: Exception | str) -> str:
    """The first sentence of `error`, without what could be taken for the end of ours."""
    line = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".: ")
    return line[:120] or type(error).__name__
