"""ONNX: files that any runtime of ONNX runs."""

import importlib
import tempfile
from pathlib import Path
from types import ModuleType

import torch

from ...errors import InputError
from .tracing import DESCRIPTION, Runner, TraceableNetwork, suppress_tracing_warnings

OPSET = 17
MAX_ONNX_BYTES = 2**31 - 2**24  # of parameters: a protobuf file ends at 2 GiB


def to_onnx(network: TraceableNetwork, example: torch.Tensor, text: str) -> bytes:
    """Traces the network on an input of it, both on the CPU, as standard operators.

    Returns:
        The file's content, with `text` in it.

    Raises:
        InputError: ONNX isn't installed, or the network is too large for one file.
    """
    onnx = import_onnx("onnx")
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > MAX_ONNX_BYTES:
        raise InputError(
            f"the network has {size / 2**30:.1f} GiB of weights, more than ONNX can hold in a file: "
            "export it as TorchScript"
        )
    inputs, outputs = network.input_axes, network.output_axes
    with tempfile.TemporaryDirectory() as folder, suppress_tracing_warnings():
        path = str(Path(folder, "network.onnx"))
        torch.onnx.export(
            network, (example,), path, input_names=list(inputs), output_names=list(outputs),
            dynamic_axes=inputs | outputs, opset_version=OPSET,
            dynamo=False,  # the newer exporter refuses counts that depend on the data
        )  # fmt: skip
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {DESCRIPTION: text})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def build_onnx_runner(content: bytes) -> Runner:
    """Builds a function that runs an exported file on the CPU.

    Raises:
        InputError: onnxruntime isn't installed.
    """
    onnxruntime = import_onnx("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only: it warns about every constant that it folds
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (taken,) = (argument.name for argument in session.get_inputs())
    return lambda example: [torch.from_numpy(output) for output in session.run(None, {taken: example.cpu().numpy()})]


def import_onnx(name: str) -> ModuleType:
    """Imports the package onnx or onnxruntime.

    Raises:
        InputError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package {name}, which can't be imported ({error}): pip install onnx onnxruntime"
        ) from error
