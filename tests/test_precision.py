"""What precision is chosen for, on machines of every kind, and what it leaves in float32."""

import logging
import platform

import pytest
import torch
from detectron2.modeling import build_model
from reference.small import annotated_image, detector_cfg, randomise
from torch.testing import assert_close

from convmae_det import precision
from convmae_det.errors import InputError
from convmae_det.precision import choose_evaluation_precision, choose_training_precision

GPUS = {"Tesla T4": (7, 5), "NVIDIA A100": (8, 0), "NVIDIA H100": (9, 0)}
MACHINES = ("old processor", "new processor", *GPUS)


@pytest.fixture
def on(monkeypatch):
    """``on(machine, KEY, value, …)``: the configuration of a detector on a machine of MACHINES."""

    def on(machine, *options):
        monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: machine == "new processor")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: GPUS[machine])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: machine)
        return detector_cfg("MODEL.DEVICE", "cuda" if machine in GPUS else "cpu", *options)

    return on


def amp(dtype):
    return ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", dtype)


# --- the decision

AUTO = [
    ("old processor", None, "float32, because this processor has no bfloat16 instructions"),
    ("new processor", torch.bfloat16, "bfloat16, which this processor has"),
    ("Tesla T4", torch.float16, "float16, because Tesla T4 has no bfloat16 instructions"),
    ("NVIDIA A100", torch.bfloat16, "bfloat16, which NVIDIA A100 has"),
    ("NVIDIA H100", torch.bfloat16, "bfloat16, which NVIDIA H100 has"),
]


@pytest.mark.parametrize(("machine", "dtype", "sentence"), AUTO)
def test_auto_takes_what_the_machine_has(on, machine, dtype, sentence):
    chosen = choose_training_precision(on(machine, "SOLVER.AMP.ENABLED", True))
    assert (chosen.dtype, str(chosen), chosen.cost) == (dtype, f"{sentence} (SOLVER.AMP.DTYPE auto)", "")
    assert choose_evaluation_precision(on(machine, "SOLVER.AMP.ENABLED", True)) == chosen
    chosen = choose_evaluation_precision(on(machine, "TEST.PRECISION", "auto"))
    assert (chosen.dtype, str(chosen), chosen.cost) == (dtype, f"{sentence} (TEST.PRECISION auto)", "")


@pytest.mark.parametrize("machine", MACHINES)
def test_without_mixed_precision_it_is_float32(on, machine):
    for choose in (choose_training_precision, choose_evaluation_precision):
        chosen = choose(on(machine, "SOLVER.AMP.ENABLED", False, "SOLVER.AMP.DTYPE", "bfloat16"))
        assert str(chosen) == "float32, because SOLVER.AMP.ENABLED is False" and chosen.dtype is None
    chosen = choose_evaluation_precision(on(machine, *amp("auto"), "TEST.PRECISION", "float32"))
    assert str(chosen) == "float32, as TEST.PRECISION says" and chosen.dtype is None


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("key", "choose", "options"),
    [
        ("SOLVER.AMP.DTYPE", choose_training_precision, amp("bfloat16")),
        ("TEST.PRECISION", choose_evaluation_precision, ("TEST.PRECISION", "bfloat16")),
    ],
)
def test_what_is_asked_for_is_done_and_its_cost_is_named_once(on, caplog, machine, key, choose, options):
    chosen = choose(on(machine, *options))
    assert chosen.dtype == torch.bfloat16
    with caplog.at_level(logging.INFO, "convmae_det"):
        precision.log_precision(chosen)
    (line, *warnings) = caplog.records
    assert line.getMessage() == f"Precision: bfloat16, as {key} says" and line.levelno == logging.INFO
    instead = {"old processor": "float32", "Tesla T4": "float16"}
    assert len(warnings) == (machine in instead)
    for warning in warnings:
        assert warning.levelno == logging.WARNING
        for part in (f"{key} bfloat16 is emulated", "20 times", f"auto, which takes {instead[machine]} here"):
            assert part in warning.getMessage()


@pytest.mark.parametrize("machine", GPUS)
def test_float16_is_for_gpus(on, machine):
    assert choose_training_precision(on(machine, *amp("float16"))).dtype == torch.float16
    assert choose_evaluation_precision(on(machine, "TEST.PRECISION", "float16")).dtype == torch.float16


@pytest.mark.parametrize("machine", ["old processor", "new processor"])
def test_float16_is_refused_on_processors(on, machine):
    with pytest.raises(InputError, match=r"SOLVER\.AMP\.DTYPE float16 needs a GPU, but the device is cpu"):
        choose_training_precision(on(machine, *amp("float16")))
    with pytest.raises(InputError, match=r"TEST\.PRECISION float16 needs a GPU, but the device is cpu"):
        choose_evaluation_precision(on(machine, "TEST.PRECISION", "float16"))


@pytest.mark.parametrize("trained", ["bfloat16", "float16"])
@pytest.mark.parametrize("machine", MACHINES)
def test_what_another_machine_was_trained_in_is_never_emulated(on, machine, trained):
    """A checkpoint goes where it is used: there its precision is that of training or, for want of it, auto's."""
    chosen = choose_evaluation_precision(on(machine, *amp(trained)))
    native = machine in GPUS if trained == "float16" else machine not in ("old processor", "Tesla T4")
    automatic = choose_evaluation_precision(on(machine, *amp("auto")))
    assert not chosen.cost and chosen.dtype == (getattr(torch, trained) if native else automatic.dtype)


@pytest.mark.parametrize(
    ("choose", "options", "sentence"),
    [
        (
            choose_evaluation_precision,
            ("TEST.PRECISION", "half"),
            r"TEST\.PRECISION is 'half'; .*trained, auto, float32, ",
        ),
        (
            choose_training_precision,
            amp("half"),
            r"SOLVER\.AMP\.DTYPE is 'half'; it must be one of auto, bfloat16, float16",
        ),
        (choose_evaluation_precision, amp("half"), r"SOLVER\.AMP\.DTYPE is 'half'"),
        (choose_training_precision, amp("float32"), r"SOLVER\.AMP\.DTYPE is 'float32'"),
    ],
)
def test_other_names_are_refused(on, choose, options, sentence):
    with pytest.raises(InputError, match=sentence):
        choose(on("new processor", *options))


# --- the processor


@pytest.mark.parametrize("known_by", ["get_capabilities", "_is_avx512_bf16_supported"])
@pytest.mark.parametrize(
    ("architecture", "onednn", "instructions", "expected"),
    [
        ("x86_64", True, {"avx512_bf16": True}, True),
        ("x86_64", True, {"avx512_f": True, "avx512_bf16": False}, False),  # emulated by oneDNN
        ("AMD64", True, {"avx512_f": True, "avx512_bf16": False}, False),
        ("x86_64", False, {"avx2": True}, False),
        ("x86_64", None, {"avx512_bf16": True}, False),  # PyTorch without oneDNN
        ("aarch64", True, {"neon": True}, True),
        ("aarch64", False, {"neon": True}, False),
        ("arm64", None, {"neon": True}, False),
    ],
)
def test_a_processor_needs_instructions_and_onednn(monkeypatch, known_by, architecture, onednn, instructions, expected):
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn is not None)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn, raising=False)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    answer = instructions if known_by == "get_capabilities" else bool(instructions.get("avx512_bf16"))
    monkeypatch.setattr(torch.cpu, known_by, lambda: answer, raising=False)
    assert precision.processor_has_bfloat16() is expected


@pytest.mark.parametrize("instruction", precision.X86_BFLOAT16)
def test_any_instruction_for_bfloat16_will_do(monkeypatch, instruction):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instruction: True}, raising=False)
    assert precision.processor_has_bfloat16()


def test_this_processor_answers():
    assert precision.processor_has_bfloat16() in (True, False)


# --- what is read in float32

ALL_BOXES = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
DETECTORS = {
    "FPN": ALL_BOXES,
    "FPN without norm": (*ALL_BOXES, "MODEL.FPN.NORM", ""),
    "simple feature pyramid": (
        *(*ALL_BOXES, "MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone"),
        *("MODEL.CONVMAE.OUT_FEATURES", ["e3"], "MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"),
    ),
    "cascade": (
        *(*ALL_BOXES, "MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    ),
    "RetinaNet": (
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
        *("MODEL.RETINANET.NUM_CLASSES", 4, "MODEL.FPN.IN_FEATURES", ["e2", "e3", "e4"]),
    ),
    "Panoptic FPN": (
        *(*ALL_BOXES, "MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.NORM", "LN"),
    ),
}


@pytest.fixture(params=DETECTORS)
def detector(request):
    model = randomise(build_model(detector_cfg(*DETECTORS[request.param]))).eval()
    precision.keep_outputs_in_float32(model)
    return model


def found(model, dtype=None):
    with torch.no_grad(), precision.autocast("cpu", dtype):
        (result,) = model([annotated_image()])
    return result


def test_what_is_found_in_bfloat16_is_of_the_usual_types(detector):
    pooled_from, inside = [], []
    for name, module in detector.named_modules():
        if name.endswith("_pooler") and not name.endswith("level_pooler"):
            module.register_forward_hook(lambda module, inputs, output: pooled_from.extend(x.dtype for x in inputs[0]))
        if name.endswith("mlp"):
            module.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    result = found(detector, torch.bfloat16)
    instances = result["instances"]
    assert set(inside) == {torch.bfloat16} and set(pooled_from) <= {torch.float32}
    assert len(instances) > 5
    for values in (instances.scores, instances.pred_boxes.tensor):
        assert values.dtype == torch.float32 and values.isfinite().all()
        assert (values != values.bfloat16()).any(), "rounded to eight bits"
    if instances.has("pred_masks"):
        assert instances.pred_masks.dtype == torch.bool
    if "sem_seg" in result:
        assert result["sem_seg"].dtype == torch.float32


def test_in_float32_nothing_changes(detector):
    plain = found(detector)["instances"]
    for module in detector.modules():
        module._forward_hooks.clear()
    without = found(detector)["instances"]
    assert torch.equal(plain.scores, without.scores)
    assert torch.equal(plain.pred_boxes.tensor, without.pred_boxes.tensor)


@pytest.mark.parametrize(
    ("device", "key", "said", "set_to"),
    [
        ("cuda:1", "", ", float32 multiplied as TF32", ["high"]),
        ("cuda", "highest", ", FLOAT32_PRECISION highest", ["highest"]),
        ("cpu", "", "", []),
        ("cpu", "highest", "", []),
    ],
)
def test_a_gpu_multiplies_what_remains_in_float32_as_tf32(monkeypatch, device, key, said, set_to):
    called = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", called.append)
    assert precision.speed_up_float32(device, key) == said and called == set_to


def test_autocast_of_no_type_is_none():
    a, b = torch.randn(2, 4, 4)
    with precision.autocast(torch.device("cpu"), None):
        assert_close(a @ b, torch.mm(a, b), rtol=0, atol=0)
        assert not torch.is_autocast_enabled("cpu")
    with precision.autocast("cpu", torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
