"""The one exception for mistakes that the user can mend."""


class InputError(ValueError):
    """A file, key or value from the user that can't be used.

    The message is one sentence that names the file or key, says what is wrong and what to do. The scripts print it
    without a traceback and exit with status 1; library callers can catch it as a ``ValueError``.
    """
