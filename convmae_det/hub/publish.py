"""Models on the Hugging Face hub: a repository, like a folder, of weights, their configuration and a card."""

import contextlib
import functools
import inspect
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from yacs.config import CfgNode

from .. import __version__
from ..checkpoint.weights import read_weights
from ..checkpoint.writing import ENDINGS, write_checkpoint
from ..config.architectures import is_autoencoder, is_classifier, is_panoptic, is_segmentor
from ..config.reading import ADVICE, CONFIG, read_run_config
from ..errors import InputError, shorten_error
from ..evaluation.metrics_file import read_metrics
from ..inference.feature_extractor import FeatureExtractor, create_encoder
from .card import build_model_card

WEIGHTS, CARD = "model.safetensors", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
RUN_WEIGHTS = ("model_best.pth", "model_final.pth")  # of a run; the first that is there counts
REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
REVISION = r"(?!.*\.\.)\w[\w./+-]*"  # huggingface_hub notes it in a file of this name: not in another folder
MAX_CONFIG = 2**20  # bytes; ours have some 15,000

# Keys that say where things lie on the machine of training, and what they are published with.
LOCAL_KEYS = {
    "MODEL.WEIGHTS": "",
    "OUTPUT_DIR": "./output",
    "DATASETS.COCO_FORMAT": [],
    "DATASETS.IMAGE_FOLDERS": [],
    "DATASETS.SHARDS": [],
    "DATASETS.SHARD_CACHE": "",
    "DATASETS.CLASS_FOLDERS": [],
    "DATASETS.SEMANTIC": [],
    "DATASETS.PANOPTIC": [],
    "TEST.PROBE": [],
}
NO_DATA = ("DATASETS.COCO_FORMAT", "[]", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()")


def push(run: str | Path, repo_id: str, *, private: bool = False, license: str = "apache-2.0") -> str:
    """Publishes a trained model on the hub. Only weights go out, no optimizer.

    Args:
        run: as for :func:`write_folder`
        repo_id: USER/NAME; the repository is made if it isn't there
        private: whether a new repository is for its owner alone
        license: of the weights, as the hub abbreviates it

    Returns:
        The address of the model.

    Raises:
        InputError: as :func:`write_folder`; no network, or no permission.
    """
    check_repository(repo_id)
    hub = import_hub()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(run, folder, repo_id, license)
        with explain_errors(f"{repo_id} can't be pushed"):
            address = str(hub.create_repo(repo_id, private=private, exist_ok=True))
            hub.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"convmae_det {__version__}")
    return address


def write_folder(run: str | Path, folder: str | Path, repo_id: str, license: str = "apache-2.0") -> None:
    """Writes model.safetensors, config.yaml and README.md, once the model has been loaded from them.

    Paths of this machine are taken out of the configuration.

    Args:
        run: an OUTPUT_DIR, of which model_best.pth, or without it model_final.pth, is taken; or a checkpoint with the
            config.yaml of its run beside it
        folder: to write to; it is made if it isn't there
        repo_id: USER/NAME, for the card
        license: of the weights, as the hub abbreviates it

    Raises:
        InputError: `run` lacks one of these, they don't fit one another, or `folder` holds other files;
            huggingface_hub, which writes the card's metadata, is missing.
    """
    check_repository(repo_id)
    import_hub()
    run, folder = (Path(os.path.expanduser(path)) for path in (run, folder))
    path = find_weights(run) if run.is_dir() else run
    weights = read_weights(path)
    cfg = read_run_config(path.with_name(CONFIG))
    curves = {}
    with contextlib.suppress(InputError):  # a checkpoint may have come without its metrics
        curves = read_metrics(str(path.with_name("metrics.json")))
    card = build_model_card(repo_id, cfg, weights, curves, path.name, license, __version__)
    there = sorted(os.listdir(folder)) if folder.is_dir() else []
    own = FILES if set(FILES) <= set(there) else ()  # what was written here before is all three
    if others := [name for name in there if name not in own]:
        raise InputError(f"{folder} holds other files, such as {others[0]}: name a new folder, or an empty one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            write_checkpoint({"model": weights.tensors, "format": "pt"}, Path(draft, WEIGHTS))
            Path(draft, CONFIG).write_text(remove_local_paths(cfg).dump(), encoding="utf-8")
            Path(draft, CARD).write_text(card, encoding="utf-8")
            options: dict[str, Any] = {} if is_autoencoder(cfg) else {"device": "cpu"}
            from_pretrained(draft, **options)
            for name in FILES:
                os.replace(Path(draft, name), folder / name)
    except OSError as error:
        raise InputError(f"{folder} can't be written ({error.strerror}): name a folder that may be written") from error


def from_pretrained(name: str | Path, *, revision: str | None = None, encoder: bool = False, **options: Any) -> Any:
    """Loads a model from a local folder or file, or from the hub. Nothing in the files can run code or name others.

    Args:
        name: a folder that :func:`write_folder` wrote, an OUTPUT_DIR, a checkpoint with the config.yaml of its run
            beside it, or USER/NAME on the hub, of which three files are fetched by their names and kept in
            huggingface_hub's cache. What is named like a file of weights, or is a Path, is never looked for there
        revision: a branch, tag or commit on the hub; a commit can't change under you
        encoder: whether the encoder alone of a detector is wanted
        **options: of Predictor (device, …) or of create_encoder (features, …)

    Returns:
        A Predictor for a detector, else a ClassPredictor, SegmentationPredictor or PanopticPredictor; for weights of
        pretraining, or with `encoder`, what create_encoder gives.

    Raises:
        InputError: no such folder or model, no network, files that are missing or don't fit, huggingface_hub or, for a
            detector, Detectron2 not installed.
    """
    place = Path(os.path.expanduser(name))
    if local := place.exists() or isinstance(name, Path) or place.suffix in ENDINGS:
        if revision is not None:
            raise InputError(f"{name} lies on this machine, where it has no revision {revision}: leave revision out")
        weights, config = find_local_weights(place)
    else:
        folder = download(str(name), revision)
        weights, config = find_weights(folder), folder / CONFIG
    if encoder or is_autoencoder(cfg := read_run_config(config)):
        return load_encoder(weights, config, options)
    if not local:  # data sets of a stranger's machine are none of this one
        options["pairs"] = [*options.get("pairs", ()), *NO_DATA]
    return import_predictor(cfg)(config, weights, **options)


def load_encoder(weights: Path, config: Path, options: dict) -> FeatureExtractor:
    """Calls create_encoder; raises InputError for whatever Python or PyTorch say to a stranger's values."""
    call = inspect.signature(create_encoder).bind(pretrained=weights, config=config, **options)  # else the caller's
    try:
        return create_encoder(*call.args, **call.kwargs)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{config} has values under MODEL from which no encoder can be built ({shorten_error(error)}): {ADVICE}"
        ) from error


def import_predictor(cfg: CfgNode) -> type:
    """Imports what predicts with the model of a configuration, which needs Detectron2."""
    try:
        from .. import ClassPredictor, PanopticPredictor, Predictor, SegmentationPredictor
    except ImportError as error:
        kind = "classifier" if is_classifier(cfg) else "segmentor" if is_segmentor(cfg) else "detector"
        raise InputError(f"this is a {kind}, and {error}; its encoder alone needs none: encoder=True") from error
    if is_segmentor(cfg):
        return SegmentationPredictor
    if is_panoptic(cfg):
        return PanopticPredictor
    return ClassPredictor if is_classifier(cfg) else Predictor


def find_local_weights(place: Path) -> tuple[Path, Path]:
    """Finds weights and their configuration in a folder, or beside a file of weights.

    Raises:
        InputError: there is no such file or folder, or one of the two is missing.
    """
    if place.is_dir():
        return find_weights(place), place / CONFIG
    if not place.exists():
        raise InputError(
            f"there is no file or folder {place}: name the OUTPUT_DIR of a run, one of its checkpoints, or a model on "
            "the Hugging Face hub, USER/NAME"
        )
    config = place.with_name(CONFIG)
    if not config.exists():
        raise InputError(
            f"{place} has no {CONFIG} beside it, which says what model it is: put that of its run there, or, for the "
            "encoder alone, call convmae_det.create_encoder(pretrained=…)"
        )
    return place, config


def find_weights(folder: Path) -> Path:
    for name in (WEIGHTS, *RUN_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} holds none of {', '.join((WEIGHTS, *RUN_WEIGHTS))}: name a folder that does")


def remove_local_paths(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    for key, value in LOCAL_KEYS.items():
        *groups, name = key.split(".")
        node = functools.reduce(getattr, groups, cfg)
        if name in node:
            node[name] = value
    return cfg


def download(name: str, revision: str | None) -> Path:
    """Fetches the three files of a model, and no others; returns their folder in huggingface_hub's cache."""
    if not re.fullmatch(REPOSITORY, name):
        raise InputError(f"there is no folder {name!r}, and a model on the Hugging Face hub is named USER/NAME")
    if revision is not None and not re.fullmatch(REVISION, revision):
        raise InputError(f"revision is {revision!r}, which no branch, tag or commit can be: leave it out, or name one")
    hub = import_hub()
    with explain_errors(f"there is no folder {name}, and from the Hugging Face hub it can't be fetched"):
        folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    config = folder / CONFIG
    if config.is_file() and (size := config.stat().st_size) > MAX_CONFIG:
        raise InputError(f"{config} has {size:,} bytes, more than any run writes: take another model")
    return folder


def check_repository(repo_id: str) -> None:
    if not re.fullmatch(REPOSITORY, repo_id):
        raise InputError(f"{repo_id!r} is no name for a model on the Hugging Face hub: it must be USER/NAME")


def import_hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError("huggingface_hub is not installed: run python -m pip install huggingface_hub") from error
    return huggingface_hub


@contextlib.contextmanager
def explain_errors(failure: str) -> Iterator[None]:
    """Turns whatever huggingface_hub and its dependencies raise into an InputError that says what to do."""
    from huggingface_hub import errors

    advice = {
        errors.RepositoryNotFoundError: "no such model, or not for you to see: check its name, or run hf auth login",
        errors.RevisionNotFoundError: "it has no such revision: leave revision out, or name another",
        errors.LocalTokenNotFoundError: "you are not logged in: run hf auth login",
        errors.HFValidationError: "its name is not valid: it must be USER/NAME",
    }
    try:
        yield
    except Exception as error:
        reason = next((text for kind, text in advice.items() if isinstance(error, kind)), None)
        if reason is None and getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            reason = "you may not: run hf auth login with a token that may write there"
        raise InputError(
            f"{failure}: {reason or f'{shorten_error(error)}; check the network, and try again'}"
        ) from error
