"""Says what convmae_det would run with on this machine, and how to mend what is wrong.

Examples:
    convmae-det doctor
    python tools/doctor.py    # in a clone, before anything is installed

Exit status 1 if the project can't run.
"""

import argparse

from ..installation import report_installation
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> int:
    parse(arguments)
    return report_installation()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    return command_parser("doctor", __doc__).parse_args(arguments)
