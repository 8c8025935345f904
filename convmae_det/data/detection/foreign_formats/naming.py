"""The names of classes: lists of them in files, and which of them have which id."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ....errors import InputError
from .reading import read_lines, report_file


def read_names(path: Path) -> list[str]:
    """Reads names of classes, one a line.

    Raises:
        InputError: the file can't be read, or names a class twice or none.
    """
    with report_file(path, "a list of the names of classes, one a line"):
        names = read_lines(path)
    if not names:
        raise InputError(f"{path} names no class: write their names, one a line")
    check_distinct(names, path)
    return names


def check_distinct(names: Iterable[str], path: Path | str) -> None:
    """Checks that no two classes named in `path` have the same name.

    Raises:
        InputError: two have.
    """
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise InputError(f"{path} can't be converted: {count} classes are called {name!r}; rename all but one")
