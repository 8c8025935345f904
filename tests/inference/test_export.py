"""Exported detectors find what the model finds in eager mode, in images of every size, without this project."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reference.small import detector_cfg, randomise

from convmae_det.errors import InputError
from convmae_det.inference.export.detector import OUTPUTS, ExportableDetector, compare_detections, describe_detector
from convmae_det.inference.export.onnx import build_onnx_runner, to_onnx
from convmae_det.inference.export.torchscript import build_torchscript_runner, to_torchscript
from convmae_det.inference.export.tracing import DESCRIPTION, suppress_tracing_warnings

FEW = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 10)
KINDS = {
    "mask R-CNN": (),
    "cascade of boxes alone": (
        *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
        *("MODEL.MASK_ON", False),
        *("MODEL.CONVMAE.RELATIVE_POSITION", "none"),
    ),
    "simple feature pyramid": (
        *("MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone"),
        *("MODEL.CONVMAE.OUT_FEATURES", ["e3"]),
        *("MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"),
        *("MODEL.CONVMAE.SQUARE_PAD", 64),
    ),
}
TRACED_ON = (64, 64)
TEXT = '{"classes": []}'
SIZES = [(40, 64), (61, 33)]  # of whose grids the first is the tables' own, and the second smaller


def image_of(size, seed=0) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@functools.cache
def exported(kind: str, format: str) -> tuple[ExportableDetector, bytes]:
    detector = detector_of(*KINDS[kind])
    write = to_onnx if format == "onnx" else to_torchscript
    return detector, write(detector, image_of(TRACED_ON), TEXT)


def detector_of(*options) -> ExportableDetector:
    with suppress_tracing_warnings():
        torch.manual_seed(0)
        model = build_model(detector_cfg(*FEW, *options))
    randomise(model.backbone)
    return ExportableDetector(model)


def assert_same(detector, run, sizes=SIZES) -> None:
    for size in sizes:
        image = image_of(size, seed=size[0])
        with suppress_tracing_warnings():
            expected, found = detector(image), run(image)
        comparison = compare_detections(expected, found)
        assert comparison.expected == comparison.found == comparison.paired > 0, (size, comparison)
        assert comparison.agrees, (size, comparison)
        assert [a.dtype for a in expected] == [b.dtype for b in found]


@pytest.mark.parametrize("kind", KINDS)
def test_torchscript_finds_the_same_at_every_size(kind):
    detector, content = exported(kind, "torchscript")
    assert_same(detector, build_torchscript_runner(content, "cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_finds_the_same_at_every_size(kind):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    detector, content = exported(kind, "onnx")
    assert_same(detector, build_onnx_runner(content))
    model = onnx.load_from_string(content)
    assert {node.domain for node in model.graph.node} == {""}  # standard operators
    assert [output.name for output in model.graph.output] == list(OUTPUTS[: 3 + ("alone" not in kind)])


def test_a_trace_on_a_grid_without_padding_serves_those_with_it():
    """A trace of one 3×3 window, on the grid that all tables are built for: nothing to mask, to resize or to cut."""
    detector = detector_of("MODEL.CONVMAE.IMAGE_SIZE", 96, "MODEL.CONVMAE.WINDOW_SHIFT", False)
    content = to_torchscript(detector, image_of((96, 96)), "{}")
    assert_same(detector, build_torchscript_runner(content, "cpu"), [(64, 64), (128, 160)])


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_an_image_in_which_nothing_is_found(format):
    detector = detector_of("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.999)
    if format == "onnx":
        pytest.importorskip("onnxruntime")
        run = build_onnx_runner(to_onnx(detector, image_of(TRACED_ON), "{}"))
    else:
        run = build_torchscript_runner(to_torchscript(detector, image_of(TRACED_ON), "{}"), "cpu")
    assert [list(output.shape) for output in run(image_of((64, 40)))] == [[0, 4], [0], [0], [0, 28, 28]]


ALONE = """
import sys, {modules}
image = np.load({image!r})
{run}
np.savez({result!r}, *[np.asarray(output) for output in outputs])
assert not [name for name in sys.modules if name.startswith(("detectron2", "convmae_det"))]
"""


def run_alone(python, tmp_path, modules, run, image) -> list[torch.Tensor]:
    """What a process of `python` gives that imports `modules` and runs the lines `run`."""
    np.save(tmp_path / "image.npy", image.numpy())
    result = tmp_path / "result.npz"
    code = ALONE.format(modules=modules, image=str(tmp_path / "image.npy"), run=run, result=str(result))
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
    return [torch.from_numpy(array) for array in np.load(result).values()]


def test_torchscript_needs_torch_and_torchvision_alone(python, tmp_path):
    (detector, content), path = exported("mask R-CNN", "torchscript"), tmp_path / "detector.pt"
    path.write_bytes(content)
    lines = (
        f"extra = {{{DESCRIPTION!r}: ''}}\n"
        f"network = torch.jit.load({str(path)!r}, _extra_files=extra)\n"
        f"assert extra[{DESCRIPTION!r}] .decode() == {TEXT!r}\n"
        "with torch.no_grad(): outputs = network(torch.from_numpy(image))"
    )
    modules = "torch, torchvision, numpy as np"
    assert_same(detector, lambda image: run_alone(python, tmp_path, modules, lines, image), SIZES[1:])


def test_onnx_needs_onnxruntime_alone(tmp_path):
    pytest.importorskip("onnxruntime")
    (detector, content), path = exported("mask R-CNN", "onnx"), tmp_path / "detector.onnx"
    path.write_bytes(content)
    lines = (
        f"session = onnxruntime.InferenceSession({str(path)!r}, providers=['CPUExecutionProvider'])\n"
        f"assert session.get_modelmeta().custom_metadata_map[{DESCRIPTION!r}] == {TEXT!r}\n"
        "outputs = session.run(None, {'image': image})\n"
        "assert 'torch' not in sys.modules"
    )
    modules = "onnxruntime, numpy as np"
    assert_same(detector, lambda image: run_alone(sys.executable, tmp_path, modules, lines, image), SIZES[1:])


@pytest.mark.parametrize("kind", ["mask R-CNN", "cascade of boxes alone"])
def test_the_documented_programs_serve_every_detector(kind, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    text = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    programs = [code for code in re.findall(r"```python cpu\n(.*?)```", text, re.DOTALL) if "detector." in code]
    about = json.dumps({"channels": "RGB", "min_size": 64, "max_size": 96, "classes": ["a", "b", "c", "d"]})
    monkeypatch.chdir(tmp_path)
    for format, write in (("onnx", to_onnx), ("torchscript", to_torchscript)):
        (tmp_path / f"detector.{format}").write_bytes(write(exported(kind, format)[0], image_of(TRACED_ON), about))
    (tmp_path / "datasets/shapes/val").mkdir(parents=True)
    Image.fromarray(image_of((64, 64)).permute(1, 2, 0).numpy()).save("datasets/shapes/val/1.png")
    assert len(programs) == 2
    exec("\n".join(programs), {})
    lines, masks = capsys.readouterr().out.splitlines(), kind == "mask R-CNN"
    assert len([line for line in lines if ": box [" in line]) == 10
    (pixels,) = (line for line in lines if line.startswith("pixels of each mask: "))
    assert len(re.findall(r"\d+", pixels)) == 10 * masks
    assert (lines[-1] == "(10, 64, 64)") == masks


def test_the_description_says_what_a_program_needs():
    cfg = detector_cfg("DATASETS.CATEGORIES", [[7, "cat"], [90, "dog"]], "INPUT.FORMAT", "BGR")
    text = json.loads(describe_detector(cfg))
    assert text == {"channels": "BGR", "min_size": 64, "max_size": 64, "classes": ["cat", "dog"]}


@pytest.mark.parametrize("options", [("MODEL.META_ARCHITECTURE", "RetinaNet"), ("MODEL.KEYPOINT_ON", True)])
def test_what_is_not_exported_is_refused(options):
    with pytest.raises(InputError, match="only detectors with boxes and masks"):
        detector_of(*options)


def test_a_network_too_large_for_onnx_is_refused(monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr("convmae_det.inference.export.onnx.MAX_ONNX_BYTES", 1000)
    with pytest.raises(InputError, match="more than ONNX can hold"):
        to_onnx(detector_of(), image_of(TRACED_ON), "{}")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="needs the package onnxruntime.*pip install onnx onnxruntime"):
        build_onnx_runner(b"")


@st.composite
def detections(draw):
    """Some detections, no two of one class at one place."""
    places = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60, unique=True))
    corners, classes = torch.tensor(places, dtype=torch.float32).T
    boxes = torch.stack([corners, corners, corners + 5, corners + 7], dim=1) * 10
    scores = torch.rand(len(places))
    return boxes, classes.long(), scores, torch.rand(len(places), 4, 4)


@settings(max_examples=40)
@given(detections(), st.randoms(use_true_random=False))
def test_order_does_not_matter_to_the_comparison(found, random):
    order = list(range(len(found[0])))
    random.shuffle(order)
    comparison = compare_detections(found, [output[order] for output in found])
    assert comparison == (len(order), len(order), len(order), 0, 0, 0) and comparison.agrees


@settings(max_examples=40)
@given(detections(), st.integers(0, 59), st.sampled_from(["boxes", "classes", "scores", "masks", "missing"]))
def test_every_difference_shows_in_the_comparison(found, index, what):
    index %= len(found[0])
    other = [output.clone() for output in found]
    if what == "missing":
        other = [torch.cat([output[:index], output[index + 1 :]]) for output in other]
    elif what == "classes":
        other[1][index] = 3
    else:
        other[OUTPUTS.index(what)][index] += 0.5
    comparison = compare_detections(found, other)
    if what in ("missing", "classes"):
        assert comparison.paired == len(found[0]) - 1
        assert comparison.agrees == (len(found[0]) >= 50)
    else:
        assert getattr(comparison, what) == pytest.approx(0.5, abs=1e-4) and not comparison.agrees


def test_the_comparison_without_masks_or_detections():
    boxes, classes, scores, _ = (torch.zeros(2, *shape) for shape in ((4,), (), (), (1, 1)))
    none = [tensor[:0] for tensor in (boxes, classes, scores)]
    assert compare_detections(none, none).agrees
    assert not compare_detections([boxes, classes, scores], none).agrees
    assert compare_detections(none, none).masks is None
