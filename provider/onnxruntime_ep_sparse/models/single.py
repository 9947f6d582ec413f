"""Models of one product, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .network import Network

if TYPE_CHECKING:
    import onnx


def single_conv(
    outputs: int = 32,
    inputs: int = 16,
    kernel: Sequence[int] = (3, 3),
    *,
    sparsity: float = 0.9,
    pattern: str = "unstructured",
    seed: int = 0,
    group: int = 1,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    bias: bool = True,
    activation: str | None = None,
    image: Sequence[int | str] = (14, 14),
    batch: int | str = "batch",
    weight: NDArray | None = None,
) -> onnx.ModelProto:
    """Build one Conv of any rank: float32 `x` (batch, inputs, *image) to `y`.

    `weight` (outputs, inputs / group, *kernel) replaces the random one and fixes these sizes. `activation` is an operator without
    attributes, "Relu" for instance.
    """
    net = Network("conv", sparsity, pattern, seed)
    if weight is None:
        weight = net.unit_weight((outputs, inputs // group, *kernel))
    outputs, inputs, kernel = weight.shape[0], weight.shape[1] * group, weight.shape[2:]
    given = {"strides": strides, "pads": pads, "dilations": dilations}
    attributes: dict[str, Any] = {key: list(value) for key, value in given.items() if value is not None}
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
    operands = [net.input("x", [batch, inputs, *image]), net.constant("weight", weight)]
    if bias:
        operands.append(net.constant("bias", net.bias(outputs)))
    y = net.node("Conv", operands, "single", group=group, kernel_shape=list(kernel), **attributes)
    return _finished(net, y, activation, [batch, outputs, *(f"y_{axis}" for axis in range(len(kernel)))])


def single_gemm(
    outputs: int = 32,
    inputs: int = 64,
    *,
    sparsity: float = 0.9,
    pattern: str = "unstructured",
    seed: int = 0,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 1,
    bias: Sequence[int] | None = (-1,),
    activation: str | None = None,
    rows: int | str = "batch",
    weight: NDArray | None = None,
) -> onnx.ModelProto:
    """Build one Gemm: float32 `x` (rows, inputs), or its transpose with `transA`, to `y` (rows, outputs).

    `bias` is the shape of C, where -1 stands for `outputs`; None leaves it out. `weight` (outputs, inputs), or its transpose without
    `transB`, replaces the random one.
    """
    net = Network("gemm", sparsity, pattern, seed)
    if weight is None:
        weight = net.unit_weight((outputs, inputs) if transB else (inputs, outputs), axis=0 if transB else 1)
    outputs, inputs = weight.shape if transB else weight.shape[::-1]
    operands = [net.input("x", [inputs, rows] if transA else [rows, inputs]), net.constant("weight", weight)]
    if bias is not None:
        shape = [outputs if size == -1 else size for size in bias]
        operands.append(net.constant("bias", net.bias(int(np.prod(shape))).reshape(shape)))
    y = net.node("Gemm", operands, "single", alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _finished(net, y, activation, [rows, outputs])


def single_matmul(
    outputs: int = 32,
    inputs: int = 64,
    *,
    sparsity: float = 0.9,
    pattern: str = "unstructured",
    seed: int = 0,
    lead: Sequence[int | str] = ("batch", "sequence"),
    left: bool = False,
    bias: bool = False,
    activation: str | None = None,
    weight: NDArray | None = None,
) -> onnx.ModelProto:
    """Build one MatMul: float32 `x` (*lead, inputs) @ weight (inputs, outputs) to `y` (*lead, outputs).

    With `left`, it is weight (outputs, inputs) @ `x` (*lead[:-1], inputs, lead[-1]). Without it, `bias` adds a number per output by an Add.
    """
    net = Network("matmul", sparsity, pattern, seed)
    if weight is None:
        weight = net.unit_weight((outputs, inputs) if left else (inputs, outputs), axis=0 if left else 1)
    outputs, inputs = weight.shape if left else weight.shape[::-1]
    constant = net.constant("weight", weight)
    if left:
        y = net.node("MatMul", [constant, net.input("x", [*lead[:-1], inputs, lead[-1]])], "single")
        return _finished(net, y, activation, [*lead[:-1], outputs, lead[-1]])
    y = net.node("MatMul", [net.input("x", [*lead, inputs]), constant], "single")
    if bias:
        y = net.node("Add", [y, net.constant("bias", net.bias(outputs))], "single")
    return _finished(net, y, activation, [*lead, outputs])


def _finished(net: Network, y: str, activation: str | None, shape: Sequence[int | str]) -> onnx.ModelProto:
    """Return the model whose last node makes `y`, after the activation if there is one."""
    if activation:
        net.node(activation, [y], "single")
    net.nodes[-1].output[0] = "y"
    net.output("y", shape)
    return net.model()
