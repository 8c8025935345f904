"""Study files: what they mean, and a sentence for every mistake."""

from pathlib import Path

import pytest

from convmae_det.errors import InputError
from convmae_det.study.reading import read_study


def test_runs_come_by_seed_with_what_they_need_first(runs):
    assert [str(run) for run in runs] == [
        "pretraining, share 1, seed 1",
        "from scratch, share 0.5, seed 1",
        "pretrained, share 0.5, seed 1",
        "from scratch, share 1, seed 1",
        "pretrained, share 1, seed 1",
        "from scratch, share 0.5, seed 2",
        "pretrained, share 0.5, seed 2",
        "from scratch, share 1, seed 2",
        "pretrained, share 1, seed 2",
    ]
    assert all(run.source is (runs[0] if run.variant.name == "pretrained" else None) for run in runs)
    assert runs[2].folder == Path("out/runs/pretrained/share-0.5/seed-1")


def test_the_command_of_a_run_says_the_same_as_its_configuration(runs):
    run = runs[6]
    command, option, config, *words = run.words
    assert (command, option, config, words[0]) == ("train", "--config-file", "detector.yaml", "--resume")
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert (
        pairs["SOLVER.BASE_LR"] == "0.001"
        and pairs["MODEL.WEIGHTS"] == "out/runs/pretraining/share-1/seed-1/model_final.pth"
    )
    cfg = run.cfg
    assert (cfg.SEED, cfg.DATASETS.TRAIN_SHARE, cfg.OUTPUT_DIR) == (2, 0.5, str(run.folder))
    assert cfg.SOLVER.MAX_ITER == 6 and runs[0].words[0] == "pretrain"


def test_a_variant_with_the_same_seeds_gives_each_its_own_weights(write_study):
    def change(tree):
        tree["variants"][0] |= {"seeds": [1, 2], "shares": [0.5, 1.0]}

    for run in read_study(write_study(change)).list_runs(Path("out")):
        if run.source:
            assert (run.source.seed, run.source.share) == (run.seed, run.share)


def test_a_variant_replaces_what_its_key_stands_against(write_study):
    """SOLVER.MAX_EPOCHS of a variant wins over SOLVER.MAX_ITER of the study, as on a command line over a file."""

    def change(tree):
        tree["variants"][1]["set"] = {"SOLVER.MAX_EPOCHS": 3}

    study = read_study(write_study(change))
    assert "SOLVER.MAX_ITER" not in study.variants[1].settings and study.variants[1].cfg.SOLVER.MAX_ITER == 0


def test_settings_may_be_nested(write_study):
    def change(tree):
        tree["variants"][1]["set"] = {"SOLVER": {"BASE_LR": 0.5, "EMA": {"DECAY": 0.9}}}

    solver = read_study(write_study(change)).variants[1].cfg.SOLVER
    assert (solver.BASE_LR, solver.EMA.DECAY) == (0.5, 0.9)


def put(*path):
    """``put(key, …, value)``: a change of the tree, None removing the key."""
    *nodes, key, value = path

    def change(tree):
        for node in nodes:
            tree = tree[node]
        tree[key] = value
        if value is None:
            del tree[key]

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (put("varients", []), "study.yaml has a key varients, which doesn't exist: did you mean variants?"),
        (put("variants", []), "variants in study.yaml is .*; it must be a list"),
        (put("metric", None), "metric in study.yaml is None; it must name a number"),
        (put("base", "none.yaml"), "none.yaml, the configuration of variant from scratch in study.yaml, doesn't exist"),
        (put("base", None), "config of variant from scratch in study.yaml is None; it must"),
        (put("seeds", [1, 1]), "seeds of variant from scratch in study.yaml is .*; it must be different whole"),
        (put("seeds", None), "seeds of variant from scratch in study.yaml is None"),
        (put("shares", [0, 1]), "shares of variant from scratch in study.yaml is .*; it must be different numbers"),
        (
            put("set", {"SOLVER.MAX_ITERS": 1}),
            "SOLVER.MAX_ITERS, set in variant from scratch of study.yaml, doesn't exist",
        ),
        (put("set", {"SOLVER.BASE_LR": -1}), "variant from scratch of study.yaml: SOLVER.BASE_LR is -1"),
        (put("set", {"SEED": 1}), "set in study.yaml has SEED, which the study itself sets: use seeds"),
        (put("set", [1]), "set in study.yaml is .*; it must have lines of KEY: VALUE"),
        (put("variants", 1, "seed", 1), "variant from scratch in study.yaml has a key seed, .*did you mean seeds"),
        (put("variants", 1, "name", "../up"), "name of a variant in study.yaml is '../up'; it must"),
        (put("variants", 1, "name", "Pretrained"), "study.yaml has two variants of the name Pretrained"),
        (put("variants", 1, "weights", "none.pth"), "none.pth, the weights of variant from scratch in study.yaml"),
        (
            put("variants", 1, "weights", {"result": "x"}),
            "weights of variant from scratch in study.yaml is .*; it must be none",
        ),
        (
            put("variants", 1, "weights", {"result of": "x"}),
            "weights of variant from scratch in study.yaml is .* name one of",
        ),
        (put("variants", 1, "weights", {"result of": "from scratch"}), "lead back"),
        (put("variants", 0, "seeds", [4, 5]), r"weights of variant pretrained in study.yaml .*with all of \[1, 2\]"),
        (put("variants", 1, "in_table", "no"), "in_table of variant from scratch in study.yaml is 'no'"),
        (put("variants", 1, "config", "pretrain.yaml"), "variant from scratch of study.yaml: DATASETS.TRAIN_SHARE"),
    ],
)
def test_mistakes(write_study, change, message):
    if "TRAIN_SHARE" in message:  # what the check of training itself refuses
        inner = change

        def change(tree):
            inner(tree)
            tree["variants"][1]["set"] = {"DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}

        message = "variant from scratch of study.yaml: DATALOADER.SAMPLER_TRAIN is"
    with pytest.raises(InputError, match=message) as raised:
        read_study(write_study(change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["- 1", "!!python/object/apply:os.system [ls]", "a: [", ""])
def test_files_that_are_no_study(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError, match="study.yaml"):
        read_study(str(tmp_path / "study.yaml"))
