"""The ONNX Runtime side: the plugin library, the reader of an `OrtGraph`, registration, compiled models' nodes, custom operators.

Nothing outside this folder touches ONNX Runtime's C interface.
It imports everything below, never `diagnostics`, `measure` or `cli`.
"""
