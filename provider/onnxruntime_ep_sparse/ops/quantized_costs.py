"""Work and rates of ONNX Runtime's 8-bit operators. Ours run on the float kernels, so that their rates are those of `ops/rates.py`.

`tests/benchmarks/int8_rates.py` measures the rates with single nodes and prints them. ONNX Runtime keeps images in the
order NHWC between convolutions, so that a net takes less than its nodes. We leave that gain to ONNX Runtime: half of what moving floats
takes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ..graph.ir import CARRIED, INT8, Graph, Node
from .costs import Amounts, Estimate, Setting, combined, moved, without_weights
from .row import FUSED

INT8_WORK = {
    "int8_mac": "multiply-add of a QLinearConv of uint8 activations",
    "int8_signed_mac": "the same of int8 activations",
    "int8_loose_mac": "multiply-add of a ConvInteger",
    "int8_loose_depthwise_tap": "tap of an output of a depthwise ConvInteger",
    "int8_narrow_tap": "tap of a pixel of a QLinearConv of few channels, which ONNX Runtime copies one by one",
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
    "avx512_vnni": {
        "int8_mac": (0.00216, 0.00118),
        "int8_signed_mac": (0.0451, 0.0238),
        "int8_loose_mac": (0.0416, 0.0219),
        "int8_loose_depthwise_tap": (1.08, 1.0),
        "int8_narrow_tap": (0.8, 0.43),
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
    "avx2_vnni": {
        "int8_mac": (0.00404, 0.0022),
        "int8_signed_mac": (0.0439, 0.0238),
        "int8_loose_mac": (0.0419, 0.0219),
        "int8_loose_depthwise_tap": (1.08, 1.0),
        "int8_narrow_tap": (0.8, 0.43),
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
    "avx2_madd": {
        "int8_mac": (0.00771, 0.0041),
        "int8_signed_mac": (0.0465, 0.0245),
        "int8_loose_mac": (0.0475, 0.0245),
        "int8_loose_depthwise_tap": (1.08, 1.0),
        "int8_narrow_tap": (0.8, 0.43),
        "int8_moved": (0.0515, 0.027),
        "int8_depthwise_tap": (0.06, 0.037),
        "int8_signed_depthwise_tap": (0.083, 0.0505),
        "int8_matrix_mac": (0.00757, 0.00397),
        "int8_signed_matrix_mac": (0.0455, 0.0235),
        "int8_matrix_moved": (0.0866, 0.0458),
        "int8_matrix_weight": (0.00526, 0.00526),
        "quantized": (0.222, 0.13),
        "dequantized": (0.0878, 0.0858),
        "int8_combined": (0.095, 0.067),
        "int8_looked_up": (0.25, 0.143),
    },
    "baseline_madd": {
        "int8_mac": (0.0272, 0.0153),
        "int8_signed_mac": (0.0451, 0.0238),
        "int8_loose_mac": (0.0421, 0.0222),
        "int8_loose_depthwise_tap": (1.08, 1.0),
        "int8_narrow_tap": (0.8, 0.43),
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
"""Nanoseconds per unit with one and with two threads: AMD EPYC (Zen 5), 2026-11-30, ONNX Runtime 1.32. It uses VNNI where we do: the names
are those of our sets of kernels for bytes."""
FEW_CHANNELS = 16
"""Channels up to which copying the taps of pixels counts: the rates of multiply-adds have what it takes with more of them."""
NARROW = 4
"""Floats take so many times the memory of bytes."""


def of_product(setting: Setting, node: Node, x: str, weight: str, axis: int, ours: Estimate, *, convolves: bool, loose: bool) -> Estimate:
    """Return the work of a product of integers; `axis` is that of outputs in the weight, `ours` the work of the same product of floats.

    `convolves` says that it is a convolution, `loose` that its result is int32.
    """
    shape, read, made = (setting.sizes(name) for name in (weight, x, node.outputs[0]))
    signed = setting.graph.values[x].dtype == INT8
    if signed and node.domain == FUSED:
        if _runs_on_floats(setting.graph, x, node.outputs[0]):
            moved_ = {"dequantized": math.prod(read) + math.prod(shape), "quantized": math.prod(made)}
            return replace(ours, ort=combined(ours.ort, moved_), second=None)
        signed = False
    size, bytes_moved = math.prod(shape), math.prod(read) + math.prod(made)
    work: dict[str, float]
    if convolves:
        macs = math.prod(made) * math.prod(shape[1:])
        kind = "int8_loose" if loose else "int8_signed" if signed else "int8"
        if len(shape) > 2 and shape[1] == 1 and shape[0] > 1:
            work = {f"{kind}_depthwise_tap": macs}
        else:
            window, narrow = math.prod(shape[2:]), shape[1] < FEW_CHANNELS
            taps = math.prod(made) // max(shape[0], 1) * window if narrow and window > 1 else 0
            work = {f"{kind}_mac": macs, **({} if loose else {"int8_moved": bytes_moved, "int8_narrow_tap": taps})}
    else:
        depth = size // max(shape[axis] * math.prod(shape[:-2]), 1)
        macs = math.prod(made) * depth
        work = {
            "int8_signed_matrix_mac" if signed else "int8_matrix_mac": macs,
            "int8_matrix_moved": bytes_moved,
            "int8_matrix_weight": size,
        }
    return replace(ours, ort={"node": 1, **work}, second=None)


def _runs_on_floats(graph: Graph, x: str, y: str) -> bool:
    """Return whether ONNX Runtime computes a QDQ group of int8 activations in float32.

    It reads such a group as one of uint8, if the QuantizeLinear of x and that of y each have one DequantizeLinear: there both become
    uint8 (`QDQS8ToU8Transformer`). Others stay as they are, and `session.qdqisint8allowed` is off on x86.
    """
    return any(len(graph.consumers.get(name, ())) > 1 for name in (x, y))


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
