"""The program that a tracker's library runs in: ``python -m convmae_det.engine.trackers.process NAME``.

It takes requests of :class:`.tracker.Tracker` from standard input and answers in lines on standard output. It ends with
the run, and also where training has ended without a word, as after kill -9.
"""

import importlib
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np

from ...errors import shorten_error
from ...files import write_json

SERVICES = {"wandb": "wandb_service", "mlflow": "mlflow_service"}  # modules beside this one, each with a class Service
PROJECT = "convmae_det"  # that runs belong to where the library's environment variables name no other
RECORD = "tracker_{}.json"  # in OUTPUT_DIR: the run's id, and the last iteration that it has
PATIENCE = 60  # seconds for what is left after training has ended without a word


class Service(Protocol):
    """What a library does for a run."""

    def check(self) -> str:
        """Returns why it can't be used, in a sentence; empty if it can."""

    def begin(self, name: str, config: Mapping[str, Any], run_id: str) -> tuple[str, str]:
        """Begins a run, or goes on with that of an id.

        Args:
            name: of the run, where no environment variable names it
            config: values by the names of keys
            run_id: empty for a new run

        Returns:
            the id of the run, and where its user finds it
        """

    def log(self, step: int, scalars: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        """Takes what an iteration has brought: numbers, and pictures as (height, width, 3) uint8."""

    def finish(self, complete: bool, folder: str, files: Sequence[str], weights: Sequence[str]) -> None:
        """Takes files and weights, by their paths in a folder, and ends the run."""


def serve(name: str, service: Service, requests: BinaryIO, answer: Callable[..., None]) -> None:
    """Does what is asked for until the run ends.

    Args:
        name: of the tracker
        service: does it
        requests: pickled tuples
        answer: called with one keyword and its text
    """
    try:
        if sentence := service.check():
            answer(refused=sentence)
            return
        answer(ready="")
        _track(name, service, requests, answer)
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {shorten_error(error)}")


def _track(name: str, service: Service, requests: BinaryIO, answer: Callable[..., None]) -> None:
    record, path = {}, ""
    while request := _read(requests):
        kind, *arguments = request
        if kind == "begin":
            folder, config, resume = arguments
            path = os.path.join(folder, RECORD.format(name))
            known = _read_record(path) if resume else {}
            run_id, place = service.begin(os.path.normpath(folder), config, known.get("id", ""))
            same = run_id == known.get("id")
            record = {"id": run_id, "iteration": known["iteration"] if same else -1}
            write_json(path, record)
            answer(begun=f"{'goes on with' if same else 'begins'} the run {place}")
        elif kind == "log" and arguments[0] > record["iteration"]:  # what a resumed run repeats is there already
            service.log(*arguments)
            record["iteration"] = arguments[0]
            write_json(path, record)
        elif kind == "finish":
            service.finish(*arguments)
            answer(finished="")
            return
    if record:
        signal.alarm(PATIENCE)
        service.finish(False, os.curdir, [], [])


def _read(requests: BinaryIO) -> tuple | None:
    try:
        return pickle.load(requests)
    except (EOFError, pickle.UnpicklingError):  # the last one may be cut off
        return None


def _read_record(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        return record if isinstance(record["id"], str) and isinstance(record["iteration"], int) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def main(name: str) -> None:
    """Serves the process that has started this one; what the library prints goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # so that the library asks nobody
    os.dup2(2, 1)
    module = importlib.import_module(f".{SERVICES[name]}", __package__)
    serve(name, module.Service(), requests, lambda **text: print(json.dumps(text), file=answers))


if __name__ == "__main__":
    main(sys.argv[1])
