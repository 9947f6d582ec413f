"""Files and bytes: compressed weights, compressed models, tensors of ONNX files.

Nothing here needs a session.
It imports `graph`, `files` and `framed` only.
"""
