"""Files and bytes: compressed weights, compressed models, tensors of ONNX files.

Reading and writing here needs no session.
It imports `graph` only.
"""
