"""The nets that calibrate.py times: whole ones, and small ones of work that those have too little of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import recurrent
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse import models

NETS: tuple[tuple[str, float, int, str], ...] = (
    ("resnet50", 0.5, 1, "unstructured"),
    ("resnet50", 0.9, 1, "unstructured"),
    ("resnet50", 0.8, 3, "unstructured"),
    ("resnet50", 0.7, 1, "block4"),
    ("mobilenet_v1", 0.8, 1, "unstructured"),
    ("mobilenet_v1", 0.9, 1, "unstructured"),
    ("mobilenet_v1", 0.9, 8, "unstructured"),
    ("mobilenet_v2", 0.9, 1, "unstructured"),
    ("mobilenet_v2", 0.6, 3, "unstructured"),
    ("efficientnet_b0", 0.8, 1, "unstructured"),
    ("efficientnet_b0", 0.9, 3, "unstructured"),
    ("unet", 0.9, 1, "unstructured"),
    ("unet", 0.6, 1, "unstructured"),
    ("bert_base", 0.9, 1, "unstructured"),
    ("bert_base", 0.5, 1, "unstructured"),
    ("bert_base", 0.8, 3, "unstructured"),
    ("bert_base", 0.6, 1, "block4"),
    ("lstm", 0.9, 1, "unstructured"),
    ("lstm", 0.7, 8, "unstructured"),
    ("lstm", 0.6, 1, "unstructured"),
    ("lstm", 0.6, 3, "unstructured"),
    ("lstm", 0.8, 17, "unstructured"),
    ("lstm", 0.3, 4, "unstructured"),
    ("deep_speech", 0.9, 1, "unstructured"),
    ("gru", 0.5, 1, "unstructured"),
    ("gru", 0.8, 1, "unstructured"),
    ("gru", 0.9, 3, "unstructured"),
    ("gru", 0.7, 4, "unstructured"),
    ("gru", 0.6, 16, "unstructured"),
    ("streaming_lstm", 0.8, 1, "unstructured"),
    ("streaming_lstm", 0.9, 8, "unstructured"),
    ("mlp_policy", 0.9, 1, "unstructured"),
    ("mlp_policy", 0.8, 3, "unstructured"),
    ("mlp_policy", 0.7, 8, "unstructured"),
    ("mlp_policy", 0.7, 17, "unstructured"),
    ("mlp_policy", 0.9, 17, "unstructured"),
    ("mobilenet_v3", 0.8, 1, "unstructured"),
    ("mobilenet_v3", 0.9, 1, "unstructured"),
    ("nasnet_mobile", 0.8, 1, "unstructured"),
    ("nasnet_mobile", 0.6, 3, "unstructured"),
    ("convnext_tiny", 0.8, 1, "unstructured"),
    ("deeplab_v3", 0.8, 1, "unstructured"),
    ("r3d18", 0.8, 1, "unstructured"),
)
"""Builder, zeros, batch and pattern."""
ROWS = tuple(
    (rows, k, n, zeros)
    for rows in (1, 2, 3, 5, 8, 16, 17, 48)
    for k, n in ((64, 256), (256, 256), (512, 512), (768, 3072), (4096, 1024))
    for zeros in (0.6, 0.9)
)
"""Rows, depth, outputs and zeros of single matrix products."""
CELLS = tuple(
    (op_type, hidden, batch, zeros) for op_type, hidden in (("LSTM", 256), ("GRU", 64)) for batch in (1, 4, 16) for zeros in (0.6, 0.9)
)
"""Operator, hidden units, sequences and zeros of single recurrent nodes."""
CELL_TIMES = 32
SHARED_ROWS, SHARED_SIZE, SHARED_CHAIN = 4, 256, 32
"""Products that two threads share: rows, inputs and outputs, and how many in a chain."""


def workloads(only: list[str] | None) -> Iterator[tuple[str, Any, dict[str, np.ndarray], str]]:
    """Yield what is timed: its name, the model, its inputs, and the pattern of its zeros."""
    for net, zeros, batch, pattern in NETS:
        if only is None or net in only:
            model = models.BUILDERS[net](sparsity=zeros, pattern=pattern)
            yield f"{net} {zeros:.0%} {pattern} b{batch}", model, models.inputs_for(model, batch=batch), pattern
    for size in (14, 56) if only is None or "grouped" in only else ():
        model = grouped_net(size)
        yield f"grouped {size}", model, models.inputs_for(model), "unstructured"
    for size in (28, 112) if only is None or "operators" in only else ():
        model = operator_net(size)
        yield f"operators {size}", model, models.inputs_for(model), "unstructured"
    for size in (14, 56) if only is None or "transposed" in only else ():
        model = transposed_net(size)
        yield f"transposed {size}", model, models.inputs_for(model), "unstructured"
    for rows, k, n, zeros in ROWS if only is None or "rows" in only else ():
        model = models.single_gemm(n, k, sparsity=zeros)
        yield f"gemm {rows}x{k}x{n} {zeros:.0%}", model, models.inputs_for(model, batch=rows), "unstructured"
    for matrices, rows, depth, columns in PAIRS if only is None or "pairs" in only else ():
        model = pair_net(matrices, rows, depth, columns)
        yield f"pairs {matrices}x{rows}x{depth}x{columns}", model, models.inputs_for(model), "unstructured"
    for op_type, hidden, batch, zeros in CELLS if only is None or "cells" in only else ():
        feeds = {"x": np.random.default_rng(1).standard_normal((CELL_TIMES, batch, hidden)).astype(np.float32)}
        yield f"cells {op_type} {hidden} {zeros:.0%} b{batch}", recurrent.model(op_type, hidden, zeros), feeds, "unstructured"


PAIRS = (
    *((4, 128, 64, 128), (4, 128, 128, 64), (12, 384, 64, 384), (12, 384, 384, 64), (8, 49, 32, 49), (16, 49, 49, 32)),
    *((4, 20, 64, 225), (8, 6, 64, 500), (8, 6, 500, 64), (3, 197, 64, 197), (3, 197, 197, 64), (2, 60, 80, 1500), (1, 512, 512, 512)),
)
"""Matrices, rows, depth and columns of products of two values that a run computes."""


def pair_net(matrices: int, rows: int, depth: int, columns: int) -> onnx.ModelProto:
    """Return a pruned product whose result is multiplied by another input."""
    weight = models.mask(np.random.default_rng(0).standard_normal((depth, depth)).astype(np.float32) * 0.1, 0.9)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"], name="q"), helper.make_node("MatMul", ["q", "r"], ["y"], name="y")]
    shapes = {"x": [matrices, rows, depth], "r": [matrices, depth, columns], "y": [matrices, rows, columns]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "pairs", ends[:2], ends[2:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


GROUPS = ((128, 32), (128, 4), (240, 3), (64, 2), (22, 22), (42, 7), (24, 1))
"""Channels and groups of grouped convolutions, of which nets have few."""


def grouped_net(size: int) -> onnx.ModelProto:
    """Return a net in which 3x3 convolutions with each of GROUPS read pruned ones of (1, channels, size, size), and others read them."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    for channels, groups in GROUPS:
        shapes = {"a": (channels, 64, 1, 1), "g": (channels, channels // groups, 3, 3), "b": (64, channels, 1, 1)}
        x = "x"
        for key, shape in shapes.items():
            name = f"{channels}_{groups}_{key}"
            weight = rng.standard_normal(shape).astype(np.float32) * 0.1
            constants.append(numpy_helper.from_array(models.mask(weight, 0.8 if key != "g" else 0.5 * (groups % 2)), f"{name}_w"))
            extra = {"group": groups, "pads": [1] * 4} if key == "g" else {}
            nodes.append(helper.make_node("Conv", [x, f"{name}_w"], [name], name=name, **extra))
            x = name
    outputs = [helper.make_tensor_value_info(f"{channels}_{groups}_b", TensorProto.FLOAT, None) for channels, groups in GROUPS]
    ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, size, size])
    graph = helper.make_graph(nodes, "grouped", [ends], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


TRANSPOSED: tuple[tuple[int, int, dict[str, Any]], ...] = (
    (32, 1, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    (64, 1, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    (32, 1, {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    (64, 1, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    (32, 1, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    (16, 1, {"kernel_shape": [8, 8], "strides": [4, 4], "pads": [2, 2, 2, 2]}),
    (64, 64, {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    (64, 8, {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
)
"""Outputs, groups and windows of transposed convolutions, of which nets have few."""


def transposed_net(size: int) -> onnx.ModelProto:
    """Return a net in which each of TRANSPOSED, pruned, reads a pruned convolution of (1, 64, size, size), and another one reads it."""
    rng = np.random.default_rng(0)
    nodes, constants, outputs = [], [], []
    for i, (m, groups, attributes) in enumerate(TRANSPOSED):
        shapes = {"a": (64, 64, 1, 1), "t": (64, m // groups, *attributes["kernel_shape"]), "b": (16, m, 1, 1)}
        x = "x"
        for key, shape in shapes.items():
            name = f"{i}_{key}"
            weight = rng.standard_normal(shape).astype(np.float32) * 0.1
            constants.append(numpy_helper.from_array(models.mask(weight, 0.9), f"{name}_w"))
            op_type, extra = ("ConvTranspose", {"group": groups, **attributes}) if key == "t" else ("Conv", {})
            nodes.append(helper.make_node(op_type, [x, f"{name}_w"], [name], name=name, **extra))
            x = name
        outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, None))
    ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, size, size])
    graph = helper.make_graph(nodes, "transposed", [ends], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


OPERATOR_NODES: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in ("Sigmoid", "Tanh", "Exp", "Elu", "Softplus", "Erf", "Gelu", "HardSwish", "HardSigmoid", "LeakyRelu", "Abs")),
    ("Transpose", {"perm": [0, 2, 3, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("GlobalAveragePool", {}),
    ("DepthToSpace", {"blocksize": 2}),
    ("LayerNormalization", {}),
)
"""Operators that the nets have too few of, with their attributes."""


def operator_net(size: int) -> onnx.ModelProto:
    """Return a net in which each of OPERATOR_NODES reads a pruned convolution of (1, 64, size, size) and an addition that nothing fuses."""
    rng = np.random.default_rng(0)
    weight = models.mask(rng.standard_normal((64, 64, 1, 1)).astype(np.float32) * 0.1, 0.9)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(size, np.float32), "scale")]
    nodes, outputs = [], []
    for op_type, attributes in OPERATOR_NODES:
        y = f"{op_type}_y"
        nodes.append(helper.make_node("Conv", ["x", "w"], [f"{y}_conv"], name=f"{y}_conv"))
        nodes.append(helper.make_node("Add", [f"{y}_conv", "x"], [f"{y}_sum"], name=f"{y}_sum"))
        parameters = ["scale"] if op_type == "LayerNormalization" else []
        nodes.append(helper.make_node(op_type, [f"{y}_sum", *parameters], [y], name=y, **attributes))
        outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, None))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, size, size])
    graph = helper.make_graph(nodes, "operators", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def chain(length: int) -> onnx.ModelProto:
    """Return a small pruned product with so many nodes without work behind it."""
    rng = np.random.default_rng(0)
    weight = models.mask(rng.standard_normal((16, 16)).astype(np.float32), 0.5)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y0"], name="product")]
    nodes += [helper.make_node("Abs", [f"y{i}"], [f"y{i + 1}"], name=f"abs{i}") for i in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("x", f"y{length}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def products(length: int) -> onnx.ModelProto:
    """Return so many products of SHARED_ROWS rows by weights of SHARED_SIZE inputs and outputs, one after the other."""
    rng = np.random.default_rng(0)
    shape = (SHARED_SIZE, SHARED_SIZE)
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) * 0.05, f"w{i}") for i in range(length)]
    nodes = [helper.make_node("MatMul", [f"y{i}", f"w{i}"], [f"y{i + 1}"], name=f"product{i}") for i in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SHARED_ROWS, SHARED_SIZE]) for name in ("y0", f"y{length}")]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
