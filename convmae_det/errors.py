"""The two exceptions whose message is all that a user needs to see."""


class InputError(ValueError):
    """A file, key or value from the user that can't be used.

    The message is one sentence that names the file or key, says what is wrong and what to do. The scripts print it
    without a traceback and exit with status 1; library callers can catch it as a ``ValueError``.
    """


class TrainingError(ArithmeticError):
    """Training can't go on: a loss or gradient is not finite. The scripts treat it as they treat an InputError."""
