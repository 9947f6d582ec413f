"""The version of the wheel and of the provider: plain SemVer, which ONNX Runtime insists on."""

__version__ = "0.1.0"
