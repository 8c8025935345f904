"""Reads study files: YAML that is checked so far that only training itself can fail."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.checks.rules import is_number, require
from ..config.precedence import find_replaced
from ..config.reading import flatten_keys, locate_config, read_plain_yaml
from ..errors import InputError
from .plan import OUTPUT, SEED, SHARE, WEIGHTS, Study, Variant, choose_match

STUDY_KEYS = ("base", "set", "metric", "seeds", "shares", "variants")
VARIANT_KEYS = ("name", "config", "set", "weights", "seeds", "shares", "in_table")
RESULT = "result of"  # what begins the weights that are another variant's
NO_WEIGHTS = "none"
INSTEAD = {SHARE: "shares", SEED: "seeds", WEIGHTS: "weights", OUTPUT: "--output"}  # of what the study sets


def read_study(file: str) -> Study:
    """Reads a study file, whose parts docs/studies.md explains.

    Args:
        file: a path, or the name of one of the project's own, such as convmae_det://studies/pays.yaml

    Raises:
        InputError: it can't be read, or something in it can't be used; names the file and the key.
    """
    tree: Any = read_plain_yaml(locate_config(file))
    require(isinstance(tree, dict), file, tree, f"hold keys: {', '.join(STUDY_KEYS)}")
    _check_keys(file, tree, STUDY_KEYS)
    metrics, variants = tree.get("metric"), tree.get("variants")
    metrics = [metrics] if isinstance(metrics, str) else metrics
    holds = isinstance(metrics, list) and metrics and all(isinstance(name, str) and name for name in metrics)
    require(
        holds, f"metric in {file}", metrics, "name a number in metrics.json, such as bbox/AP, or be a list of these"
    )
    holds = isinstance(variants, list) and variants and all(isinstance(entry, dict) for entry in variants)
    require(holds, f"variants in {file}", variants, "be a list with a name and what differs for each")
    idle = {"base", "set"} & tree.keys() if all("config" in entry for entry in variants) else ()
    for key in idle:
        raise InputError(f"{file} has {key}, but each of its variants has a config of its own: remove one of them")
    study = Study(file, tuple(metrics), tuple(_read_variant(file, tree, entry) for entry in variants))
    _check_names(study)
    _check_sources(study)
    _check_configurations(study)
    return study


def _check_keys(where: str, tree: dict, known: Sequence[str]) -> None:
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"choose {', '.join(known)}"
            raise InputError(f"{where} has a key {key}, which doesn't exist: {advice}")


def _read_variant(file: str, tree: dict, entry: dict) -> Variant:
    name: Any = entry.get("name")
    holds = isinstance(name, str) and name.strip() and name.isprintable() and "/" not in name and name[0] != "."
    require(holds, f"name of a variant in {file}", name, "be text that can name a folder")
    where = f"variant {name} in {file}"
    _check_keys(where, entry, VARIANT_KEYS)
    weights, source = _read_weights(where, entry.get("weights"))
    in_table = entry.get("in_table", True)
    require(isinstance(in_table, bool), f"in_table of {where}", in_table, "be true or false")
    return Variant(
        name=name,
        config=_read_config_name(where, entry.get("config", tree.get("base"))),
        settings=_read_settings(where, file, tree, entry),
        weights=weights,
        source=source,
        seeds=_read_seeds(where, entry.get("seeds", tree.get("seeds"))),
        shares=_read_shares(where, entry.get("shares", tree.get("shares", [1.0]))),
        in_table=in_table,
        file=file,
    )


def _read_config_name(where: str, config: Any) -> str:
    holds = isinstance(config, str) and config
    require(holds, f"config of {where}", config, "be a configuration file, unless base of the study is one")
    if not Path(locate_config(config)).expanduser().is_file():
        raise InputError(
            f"{config}, the configuration of {where}, doesn't exist here: paths are relative to this folder"
        )
    return str(Path(config).expanduser()) if "://" not in config else config


def _read_settings(where: str, file: str, tree: dict, entry: dict) -> dict[str, Any]:
    """Reads the dotted keys and values of a variant, over those of the study if it is built on base."""
    own = _flatten_settings(f"set of {where}", entry.get("set"))
    below = {} if "config" in entry else _flatten_settings(f"set in {file}", tree.get("set"))
    replaced = find_replaced(own)
    return {key: value for key, value in below.items() if key not in replaced} | own


def _flatten_settings(key: str, settings: Any) -> dict[str, Any]:
    settings = settings or {}
    require(isinstance(settings, dict), key, settings, "have lines of KEY: VALUE, such as SOLVER.MAX_EPOCHS: 10")
    flat = {str(name): value for name, value in flatten_keys({str(name): value for name, value in settings.items()})}
    for name in INSTEAD.keys() & flat:
        raise InputError(f"{key} has {name}, which the study itself sets: use {INSTEAD[name]} instead")
    return flat


def _read_weights(where: str, weights: Any) -> tuple[str | None, str]:
    """Reads the file ("": none, None: that of the configuration) and the variant to start from."""
    if isinstance(weights, dict) and list(weights) == [RESULT] and isinstance(weights[RESULT], str):
        return None, weights[RESULT]
    holds = weights is None or (isinstance(weights, str) and weights)
    require(holds, f"weights of {where}", weights, f"be {NO_WEIGHTS}, a file, or {{{RESULT}: NAME}} of a variant")
    if weights in (None, NO_WEIGHTS):
        return None if weights is None else "", ""
    if "://" not in weights and not Path(weights).expanduser().is_file():
        raise InputError(f"{weights}, the weights of {where}, doesn't exist here: paths are relative to this folder")
    return weights, ""


def _read_seeds(where: str, seeds: Any) -> tuple[int, ...]:
    seeds = [seeds] if isinstance(seeds, int) else seeds
    holds = isinstance(seeds, list) and seeds and len(set(map(repr, seeds))) == len(seeds)
    holds = holds and all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31 for seed in seeds)
    require(holds, f"seeds of {where}", seeds, "be different whole numbers of at least 0, such as [1, 2, 3]")
    return tuple(seeds)


def _read_shares(where: str, shares: Any) -> tuple[float, ...]:
    shares = [shares] if is_number(shares) else shares
    holds = isinstance(shares, list) and shares and all(is_number(share) and 0 < share <= 1 for share in shares)
    holds = holds and len({f"{share:g}" for share in shares}) == len(shares)
    require(holds, f"shares of {where}", shares, "be different numbers above 0 and at most 1, such as [0.1, 1.0]")
    return tuple(map(float, shares))


def _check_names(study: Study) -> None:
    names = [variant.name.casefold() for variant in study.variants]
    for variant in study.variants:
        if names.count(variant.name.casefold()) > 1:
            raise InputError(f"{study.file} has two variants of the name {variant.name}: give each a name of its own")
    if not any(variant.in_table for variant in study.variants):
        raise InputError(f"{study.file} shows no variant in its table: set in_table of one to true")


def _check_sources(study: Study) -> None:
    """Checks that variants start from others that exist, not in a loop, and from one run of each."""
    variants = {variant.name: variant for variant in study.variants}
    for variant in study.variants:
        key, before, above = f"weights of variant {variant.name} in {study.file}", variant, [variant.name]
        while before.source:
            require(before.source in variants, key, {RESULT: before.source}, f"name one of {', '.join(variants)}")
            require(before.source not in above, key, {RESULT: variant.source}, "not lead back to the variant itself")
            above.append(before.source)
            before = variants[before.source]
        if variant.source:
            source = variants[variant.source]
            for what, wanted, there in (
                ("seeds", variant.seeds, source.seeds),
                ("shares", variant.shares, source.shares),
            ):
                missing = [value for value in wanted if choose_match(value, there) is None]
                must = f"be of a variant with one of the {what}, or with all of {missing}"
                require(not missing, key, {RESULT: source.name}, must)


def _check_configurations(study: Study) -> None:
    """Checks all that can be checked of a training before its data are read."""
    for variant in study.variants:
        try:
            cfg = variant.cfg.clone()
            cfg.defrost()
            cfg.merge_from_list([SEED, variant.seeds[0], SHARE, min(variant.shares)])
            variant.trainer.check_config(cfg)
        except InputError as error:
            where = f"variant {variant.name} of {study.file}"
            raise error if where in str(error) else InputError(f"{where}: {error}") from error
