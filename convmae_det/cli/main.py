"""The front door: ``convmae-det COMMAND …``, which imports the command's module alone and ends in an exit status.

The statuses are those that shells expect: 0; 1 with ``error: SENTENCE`` for what the user can mend; 2 for a command
line that is not understood; 130 after Ctrl-C; 141 if whoever reads the output has gone.
"""

import difflib
import importlib
import importlib.util
import logging
import os
import re
import select
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from .. import __version__
from ..errors import InputError, TrainingError
from ..installation import DETECTRON2, find_version
from .arguments import PROGRAM

# Each is a module of this folder, hyphens being underscores there, with a function main(arguments).
COMMANDS = {
    "train": "train a detector or a classifier, or evaluate one: train_net.py",
    "pretrain": "pretrain an encoder on images alone: pretrain_net.py",
    "predict": "find objects in images, folders, videos and camera pictures, or the classes of images",
    "evaluate": "say how good results are, and what is wrong with them: COCO's metrics, errors, thresholds",
    "serve": "show a page in the browser to try a network on: drop an image, move the threshold",
    "reconstruct": "draw what a pretrained model makes of hidden patches",
    "probe": "say how well a frozen encoder tells classes apart: k-NN, a linear probe, rank",
    "plot": "draw the curves of one or several runs",
    "report": "say what is wrong with a detector, or what a run has come to, in one HTML file to look at and send",
    "study": "compare trainings by variant, seed and share of the data: is pretraining worth it?",
    "visualize": "draw annotations, and what the network sees of them after augmentation",
    "check": "look for what is wrong with data before training: images, annotations, classes, leaks",
    "convert-annotations": "turn annotations of YOLO, Pascal VOC, LabelMe, CVAT, Label Studio, … into COCO's format",
    "shards": "write a folder of images as tar files, for pretraining",
    "stats": "compute mean and deviation of each channel of a data set: MODEL.PIXEL_MEAN and PIXEL_STD",
    "shapes": "draw a small data set of shapes to try everything on",
    "convert": "look into a checkpoint; convert it for plain Detectron2, or to the published layout",
    "export": "write a network or its encoder as TorchScript or ONNX, compared with the original",
    "push": "publish a model on the Hugging Face hub",
    "analyze": "measure parameters, operations, memory and time by image size",
    "doctor": "say what is installed here, and how to mend what is wrong",
    "install-detectron2": "install Detectron2, which is not on PyPI under its own name",
    "demo-summary": "say what the demonstration of `make demo` has come to",
}
# How warnings begin that are left out.
UNHELPFUL = {"`torch.jit.script": FutureWarning, "torch.meshgrid": UserWarning}
UNHELPFUL["The given NumPy array is not writable"] = UserWarning  # of masks, which are only read
SPINS = "10000"  # about 30 microseconds
USAGE_ERROR, INTERRUPTED, READER_GONE = 2, 130, 141  # exit statuses; the last two are 128 + SIGINT and SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, without the program's name; None: that of this process. Returns the exit status."""
    command, *words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        status = _run(command, words)
        sys.stdout.flush()  # here, where a reader that has gone is known for what it is
        return status
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return READER_GONE


def _run(command: str, words: list[str]) -> int:
    if command in ("-h", "--help"):
        print(overview())
    elif command == "--version":
        print(versions())
    elif command in COMMANDS:
        silence_libraries()
        share_cores()
        try:
            return import_command(command).main(words) or 0
        except SystemExit as ended:  # argparse's, after --help or a line that it doesn't understand
            return int(ended.code or 0)
    else:
        near = difflib.get_close_matches(command, [*COMMANDS, "--help", "--version"], n=1)
        advice = f"did you mean {near[0]}?" if near else f"{PROGRAM} --help lists them"
        print(f"error: {PROGRAM} has no command {command}: {advice}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def import_command(command: str) -> ModuleType:
    """The module of one of the COMMANDS."""
    return importlib.import_module(f".{command.replace('-', '_')}", __package__)


def overview() -> str:
    """What --help prints: all commands, each with its line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {command:<{width}}  {line}" for command, line in COMMANDS.items()]
    title = "ConvMAE on Detectron2: masked-autoencoder pretraining and object detection."
    options = f"{PROGRAM} COMMAND --help shows options and examples; {PROGRAM} --version, what is installed."
    return "\n".join([f"usage: {PROGRAM} COMMAND …", "", title, "", *lines, "", options])


def versions() -> str:
    """What --version prints, without importing any of it."""
    detectron2 = _describe_version("detectron2", *DETECTRON2)
    return f"convmae_det {__version__}, torch {_describe_version('torch', 'torch')}, Detectron2 {detectron2}"


def _describe_version(module: str, *distributions: str) -> str:
    """Describes the version of a module, whichever of the distributions brought it."""
    if importlib.util.find_spec(module) is None:
        return "missing"
    return next(filter(None, map(find_version, distributions)), "of unknown version")


def silence_libraries() -> None:
    """Leaves out what PyTorch says of Detectron2's code, about which users can do nothing.

    It does so here, where neither has been imported yet, and in the processes that training starts.
    """
    for message, category in UNHELPFUL.items():
        warnings.filterwarnings("ignore", message=re.escape(message), category=category)
    rules = [f"ignore:{message}:{category.__name__}" for message, category in UNHELPFUL.items()]
    given = os.environ.get("PYTHONWARNINGS", "").split(",")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, dict.fromkeys([*given, *rules])))
    logging.getLogger("torch.fx._symbolic_trace").addFilter(_says_something)


def share_cores() -> None:
    """Has threads of PyTorch that wait for each other give way to other programs, unless the user has decided on it.

    libgomp, which reads this when PyTorch is imported, would let them spin for longer than a step of a small network
    takes: with one of two cores busy, a step of the quickstart's detector takes seven times as long, else 2.6 times.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def _says_something(record: logging.LogRecord) -> bool:
    return "is_fx_tracing" not in record.getMessage()


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as behind ``| head``."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
