"""Work and rates of ONNX Runtime's 8-bit operators. Ours run on the float kernels, so that their rates are those of `ops/rates.py`.

`tests/benchmarks/int8_rates.py` measures the rates with single nodes and prints them. ONNX Runtime keeps images in the
order NHWC between convolutions, so that a net takes less than its nodes. We leave that gain to ONNX Runtime: half of what moving floats
takes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..graph.ir import CARRIED, INT8, Graph, Node
from .costs import Amounts, Estimate, Setting, moved, without_weights

INT8_WORK = {
    "int8_mac": "multiply-add of a QLinearConv of uint8 activations",
    "int8_signed_mac": "the same of int8 activations",
    "int8_loose_mac": "multiply-add of a ConvInteger",
    "int8_moved": "byte that a QLinearConv reads or writes",
    "int8_depthwise_tap": "tap of an output of a depthwise QLinearConv of uint8 activations",
    "int8_signed_depthwise_tap": "the same of int8 activations",
    "int8_matrix_mac": "multiply-add of a matrix product of uint8 activations",
    "int8_signed_matrix_mac": "the same of int8 activations",
    "int8_matrix_moved": "byte that it reads or writes",
    "int8_matrix_weight": "weight that it reads",
    "quantized": "result of QuantizeLinear",
    "dequantized": "result of DequantizeLinear",
    "int8_combined": "result of QLinearAdd or QLinearMul",
    "int8_looked_up": "result of a function of one 8-bit operand",
}
"""Kinds of ONNX Runtime's work that have a rate here."""
INT8_RATES: dict[str, Mapping[str, tuple[float, float]]] = {
    "avx512": {
        "int8_mac": (0.00216, 0.00118),
        "int8_signed_mac": (0.0451, 0.0238),
        "int8_loose_mac": (0.0416, 0.0219),
        "int8_moved": (0.0355, 0.0187),
        "int8_depthwise_tap": (0.0333, 0.0249),
        "int8_signed_depthwise_tap": (0.0784, 0.0466),
        "int8_matrix_mac": (0.00186, 0.00098),
        "int8_signed_matrix_mac": (0.0409, 0.0213),
        "int8_matrix_moved": (0.085, 0.045),
        "int8_matrix_weight": (0.0125, 0.0125),
        "quantized": (0.0592, 0.0466),
        "dequantized": (0.0874, 0.0874),
        "int8_combined": (0.095, 0.065),
        "int8_looked_up": (0.248, 0.142),
    },
    "avx2": {
        "int8_mac": (0.00404, 0.0022),
        "int8_signed_mac": (0.0439, 0.0238),
        "int8_loose_mac": (0.0419, 0.0219),
        "int8_moved": (0.0453, 0.0238),
        "int8_depthwise_tap": (0.0595, 0.0366),
        "int8_signed_depthwise_tap": (0.0788, 0.0463),
        "int8_matrix_mac": (0.00383, 0.00201),
        "int8_signed_matrix_mac": (0.0412, 0.0217),
        "int8_matrix_moved": (0.1, 0.053),
        "int8_matrix_weight": (0.0105, 0.0105),
        "quantized": (0.224, 0.129),
        "dequantized": (0.0881, 0.0881),
        "int8_combined": (0.0953, 0.0655),
        "int8_looked_up": (0.251, 0.145),
    },
    "baseline": {
        "int8_mac": (0.0272, 0.0153),
        "int8_signed_mac": (0.0451, 0.0238),
        "int8_loose_mac": (0.0421, 0.0222),
        "int8_moved": (0.002, 0.002),
        "int8_depthwise_tap": (0.142, 0.08),
        "int8_signed_depthwise_tap": (0.163, 0.09),
        "int8_matrix_mac": (0.0252, 0.0133),
        "int8_signed_matrix_mac": (0.0421, 0.0215),
        "int8_matrix_moved": (0.05, 0.05),
        "int8_matrix_weight": (0.0566, 0.0566),
        "quantized": (0.228, 0.129),
        "dequantized": (0.0905, 0.0895),
        "int8_combined": (0.242, 0.13),
        "int8_looked_up": (0.255, 0.145),
    },
}
"""Nanoseconds per unit with one and with two threads, by instruction set: AMD EPYC (Zen 5), 2026-11-30, ONNX Runtime 1.32."""
NARROW = 4
"""Floats take so many times the memory of bytes."""


def of_product(setting: Setting, node: Node, x: str, weight: str, axis: int, ours: Estimate, *, convolves: bool, loose: bool) -> Estimate:
    """Return the work of a product of integers; `axis` is that of outputs in the weight, `ours` the work of the same product of floats.

    `convolves` says that it is a convolution, `loose` that its result is int32.
    """
    signed = setting.graph.values[x].dtype == INT8
    shape, read, made = (setting.sizes(name) for name in (weight, x, node.outputs[0]))
    size, bytes_moved = math.prod(shape), math.prod(read) + math.prod(made)
    work: dict[str, float]
    if convolves:
        macs = math.prod(made) * math.prod(shape[1:])
        if len(shape) > 2 and shape[1] == 1 and shape[0] > 1 and not loose:
            work = {"int8_signed_depthwise_tap" if signed else "int8_depthwise_tap": macs}
        elif not loose:
            work = {"int8_signed_mac" if signed else "int8_mac": macs, "int8_moved": bytes_moved}
        else:
            work = {"int8_loose_mac": macs}
    else:
        depth = size // max(shape[axis] * math.prod(shape[:-2]), 1)
        macs = math.prod(made) * depth
        work = {
            "int8_signed_matrix_mac" if signed else "int8_matrix_mac": macs,
            "int8_matrix_moved": bytes_moved,
            "int8_matrix_weight": size,
        }
    return Estimate(
        {"node": 1, **work}, ours.ours, ours.apart, ours.shared, ours.dense, ours.rows, None, ours.ort_splits, ours.floats, ours.macs
    )


def elementwise(setting: Setting, node: Node, theirs: str, ours: str, *, fused: bool = False) -> Estimate:
    """Return the work of a node that takes the rate `theirs` per result with ONNX Runtime and `ours` with us.

    `fused` says that it takes nothing where a product does it.
    """
    results = math.prod(setting.sizes(node.outputs[0]))
    mine: Amounts = {} if fused and node.inputs[0] in setting.products else {"step": 1, **moved(ours, results)}
    return without_weights({"node": 1, theirs: results}, mine, results)


def of_bytes(graph: Graph, node: Node, estimate: Estimate) -> Estimate:
    """Return the work of a node that moves elements: ONNX Runtime moves 8-bit ones in a quarter of the time, we as floats."""
    name = node.outputs[0]
    if name not in graph.values or graph.values[name].dtype not in CARRIED:
        return estimate
    ort = {key: amount if key == "node" else amount / NARROW for key, amount in estimate.ort.items()}
    return Estimate(ort, estimate.ours, ort_splits=estimate.ort_splits, floats=estimate.floats)
