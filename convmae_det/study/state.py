"""What has become of a run: a small file in its OUTPUT_DIR, beside those that training itself leaves there."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint.record import compute_fingerprint
from ..config.checks.rules import is_same
from ..config.reading import CONFIG, flatten_keys, read_plain_yaml
from ..errors import InputError
from ..files import write_json
from .plan import OUTPUT, WEIGHTS, Run

STATE = "study_run.json"
# Keys whose values may differ: what a run found out itself, what changes no result, and what is compared otherwise.
MACHINE = ("MODEL.DEVICE", "DATALOADER.NUM_WORKERS")
FOUND = ("SOLVER.IMAGES_PER_EPOCH", "INPUT.WHITE_LEVEL")
NOT_COMPARED = (*MACHINE, *FOUND, OUTPUT, WEIGHTS)


class State(NamedTuple):
    """What the study knows of a run.

    Attributes:
        finished: whether it has ended well, with its last evaluation
        seconds: that it has taken so far, over all its parts
        weights: the fingerprint of the file that it started from, or ""
    """

    finished: bool = False
    seconds: float = 0.0
    weights: str = ""


def read_state(run: Run) -> State:
    """Reads the state of a run; that of one that hasn't begun if there is none."""
    try:
        content = json.loads((run.folder / STATE).read_text(encoding="utf-8"))
        state = State(bool(content["finished"]), float(content["seconds"]), str(content["weights"]))
    except (OSError, ValueError, TypeError, KeyError):
        return State()
    return state._replace(finished=state.finished and run.result.is_file())


def write_state(run: Run, state: State) -> None:
    write_json(run.folder / STATE, state._asdict(), indent=2)


def compute_weights_fingerprint(run: Run) -> str:
    """Computes what tells the weights that a run starts from; "" where it starts from none, or none in a file here."""
    path = Path(run.weights)
    return compute_fingerprint(path) if run.weights and path.is_file() else ""


def check_unchanged(run: Run) -> None:
    """Checks that a run that has begun is what the study now asks for.

    Raises:
        InputError: another configuration or other initial weights; says which, and what to do.
    """
    path = run.folder / CONFIG
    if not path.is_file():
        return
    advice = f"change it back, remove the folder {run.folder}, or choose another --output"
    tree = read_plain_yaml(path)
    then, now = dict(flatten_keys(tree)) if isinstance(tree, dict) else {}, dict(flatten_keys(run.cfg))
    for key in [key for key in now if key in then and key not in NOT_COMPARED]:
        if not is_same(then[key], now[key]):
            values = f"{_shorten(then[key])}, but {run.variant.file} now asks for {_shorten(now[key])}"
            raise InputError(f"{path}, of a run that has begun, has {key} {values}: {advice}")
    weights, state = compute_weights_fingerprint(run), read_state(run)
    if (run.folder / STATE).is_file() and state.weights != weights:
        raise InputError(
            f"{run.folder} holds a run that started from other weights than {run.weights or 'none'}, which "
            f"{run.variant.file} now asks for: {advice}"
        )


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
