"""What the commands' parsers have in common: help from the module's docstring, with examples, and with defaults."""

import argparse

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
    (pairs,) = (action for action in parser._actions if action.dest == "opts")
    pairs.nargs, pairs.default, pairs.metavar, pairs.help = "*", [], "KEY VALUE", "settings of the configuration"
    return parser.parse_intermixed_args(arguments)


def check_number(option: str, number: int, least: int = 1) -> None:
    """Checks the number that an option has.

    Raises:
        InputError: it is less than `least`.
    """
    if number < least:
        raise InputError(f"{option} is {number}; it must be at least {least}")
