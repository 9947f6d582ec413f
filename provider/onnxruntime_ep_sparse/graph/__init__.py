"""The graph that everything after reading works on: `ir.py`, and weights by their nonzeros.

It knows ONNX's element types and nothing of ONNX Runtime's C objects.
It imports no other folder of this package.
"""
