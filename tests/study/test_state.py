"""A run is what the study asks for, or it is refused and left alone."""

import pytest

from convmae_det.errors import InputError
from convmae_det.study.state import State, check_unchanged, compute_weights_fingerprint, read_state, write_state


@pytest.fixture
def begun(runs):
    """The pretrained run and its source, as training leaves them."""
    run = runs[2]
    for each in (run.source, run):
        each.folder.mkdir(parents=True)
        each.result.write_bytes(b"weights")
        cfg = each.cfg
        cfg.defrost()
        cfg.SOLVER.IMAGES_PER_EPOCH, cfg.DATALOADER.NUM_WORKERS = 4, 7
        (each.folder / "config.yaml").write_text(cfg.dump())
        write_state(each, State(True, 1.0, compute_weights_fingerprint(each)))
    return run


def test_what_a_run_finds_out_itself_is_no_change(begun):
    check_unchanged(begun)


def test_another_configuration_is_refused(begun):
    path = begun.folder / "config.yaml"
    path.write_text(path.read_text().replace("BASE_LR: 0.001\n", "BASE_LR: 0.002\n"))
    with pytest.raises(
        InputError, match="config.yaml, of a run .* has SOLVER.BASE_LR 0.002, but study.yaml now .* 0.001: "
    ):
        check_unchanged(begun)


def test_other_initial_weights_are_refused(begun):
    begun.source.result.write_bytes(b"others")
    check_unchanged(begun.source)
    with pytest.raises(InputError, match="started from other weights than .*pretraining.*model_final.pth"):
        check_unchanged(begun)


def test_a_run_without_its_result_is_not_finished(begun):
    assert read_state(begun).finished
    begun.result.unlink()
    assert read_state(begun) == State(False, 1.0, compute_weights_fingerprint(begun))


@pytest.mark.parametrize("text", ["", "[]", '{"finished": true}', '{"finished": 1, "seconds": "x", "weights": ""}'])
def test_a_damaged_state_is_that_of_an_unfinished_run(begun, text):
    (begun.folder / "study_run.json").write_text(text)
    assert read_state(begun) == State()
