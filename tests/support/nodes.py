"""Graphs of one node, for what is asked of a single operator."""

import numpy as np

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value

C = True
"""Before the sizes of a constant input."""


def one_node(op_type, inputs, output, attributes=None, *, arrays=None, domain="", version=22, dtypes=None):
    """A graph of one node, and the node.

    `inputs` are shapes, (C, *sizes) of constants, None of missing ones; `output` is a shape. `arrays` maps indices of constant inputs to
    arrays (else they are zeros), `dtypes` maps indices of inputs to element types (else float32).
    """
    names = ["" if shape is None else f"x{i}" for i, shape in enumerate(inputs)]
    shapes = {name: shape for name, shape in zip(names, inputs, strict=True) if name}
    constants = {name: np.zeros(shape[1:], np.float32) for name, shape in shapes.items() if shape and shape[0] is C}
    constants |= {names[i]: np.asarray(array) for i, array in (arrays or {}).items()}
    shapes |= {name: array.shape for name, array in constants.items()} | {"y": output}
    types = {names[i]: dtype for i, dtype in (dtypes or {}).items()}
    values = {name: Value(name, types.get(name, FLOAT), shape) for name, shape in shapes.items()}
    node = Node(0, "", op_type, domain, version, tuple(names), ("y",), attributes or {})
    free = tuple(name for name in names if name and name not in constants)
    return Graph((node,), values, frozenset(constants), constants.__getitem__, free, ("y",)), node
