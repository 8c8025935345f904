"""What the commands' parsers have in common: help from the module's docstring, with examples, and with defaults."""

import argparse
import itertools
import json
import os
import shlex
from collections.abc import Sequence

from ..errors import InputError

PROGRAM = "convmae-det"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves texts as they are, and shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.option_strings and action.nargs != 0 and action.default not in (None, "", [], argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text


def command_parser(command: str, docstring: str) -> argparse.ArgumentParser:
    """A parser without options.

    Args:
        command: as users type it
        docstring: of the command's module: a sentence; a paragraph of examples; and, after the options in the help,
            whatever else there is to know
    """
    parser = argparse.ArgumentParser()
    describe(parser, command, docstring)
    return parser


def describe(parser: argparse.ArgumentParser, command: str, docstring: str) -> None:
    """Gives a parser its texts; the arguments are those of :func:`command_parser`."""
    sentence, examples, *more = docstring.strip().split("\n\n")
    parser.prog = f"{PROGRAM} {command}"
    parser.formatter_class = HelpFormatter
    parser.description, parser.epilog = f"{sentence}\n\n{examples}", "\n\n".join(more) or None


def parse_training(command: str, docstring: str, arguments: list[str] | None) -> argparse.Namespace:
    """Parses Detectron2's usual arguments, for the programs that train; the others are those of :func:`command_parser`.

    Options may also follow the KEY VALUE pairs, where Detectron2 would take them for pairs: users add --resume or
    --eval-only at the end of a command.
    """
    from detectron2.engine import default_argument_parser  # the other commands can do without

    parser = default_argument_parser()
    describe(parser, command, docstring)
    options = {action.dest: action for action in parser._actions}
    options["resume"].help = "go on from the last checkpoint in OUTPUT_DIR"
    parser.add_argument(
        "--num-processes", type=int, metavar="N", help="train on the CPU, in N processes that share its cores"
    )
    pairs = options["opts"]
    pairs.nargs, pairs.default, pairs.metavar, pairs.help = "*", [], "KEY VALUE", "settings of the configuration"
    return parser.parse_intermixed_args(arguments)


def check_output_file(option: str, path: str, example: str, inputs: Sequence[str] = ()) -> None:
    """Checks that a file can be written where an option says, before long work.

    Args:
        option: as users type it
        path: what they have given; empty: no file
        example: a name for a file
        inputs: what is read, and not to be replaced; those that don't exist are no matter

    Raises:
        InputError: its folder doesn't exist, it is a folder, or one of the inputs.
    """
    if not path:
        return
    if not os.path.isdir(os.path.dirname(path) or os.curdir):
        raise InputError(f"{option} {path} can't be written, for its folder doesn't exist: make it first")
    if os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder: name a file in it, such as {example}")
    if any(_is_same_file(path, name) for name in inputs):
        raise InputError(f"{option} {path} would replace what is read: name another file")


def check_output_files(outputs: Sequence[tuple[str, str, str]], inputs: Sequence[str]) -> None:
    """Checks several files as :func:`check_output_file` does, and that they are different.

    Args:
        outputs: option, path and example of each
        inputs: as there

    Raises:
        InputError: as there, or two are the same.
    """
    for option, path, example in outputs:
        check_output_file(option, path, example, inputs)
    for (one, path, _), (other, second, _) in itertools.combinations(outputs, 2):
        if path and second and _is_same_file(path, second):
            raise InputError(f"{one} and {other} are both {path}: name two files")


def _is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same file, which need not exist yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def check_number(option: str, number: int, least: int = 1) -> None:
    """Checks the number that an option has.

    Raises:
        InputError: it is less than `least`.
    """
    if number < least:
        raise InputError(f"{option} is {number}; it must be at least {least}")


def format_entry(key: str, *words: str) -> str:
    """Formats a key with a list of one entry, as a shell takes it: DATASETS.COCO_FORMAT '[["mine", "a.json", "a"]]'."""
    return f"{key} {shlex.quote(json.dumps([words], ensure_ascii=False))}"
