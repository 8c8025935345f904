"""Networks as files that run without this project and Detectron2: ONNX and TorchScript.

`detector` and `encoder` say what goes in and comes out, `onnx` and `torchscript` write it.
"""
