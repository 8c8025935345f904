"""One policy decides what fits, for weights that begin a run, are evaluated, resume it or are its average."""

import copy
import re

import pytest
import torch
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, detector_cfg, randomise

from convmae_det import create_encoder
from convmae_det.checkpoint import Strictness, load_weights
from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.conversion import to_official
from convmae_det.cli import convert
from convmae_det.errors import InputError

ENCODER = "backbone.bottom_up.encoder."
TABLE = f"{ENCODER}stage3.position_embedding.table"
LOCAL_BIAS = f"{ENCODER}stage3.local_bias.table"
LAST_BLOCK = f"{ENCODER}stage3.blocks.2."


@pytest.fixture(scope="module")
def detector():
    """With batch norm in its pyramid."""
    return randomise(build_model(detector_cfg("MODEL.FPN.NORM", "BN")))


@pytest.fixture(scope="module")
def without_bias():
    return build_model(detector_cfg("MODEL.FPN.NORM", "BN", "MODEL.CONVMAE.RELATIVE_POSITION", "none"))


def without(pattern):
    return lambda state: {name: tensor for name, tensor in state.items() if not re.search(pattern, name)}


def changed(name, change):
    return lambda state: state | {name: change(state[name])}


def one_more_block(state):
    return state | {name.replace(".2.", ".3."): value for name, value in state.items() if name.startswith(LAST_BLOCK)}


def fewer_classes(state):
    pattern = r"cls_score|box_predictor\.bbox_pred|mask_head\.predictor"
    return state | {name: value[:2] for name, value in state.items() if re.search(pattern, name)}


def twice_as_wide(table):
    return table.repeat(1, 2, 2, 1)


# What is done to a file, and the strictness up to which it is loaded nevertheless.
CHANGES = {
    "nothing": (dict, Strictness.EXACT),
    "more beside the model": (lambda state: state | {"criterion.weight": torch.ones(3)}, Strictness.EXACT),
    "no counters of batches": (without("num_batches_tracked"), Strictness.EXACT),
    "buffers of old versions": (lambda state: state | {"pixel_mean": torch.ones(3, 1, 1)}, Strictness.EXACT),
    "a table of another grid": (changed(TABLE, twice_as_wide), Strictness.WHOLE),
    "no bias": (without("bias.table"), Strictness.ENCODER),
    "no mask head": (without("mask_head"), Strictness.ENCODER),
    "other classes": (fewer_classes, Strictness.ENCODER),
    "part of a head": (without("mask_head.predictor.bias"), None),
    "no last block": (without(re.escape(LAST_BLOCK)), None),
    "one more block": (one_more_block, None),
    "another width": (changed(f"{ENCODER}stage1.patch_embed.proj.bias", lambda bias: bias[1:]), None),
    "a table of several": (changed(TABLE, lambda table: torch.cat([table, table])), None),
    "a table of nothing": (changed(TABLE, lambda table: table[:, :0]), None),
    "whole numbers in the encoder": (changed(f"{LAST_BLOCK}norm1.weight", torch.Tensor.long), None),
    "whole numbers in a table": (changed(TABLE, lambda table: (1e9 * table).int()), None),
    "whole numbers in a head": (changed("roi_heads.box_head.fc1.weight", torch.Tensor.bool), None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_each_strictness_refuses(detector, tmp_path, change):
    """All or nothing; a run is resumed as strictly as EXACT says."""
    make, strictest = CHANGES[change]
    path, saved = tmp_path / "weights.pth", make(dict(detector.state_dict()))
    torch.save({"model": saved, "iteration": 3}, path)
    loaders = [(level, lambda model, level=level: load_weights(model, path, strictness=level)) for level in Strictness]
    loaders.append((Strictness.EXACT, lambda model: Checkpointer(model).load(str(path))))
    for level, load in loaders:
        model = copy.deepcopy(detector)
        for tensor in model.state_dict().values():
            tensor.zero_()
        if strictest is not None and level <= strictest:
            load(model)
            for name, tensor in model.state_dict().items():
                if name in saved and tensor.shape == saved[name].shape:
                    assert torch.equal(tensor, saved[name]), name
        else:
            with pytest.raises(InputError, match=str(path)):
                load(model)
            assert not any(tensor.any() for tensor in model.state_dict().values())


def test_a_bias_that_was_trained_is_not_left_out_of_an_evaluation(detector, without_bias, tmp_path):
    torch.save({"model": detector.state_dict()}, tmp_path / "weights.pth")
    load_weights(without_bias, tmp_path / "weights.pth")
    for level in (Strictness.WHOLE, Strictness.EXACT):
        with pytest.raises(InputError, match="local_bias.table: not in the model"):
            load_weights(without_bias, tmp_path / "weights.pth", strictness=level)


@pytest.mark.parametrize("lacks", [False, True])
def test_weights_for_other_classes_are_not_said_to_be_lacking(detector, tmp_path, lacks):
    state = fewer_classes(dict(detector.state_dict()))
    left_out = sum("rpn_head" in name for name in state)
    if lacks:
        state = without("rpn_head")(state)
    torch.save({"model": state}, tmp_path / "weights.pth")
    with pytest.raises(InputError) as caught:
        load_weights(detector, tmp_path / "weights.pth", strictness=Strictness.WHOLE)
    sentence = str(caught.value)
    assert "box_predictor.cls_score.weight is for another number of classes: 2 outputs, 5 in the model" in sentence
    assert (
        re.findall(r"lacks (\d+) weights, such as (\w+)", sentence) == [(str(left_out), "proposal_generator")] * lacks
    )


def test_a_fixed_table_takes_the_grid_of_the_file_when_resumed(tmp_path):
    """And nothing else of another shape."""
    one, other = (build_model(autoencoder_cfg("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", size)) for size in (64, 96))
    Checkpointer(randomise(other), str(tmp_path)).save("model_1")
    Checkpointer(one).load(str(tmp_path / "model_1.pth"))
    assert one.encoder.stage3.position_embedding.table.shape == (1, 6, 6, 16)
    assert one.decoder.position_embedding.table.shape == (1, 6, 6, 16)
    assert not [name for name, tensor in other.state_dict().items() if not torch.equal(tensor, one.state_dict()[name])]
    torch.save({"model": without("decoder.pos")(other.state_dict())}, tmp_path / "model_2.pth")
    with pytest.raises(InputError, match=r"decoder\.position_embedding\.table: not in the file"):
        Checkpointer(one).load(str(tmp_path / "model_2.pth"))


def test_tables_that_a_run_would_have_to_resize_are_named(detector, tmp_path):
    Checkpointer(detector, str(tmp_path)).save("model_1")
    larger = build_model(detector_cfg("MODEL.FPN.NORM", "BN", "MODEL.CONVMAE.IMAGE_SIZE", 96))
    with pytest.raises(InputError, match=re.escape(f"{TABLE}: 1×4×4×16 in the file, 1×6×6×16 in the model; ")):
        Checkpointer(larger).load(str(tmp_path / "model_1.pth"))


@pytest.mark.parametrize("name", ["encoder.stage2.blocks.0.depthwise.weight", "decoder.blocks.0.attn.qkv.weight"])
@pytest.mark.parametrize("layout", ["ours", "published"])
def test_whole_numbers_are_refused_by_name_however_weights_are_used(tmp_path, name, layout):
    model = build_model(autoencoder_cfg())
    state = model.state_dict()
    state[name] = (1e9 * state[name]).long()
    path, target = tmp_path / "weights.pth", str(tmp_path / "converted.pth")
    torch.save({"model": state if layout == "ours" else to_official(state)}, path)
    uses = [lambda: load_weights(model, path), lambda: convert.main([str(path), target, "--to", "official"])]
    if name.startswith("encoder."):
        arch = {"num_heads": 2, "embed_dims": (8, 12, 16), "depths": (1, 1, 3), "mlp_ratios": (2, 2, 2)}
        uses += [lambda: create_encoder(arch, path), lambda: convert.main([str(path), target])]
    for use in uses:
        with pytest.raises(InputError, match=rf"{name}: torch.int64 in the file"):
            use()
    assert list(tmp_path.iterdir()) == [path]
