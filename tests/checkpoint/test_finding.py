"""Weights are found wherever they lie in a file, and one of several encoders is never chosen silently."""

import re

import pytest
import torch
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, detector_cfg, randomise
from torch import nn
from torch.optim.swa_utils import AveragedModel

from convmae_det import create_encoder
from convmae_det.checkpoint import Strictness, load_weights
from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.conversion import to_official
from convmae_det.checkpoint.finding import iterate_state_dicts
from convmae_det.checkpoint.inspection import describe_file
from convmae_det.errors import InputError

HEADS = {"num_heads": 2, "embed_dims": (8, 12, 16), "depths": (1, 1, 3), "mlp_ratios": (2, 2, 2)}


@pytest.fixture(scope="module")
def model():
    return randomise(build_model(autoencoder_cfg()))


@pytest.fixture(scope="module")
def other():
    return randomise(build_model(autoencoder_cfg()), seed=1)


@pytest.fixture(scope="module")
def fresh():
    return build_model(autoencoder_cfg())


@pytest.fixture
def loaded(fresh, tmp_path):
    """loaded(content): the report on a file with this content, and the state of a model that has loaded it."""
    initial = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}

    def loaded(content, **options):
        torch.save(content, tmp_path / "weights.pth")
        return load_weights(fresh, tmp_path / "weights.pth", **options), fresh.state_dict()

    yield loaded
    fresh.load_state_dict(initial)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert not [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def within(pattern, wrapper, state):
    """The names with `wrapper` behind what `pattern` finds in them."""
    return {re.sub(pattern, rf"\g<0>{wrapper}", name): tensor for name, tensor in state.items()}


# --- prefixes

PREFIXES = ["model.", "net.", "student.", "module.", "_orig_mod.module.", "_fsdp_wrapped_module.", "0.", "encoder."]
PREFIXES += ["backbone.", "encoder.encoder.", "model.backbone."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", ["ours", "published"])
def test_any_prefix_is_found_and_reported(loaded, model, prefix, layout):
    state = model.state_dict()
    saved = state if layout == "ours" else to_official(state)
    report, found = loaded({"model": under(prefix, saved) | {"criterion.weight": torch.ones(3)}})
    assert_equal(found, state)
    assert f"pretraining checkpoint under {prefix[:-1]}, " in str(report)
    assert not report.new and list(report.left_out) == ["criterion.weight"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_encoder_alone_is_found_behind_any_prefix(loaded, model, prefix):
    state = model.encoder.state_dict()
    report, found = loaded(under(prefix, state))
    assert_equal({name: found[f"encoder.{name}"] for name in state}, state)
    assert "detector" not in str(report).splitlines()[0] and {part.split(".")[0] for part in report.new} == {
        "decoder",
        "fusion",
    }


@pytest.mark.parametrize(
    "pattern, wrapper",
    [
        (r"blocks\.\d+\.", "_checkpoint_wrapped_module."),
        (r"^encoder\.(stage\d\.)?", "_fsdp_wrapped_module."),
        (r"(^|patch_embed\.)", "_orig_mod."),
        (r"proj\.", "module.module."),
    ],
)
def test_wrappers_are_passed_over_anywhere_in_names(loaded, model, pattern, wrapper):
    saved = within(pattern, wrapper, model.state_dict())
    assert saved.keys() != model.state_dict().keys()
    _, found = loaded(saved)
    assert_equal(found, model.state_dict())


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_wrapped_models_give_and_take(loaded, model, fresh, wrap, tmp_path):
    report, found = loaded({"model": wrap(model).state_dict(), "epoch": 1})
    assert_equal(found, model.state_dict())
    assert "under module," in str(report) and set(report.left_out) <= {"epoch", "n_averaged"}
    torch.save({"model": model.state_dict()}, tmp_path / "plain.pth")
    wrapped = wrap(build_model(autoencoder_cfg()))
    load_weights(wrapped, tmp_path / "plain.pth")
    assert_equal(wrapped.module.state_dict(), model.state_dict())


def test_names_that_differ_in_a_wrapper_alone_stay_apart(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.module = nn.Linear(2, 2), nn.ModuleDict({"encoder": nn.Linear(2, 2)})

    one, another = Twice(), Twice()
    Checkpointer(one, str(tmp_path)).save("model_1")
    Checkpointer(another).load(str(tmp_path / "model_1.pth"))
    assert_equal(another.state_dict(), one.state_dict())


def test_a_classifier_on_our_encoder_is_no_detector(model, tmp_path):
    """Its encoder is taken as it is, and the whole of it comes back into the same classifier."""

    def classifier():
        return nn.ModuleDict({"backbone": create_encoder(HEADS), "head": nn.Linear(16, 5)})

    path, trained, again = tmp_path / "classifier.pth", randomise(classifier()), classifier()
    torch.save(trained.state_dict(), path)
    assert describe_file(path)["kind"] == "encoder" and describe_file(path)["under"] == "backbone"
    encoder = create_encoder(HEADS, path)
    assert_equal(encoder.state_dict(), trained["backbone"].state_dict())
    report = load_weights(again, path, strictness=Strictness.EXACT)
    assert_equal(again.state_dict(), trained.state_dict())
    assert not report.left_out


def test_a_teacher_and_a_student_that_are_detectors(tmp_path):
    """As semi-supervised detection saves them: heads and all."""
    teacher, student, detector = (randomise(build_model(detector_cfg()), seed) for seed in range(3))
    content = under("modelTeacher.", teacher.state_dict()) | under("modelStudent.", student.state_dict())
    torch.save({"model": content, "iteration": 3}, tmp_path / "both.pth")
    report = load_weights(detector, tmp_path / "both.pth", key="modelTeacher", strictness=Strictness.WHOLE)
    assert_equal(detector.state_dict(), teacher.state_dict())
    assert "detector with FPN under modelTeacher, " in str(report)
    assert {name.split(".")[0] for name in report.left_out} == {"modelStudent", "iteration"}


# --- dictionaries

KEYS = ["model", "state_dict", "model_state_dict", "module", "model_ema", "state_dict_ema", "ema", "teacher", "student"]


@pytest.mark.parametrize("key", KEYS)
def test_any_key_of_the_file_is_found(loaded, model, key):
    report, found = loaded({key: model.state_dict(), "optimizer": {"state": {0: torch.ones(3)}}, "epoch": 3})
    assert_equal(found, model.state_dict())
    assert set(report.left_out) == {"optimizer", "epoch"}
    assert (f"under {key}," in str(report)) == (key not in KEYS[:4])


def test_dictionaries_in_dictionaries(loaded, model):
    _, found = loaded({"app": {"model": model.state_dict(), "optimizer": {}}})
    assert_equal(found, model.state_dict())


def test_the_model_comes_before_its_averages(loaded, model, other):
    """As it does in our own checkpoints; with a key the average is taken."""
    average = AveragedModel(other).state_dict()
    for content, key in [
        ({"model_ema": other.state_dict(), "model": model.state_dict()}, "model_ema"),
        ({"state_dict": model.state_dict(), "state_dict_ema": other.state_dict()}, "state_dict_ema"),
        ({"model": model.state_dict(), "trainer": {"_trainer": {"average": average}}}, "average"),
    ]:
        assert_equal(loaded(content)[1], model.state_dict())
        assert_equal(loaded(content, key=key)[1], other.state_dict())


@pytest.mark.parametrize("nested", [False, True])
def test_several_encoders_are_named_and_one_is_taken_by_its_key(loaded, model, other, nested):
    states = {"student": model.state_dict(), "teacher": other.state_dict()}
    inside = under("student.", states["student"]) | under("teacher.", states["teacher"])
    content = {"model": inside} if nested else states
    with pytest.raises(InputError) as refusal:
        loaded(content)
    assert re.search(
        r"weights\.pth holds 2 encoders, at .*student.*, .*teacher.*: take .*--key \S+$", str(refusal.value)
    )
    suggested = str(refusal.value).rpartition(" ")[2]
    assert_equal(loaded(content, key=suggested)[1], model.state_dict())
    for key, state in states.items():
        report, found = loaded(content, key=key)
        assert_equal(found, state)
        assert f"under {key}," in str(report)
    with pytest.raises(InputError, match="no encoder at tutor, but at .*student"):
        loaded(content, key="tutor")


def test_an_encoder_at_the_top_is_named_too(loaded, model, other):
    content = model.state_dict() | {"teacher": other.state_dict()}
    with pytest.raises(InputError, match="2 encoders, at encoder, teacher.encoder: "):
        loaded(content)
    assert_equal(loaded(content, key="encoder")[1], model.state_dict())
    content = model.encoder.state_dict() | {"teacher": other.encoder.state_dict()}
    with pytest.raises(InputError, match="2 encoders, at top, teacher: "):
        loaded(content)
    assert torch.equal(loaded(content, key="top")[1]["encoder.norm.bias"], model.encoder.norm.bias)


def test_the_same_encoder_at_two_names_is_two(loaded, model, other):
    """A momentum encoder beside the one that it follows: the whole place is the key."""
    content = under("encoder.", model.encoder.state_dict()) | under("momentum.encoder.", other.encoder.state_dict())
    with pytest.raises(InputError, match="2 encoders, at encoder, momentum.encoder"):
        loaded(content)
    for key, source in [("encoder", model), ("momentum", other)]:
        _, found = loaded(content, key=key)
        assert torch.equal(found["encoder.norm.weight"], source.encoder.norm.weight)


def test_a_dictionary_that_holds_itself_ends():
    content = {"a": torch.ones(1)}
    content["itself"] = content
    assert len(list(iterate_state_dicts(content))) == 1
