"""Prunes dense models from calibration data alone: ONNX in, ONNX out.

It goes through a model layer by layer, chooses the weights that become zero and refits the others against the dense model's outputs.
It needs onnx, onnxruntime, scipy and threadpoolctl.
"""
