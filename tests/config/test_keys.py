"""Keys exist, values are of their type, and what is set later wins."""

import pytest
from detectron2.config import get_cfg
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.config import add_convmae_config
from convmae_det.config.building import build_encoder_arguments
from convmae_det.config.keys import AUTO, AUTO_KEYS, GROUPS, SWITCHES, set_key, set_keys, split_pairs
from convmae_det.config.reading import flatten_keys
from convmae_det.errors import InputError


def defaults():
    cfg = get_cfg()
    add_convmae_config(cfg)
    return cfg


KNOWN = dict(flatten_keys(defaults()))


@pytest.mark.parametrize("form", [lambda value: value, str], ids=["value", "text"])
def test_every_default_can_be_set_again(form):
    cfg = defaults()
    for key, value in KNOWN.items():
        set_key(cfg, key, form(value), "the command line")
    assert dict(flatten_keys(cfg)) == KNOWN


@given(st.sampled_from(sorted(KNOWN)), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_any_value_keeps_the_type_or_is_refused(key, value):
    cfg = defaults()
    try:
        set_key(cfg, key, value, "own.yaml")
    except InputError as error:
        assert str(error).startswith(f"{key}, set in own.yaml, is ")
        assert dict(flatten_keys(cfg)).keys() == KNOWN.keys()
    else:
        kinds = (list, tuple) if isinstance(KNOWN[key], (list, tuple)) else type(KNOWN[key])
        kinds = (bool, str) if key in SWITCHES else kinds
        assert KNOWN[key] is None or isinstance(dict(flatten_keys(cfg))[key], kinds)


@pytest.mark.parametrize("key", SWITCHES)
def test_a_switch_is_true_or_false_or_a_word(tmp_path, key):
    group, name = key.split(".")
    for text, value in (("True", True), ("auto", "auto"), ("False", False), ("auto", "auto")):
        (tmp_path / "own.yaml").write_text(f"{group}:\n  {name}: {text}\n")
        from_file, from_pairs = defaults(), defaults()
        set_keys(from_file, str(tmp_path / "own.yaml"), [])
        set_keys(from_pairs, "", [key, text])
        set_keys(from_pairs, str(tmp_path / "own.yaml"), [key, text])  # after what was a value of another type
        for cfg in (from_file, from_pairs):
            found = dict(flatten_keys(cfg))[key]
            assert found == value and type(found) is type(value)
    cfg = defaults()
    set_keys(cfg, "", [key, "2"])
    with pytest.raises(InputError, match=f"^{key} is 2; it must be True, False or auto"):
        build_encoder_arguments(cfg)


@pytest.mark.parametrize("key", SWITCHES)
@pytest.mark.parametrize("value", [True, False, "auto"])
def test_plain_merges_set_a_switch(key, value):
    """Those of other programs, by Detectron2's own CfgNode."""
    cfg = defaults()
    cfg.merge_from_list([key, value])
    assert dict(flatten_keys(cfg))[key] == value
    again = defaults()
    again.merge_from_other_cfg(cfg)
    assert again == cfg


@given(st.text(min_size=1).filter(lambda key: key not in KNOWN))
def test_other_keys_are_refused(key):
    with pytest.raises(InputError, match="set in the command line, (doesn't exist|is a group)"):
        set_key(defaults(), key, "1", "the command line")


@pytest.mark.parametrize(
    "typo, key", [("SOLVER.BASE_RL", "SOLVER.BASE_LR"), ("MODEL.CONVMAE.ARCHS", "MODEL.CONVMAE.ARCH")]
)
def test_the_key_that_was_meant_is_named(typo, key):
    with pytest.raises(InputError, match=rf"{typo}, .* doesn't exist: did you mean {key}\?$"):
        set_key(defaults(), typo, "1", "own.yaml")


def test_pairs_win_over_the_file(tmp_path):
    cfg = defaults()
    (tmp_path / "own.yaml").write_text("SEED: 1\nSOLVER: {MAX_ITER: 2}\n")
    given_keys = set_keys(cfg, str(tmp_path / "own.yaml"), ["SOLVER.MAX_ITER", "3", "VIS_PERIOD", "4"])
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.VIS_PERIOD) == (1, 3, 4)
    assert given_keys == {"SEED", "SOLVER.MAX_ITER", "VIS_PERIOD"}


@pytest.mark.parametrize("key", AUTO_KEYS)
def test_auto_is_a_number_that_any_other_can_replace(tmp_path, key):
    cfg = defaults()
    group, name = key.split(".")
    (tmp_path / "own.yaml").write_text(f"{group}: {{{name}: auto}}\n")
    set_keys(cfg, str(tmp_path / "own.yaml"), [])
    assert dict(flatten_keys(cfg))[key] == AUTO
    set_key(cfg, key, "3", "the command line")
    set_key(cfg, key, "auto", "the command line")
    assert dict(flatten_keys(cfg))[key] == AUTO


def test_other_numbers_are_never_auto():
    with pytest.raises(InputError, match="SOLVER.MAX_ITER, .* is 'auto'; it must be a int"):
        set_key(defaults(), "SOLVER.MAX_ITER", "auto", "the command line")


# Keys for the same thing

LATER = [
    ("SOLVER: {MAX_ITER: 90}", "SOLVER.MAX_EPOCHS", 50, {"SOLVER.MAX_ITER": 0}),
    ("SOLVER: {IMAGES_PER_EPOCH: 9}", "SOLVER.MAX_EPOCHS", 50, {"SOLVER.IMAGES_PER_EPOCH": 0}),
    ("SOLVER: {IMAGES_PER_EPOCH: 9}", "SOLVER.WARMUP_EPOCHS", 5, {"SOLVER.IMAGES_PER_EPOCH": 0}),
    ("SOLVER: {IMAGES_PER_EPOCH: 9}", "TEST.EVAL_EPOCHS", 0.5, {"SOLVER.IMAGES_PER_EPOCH": 0}),
    ("SOLVER: {WARMUP_EPOCHS: 9}", "SOLVER.WARMUP_ITERS", 50, {"SOLVER.WARMUP_EPOCHS": 0}),
    ("SOLVER: {STEPS: [3, 6]}", "SOLVER.STEP_FRACTIONS", [0.5], {"SOLVER.STEPS": ()}),
    ("SOLVER: {IMAGES_PER_EPOCH: 9}", "TEST.PROBE_EPOCHS", 0.5, {"SOLVER.IMAGES_PER_EPOCH": 0}),
    ("TEST: {EVAL_EPOCHS: 2}", "TEST.EVAL_PERIOD", 50, {"TEST.EVAL_EPOCHS": 0}),
    ("TEST: {EVAL_EPOCHS: 2}", "TEST.EVAL_PERIOD", 0, {"TEST.EVAL_EPOCHS": 0}),
    ("SOLVER: {ACCUMULATION_STEPS: 4}", "SOLVER.MAX_IMS_PER_PASS", 16, {"SOLVER.ACCUMULATION_STEPS": 0}),
    ("SOLVER: {MAX_IMS_PER_PASS: 4}", "SOLVER.ACCUMULATION_STEPS", 2, {"SOLVER.MAX_IMS_PER_PASS": 0}),
    ("SEED: 1", "SOLVER.MAX_IMS_PER_PASS", 16, {"SOLVER.ACCUMULATION_STEPS": 0}),
]
EARLIER = [
    ("SOLVER: {MAX_EPOCHS: 50}", "SOLVER.MAX_ITER", 90, {"SOLVER.MAX_EPOCHS": 50}),
    ("SOLVER: {MAX_EPOCHS: 50, MAX_ITER: 90}", "SEED", 1, {"SOLVER.MAX_ITER": 90}),
    ("SOLVER: {MAX_IMS_PER_PASS: 4}", "SOLVER.ACCUMULATION_STEPS", 0, {"SOLVER.MAX_IMS_PER_PASS": 4}),
    ("SOLVER: {IMAGES_PER_EPOCH: 9}", "SOLVER.IMS_PER_BATCH", 2, {"SOLVER.IMAGES_PER_EPOCH": 9}),
]


@pytest.mark.parametrize("in_a_file", [False, True], ids=["command line", "file"])
@pytest.mark.parametrize("file, key, value, expected", [*LATER, *EARLIER])
def test_of_keys_for_the_same_thing_the_last_holds(tmp_path, file, key, value, expected, in_a_file):
    """On the command line, or in a file that builds on another."""
    cfg = defaults()
    (tmp_path / "base.yaml").write_text(f"{file}\n")
    if in_a_file:
        group, _, name = key.rpartition(".")
        line = f"{group}: {{{name}: {value}}}" if group else f"{name}: {value}"
        (tmp_path / "own.yaml").write_text(f"_BASE_: base.yaml\n{line}\n")
        set_keys(cfg, str(tmp_path / "own.yaml"), [])
    else:
        set_keys(cfg, str(tmp_path / "base.yaml"), [key, str(value)])
    values = dict(flatten_keys(cfg))
    assert values[key] == value and values.items() >= expected.items()


def test_classes_that_are_set_later_replace_their_number(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("DATASETS: {CATEGORIES: [[1, a], [2, b]]}\nMODEL: {ROI_HEADS: {NUM_CLASSES: 2}}\n")
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in set_keys(defaults(), str(file), [])
    assert "MODEL.ROI_HEADS.NUM_CLASSES" not in set_keys(defaults(), str(file), ["DATASETS.CATEGORIES", "[[1, 'a']]"])
    (tmp_path / "upper.yaml").write_text("_BASE_: own.yaml\nDATASETS: {CATEGORIES: [[1, a]]}\n")
    assert "MODEL.ROI_HEADS.NUM_CLASSES" not in set_keys(defaults(), str(tmp_path / "upper.yaml"), [])


@given(st.permutations(sorted(KNOWN)))
def test_no_key_replaces_another_of_the_same_layer(order):
    cfg = defaults()
    assert set_keys(cfg, "", [word for key in order for word in (key, str(KNOWN[key]))]) == KNOWN.keys()
    assert dict(flatten_keys(cfg)) == KNOWN


def test_a_key_without_a_value_is_refused():
    with pytest.raises(InputError, match="SEED 3 SOLVER.MAX_ITER is not an even number of words"):
        set_keys(defaults(), "", ["SEED", "3", "SOLVER.MAX_ITER"])


PAIRS = st.lists(st.tuples(st.sampled_from(GROUPS).map(lambda group: f"{group}KEY"), st.text(max_size=3)), max_size=3)


@given(PAIRS, st.lists(st.sampled_from(["a.jpg", "folder", "*.png"]), max_size=3))
def test_pairs_are_told_from_images(pairs, images):
    words = [word for pair in pairs for word in pair]
    assert split_pairs([*images, *words]) == split_pairs([*words, *images]) == (words, images)


def test_a_file_that_is_called_like_a_key_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MODEL.png").touch()
    assert split_pairs(["MODEL.png", "MODEL.X", "3"]) == (["MODEL.X", "3"], ["MODEL.png"])
