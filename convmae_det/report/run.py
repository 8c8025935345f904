"""The section on how a run was made: data, device, time, versions, and which keys differ from their defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg
from markupsafe import Markup
from tqdm import tqdm

from ..config.defaults import add_convmae_config
from ..config.reading import flatten_keys
from .page import Section, render
from .run_record import read_sessions
from .tables import render_facts, render_table

EXPLANATION = "With what, where and how long it was trained: what is needed to repeat it."
LONGEST = 300  # characters of a value
LEFT_OUT = ("DATASETS.CATEGORIES", "OUTPUT_DIR")


def build_run(cfg: CfgNode, folder: Path) -> Section:
    """Builds the section on a run.

    Args:
        cfg: its configuration
        folder: its OUTPUT_DIR
    """
    sessions = read_sessions(folder)
    facts = _describe_configuration(cfg) | (_describe_sessions(sessions) if sessions else {})
    changed = list_changes(cfg)
    keys = render_table(["key", "value", "default"], changed, "Press a title to sort.")
    versions = sessions[-1].get("versions", {}) if sessions else {}
    body = render_facts(facts | {"folder": folder.resolve()})
    body += render("details.html", summary=f"{len(changed)} keys that differ from their defaults", body=keys)
    if versions:
        body += render("details.html", summary="Versions", body=render_facts(versions))
    if sessions:
        command = _format_command(sessions[-1])
        body += render("details.html", summary="Command", body=Markup("<pre>{}</pre>").format(command))
    else:
        body += render("problems.html", problems=["Device, time and versions were not recorded by this run."])
    return Section("The run", body, EXPLANATION)


def _describe_configuration(cfg: CfgNode) -> dict[str, object]:
    return {
        "model": f"{cfg.MODEL.META_ARCHITECTURE}, encoder {cfg.MODEL.CONVMAE.ARCH}",
        "started from": cfg.MODEL.WEIGHTS or "random weights",
        "trained on": ", ".join(cfg.DATASETS.TRAIN),
        "tested on": ", ".join(cfg.DATASETS.TEST),
        "images a step": cfg.SOLVER.IMS_PER_BATCH,
        "seed": cfg.SEED,
    }


def _describe_sessions(sessions: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Describes the sessions of a run: the last, and the sum of their times."""
    trained = [session for session in sessions if session.get("iterations")] or list(sessions)
    last = trained[-1]
    seconds = sum(session.get("seconds") or 0 for session in trained)
    iterations = last.get("first_iteration", 0) + last.get("iterations", 0)
    parts = f", in {len(trained)} sessions" if len(trained) > 1 else ""
    processes = last.get("processes", 1)
    return {
        "training images": f"{last['images']:,}" if isinstance(last.get("images"), int) else "",
        "device": f"{last.get('device', '')}" + (f", {processes} processes" if processes != 1 else ""),
        "machine": last.get("machine", ""),
        "began": str(trained[0].get("began", "")).replace("T", " "),
        "took": f"{tqdm.format_interval(seconds)} for {iterations:,} iterations{parts}" if seconds else "",
        "git revision": last.get("revision", ""),
    }


def _format_command(session: Mapping[str, Any]) -> str:
    words = session.get("command", [])
    return " ".join(f"'{word}'" if set(word) & set(" '\"()[]$*") else word for word in map(str, words))


def list_changes(cfg: CfgNode) -> list[tuple[str, str, str]]:
    """Lists the keys of a configuration that differ from their defaults, with both values."""
    defaults = get_cfg()
    add_convmae_config(defaults)
    known = dict(flatten_keys(defaults))
    return [
        (key, _shorten(value), _shorten(known.get(key, "")))
        for key, value in sorted(flatten_keys(cfg))
        if key not in LEFT_OUT and not _are_equal(value, known.get(key))
    ]


def _are_equal(value: object, other: object) -> bool:
    """Whether two values are the same to a configuration, which takes lists and tuples for each other."""
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_are_equal, value, other))
    return value == other


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
