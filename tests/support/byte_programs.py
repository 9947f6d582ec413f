"""Products of bytes called from numpy: programs of one step for any set of kernels, with their exact results."""

from dataclasses import replace
from itertools import product as cartesian

import numpy as np

from onnxruntime_ep_sparse.program import byte_depthwise, byte_packing
from onnxruntime_ep_sparse.program.byte_packing import Quantised
from onnxruntime_ep_sparse.program.enums import ElementType, ShapeRule, StepKind
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step, Window
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import byte_table_of, table_of

RESULTS = {"uint8": ElementType.UINT8, "int8": ElementType.INT8, "int32": ElementType.INT32, "float32": ElementType.FLOAT32}
MATRICES = {
    "right": (ShapeRule.MATMUL_RIGHT, True, True, lambda rows, k: (rows, k)),
    "right, batch": (ShapeRule.MATMUL_RIGHT, True, True, lambda rows, k: (2, 3, rows, k)),
    "left": (ShapeRule.MATMUL_LEFT, False, False, lambda rows, k: (2, k, rows)),
    "gemm": (ShapeRule.GEMM, True, True, lambda rows, k: (rows, k)),
    "gemm, transposed": (ShapeRule.GEMM, False, False, lambda rows, k: (k, rows)),
    "gemm, x transposed": (ShapeRule.GEMM, False, True, lambda rows, k: (k, rows)),
}
"""Matrix products: where outputs stand, whether x and y have rows, and the shape of x."""


def pruned_bytes(rng, shape, zeros, *, block=1, extreme=False):
    """8-bit weights as float32. `block`: channels whose weights at a tap are zeros together. `extreme`: only -128 and 127."""
    m, c, *kernel = shape
    weight = rng.choice([-128, 127], shape) if extreme else np.clip(np.rint(rng.standard_normal(shape) * 32), -128, 127)
    kept = rng.random((m, -(-c // block), *kernel)) >= zeros
    return np.where(np.repeat(kept, block, axis=1)[:, :c], weight, 0).astype(np.float32)


class ByteCase:
    """A quantised product of random weights, and the same in int64. `shape`: of the weight, (M, C / group, *kernel) or (M, K).

    `factors`: so many numbers, by which the scales are multiplied, and the zero point of x are values of the program. None: constants.
    """

    kind = StepKind.BYTE_PRODUCT

    def __init__(
        self,
        shape,
        *,
        zeros=0.7,
        block=1,
        extreme=False,
        signed=False,
        result="uint8",
        zero_x=7,
        zero_y=19,
        bounds=None,
        seed=0,
        factors=None,
    ):
        rng = np.random.default_rng(seed)
        m, depth = shape[0], np.prod(shape[1:])
        self.weight = pruned_bytes(rng, shape, zeros, block=block, extreme=extreme)
        self.signed, self.result, self.zero_x, self.zero_y = signed, result, zero_x, zero_y
        self.bias__m = rng.integers(-(2**14), 2**14, m).astype(np.int32)
        self.scale__m = (rng.uniform(0.5, 2, m) / (40 * np.sqrt(depth * max(1 - zeros, 0.02)))).astype(np.float32) / 16
        least = -128 if result == "int8" else 0
        self.low, self.high = bounds or (least, least + 255)
        self.how = Quantised(signed, zero_x, self.bias__m, self.scale__m, zero_y, self.low, self.high)
        self.factor = None
        if factors is not None:
            self.how = replace(self.how, zero=2, factor=3)
            self.factor = rng.uniform(0.5, 2, factors).astype(np.float32)

    def conv(self, row, *, group=1, known=(), strides=None, dilations=None, pads=None):
        """The data of a convolution for a set of kernels."""
        window = self.window(group, strides, dilations, pads, known)
        return byte_packing.convolution(self.weight, window, group, known or (None,) * len(window.kernel), row.isa, self.how)

    def window(self, group, strides, dilations, pads, known=()):
        """The window of a convolution, which the exact result is of too."""
        rank = self.weight.ndim - 2
        self.strides, self.dilations = strides or (1,) * rank, dilations or (1,) * rank
        self.pads, self.group = pads or (0,) * 2 * rank, group
        return Window(self.weight.shape[2:], self.strides, self.dilations, self.pads[:rank], self.pads[rank:], image=known)

    def matrix(self, row, rule, *, x_rows, y_rows):
        """The data of a matrix for a set of kernels."""
        return byte_packing.matrix(self.weight, rule, self.how, x_rows=x_rows, y_rows=y_rows, isa=row.isa)

    def spec(self, data, rank):
        """A verified program of one step."""
        types = {0: ElementType.INT8 if self.signed else ElementType.UINT8}
        if self.result != "float32":
            types[1] = RESULTS[self.result]
        step = Step(self.kind, 0, 1, spec=data)
        inputs, ranks = {"x": 0}, [rank]
        if self.factor is not None:
            inputs |= {"zero": 2, "factor": 3}
            ranks += [1, 1]
        spec = ProgramSpec(1 + len(inputs), inputs, {"y": 1}, steps=(step,), types=types, ranks=tuple(ranks))
        check(spec)
        return spec

    def program(self, row, data, rank, workers=1):
        """The program compiled for a set of kernels."""
        return Program(self.spec(data, rank), table_of(row.isa), workers, byte_table=byte_table_of(row))

    def run(self, program, x):
        """The result of a program for x, and for the zero point and the factors if these are values."""
        more = () if self.factor is None else (np.array([self.zero_x], np.float32), self.factor)
        return program.run(x, *more)[0]

    def x(self, *shape, seed=1):
        """Random activations, of all bytes."""
        return (
            np.random.default_rng(seed)
            .integers(-128 if self.signed else 0, 128 if self.signed else 256, shape)
            .astype(np.int8 if self.signed else np.uint8)
        )

    def finish(self, sums, axis):
        """What becomes of the sums without bias, whose rows stand along an axis."""
        shape = [-1 if i == axis else 1 for i in range(sums.ndim)]
        sums = (sums + self.bias__m.reshape(shape)).astype(np.int32)
        if self.result == "int32":
            return sums
        scale__m = self.scale__m if self.factor is None else self.factor * self.scale__m
        scaled = sums.astype(np.float32) * scale__m.reshape(shape)
        if self.result == "float32":
            return scaled
        clamped = np.clip(scaled, np.float32(self.low - self.zero_y), np.float32(self.high - self.zero_y))
        return (np.rint(clamped).astype(np.int64) + self.zero_y).astype(self.result)

    def exact_conv(self, x):
        """y, tap by tap in int64."""
        weight, rank = self.weight.astype(np.int64), self.weight.ndim - 2
        kernel = weight.shape[2:]
        pads = [(0, 0), (0, 0), *zip(self.pads[:rank], self.pads[rank:], strict=True)]
        x = np.pad(x.astype(np.int64) - self.zero_x, pads)
        x = x.reshape(len(x), self.group, -1, *x.shape[2:])
        weight = weight.reshape(self.group, -1, *weight.shape[1:])
        size = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[3:], kernel, self.dilations, self.strides, strict=True)]
        y = np.zeros((len(x), self.group, weight.shape[1], *size), np.int64)
        for tap in cartesian(*map(range, kernel)):
            ends = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, self.dilations, size, self.strides, strict=True)]
            y += np.einsum("gmc,ngc...->ngm...", weight[(..., *tap)], x[(..., *ends)])
        return self.finish(y.reshape(len(x), -1, *size), 1)

    def exact_matrix(self, x, rule, *, x_rows, y_rows):
        """y of a matrix product."""
        x, weight = x.astype(np.int64) - self.zero_x, self.weight.astype(np.int64)
        if rule == ShapeRule.MATMUL_RIGHT:
            return self.finish(x @ weight.T, x.ndim - 1)
        if rule == ShapeRule.MATMUL_LEFT:
            return self.finish(weight @ x, x.ndim - 2)
        y = weight @ (x.T if x_rows else x)
        return self.finish(y.T if y_rows else y, 1 if y_rows else 0)


class Depthwise(ByteCase):
    """The same case as a depthwise convolution."""

    kind = StepKind.BYTE_DEPTHWISE

    def conv(self, row, *, group=None, strides=None, dilations=None, pads=None):
        """The data of the step, which all sets of kernels share."""
        window = self.window(group or len(self.weight), strides, dilations, pads)
        return byte_depthwise.depthwise(self.weight, window, self.group, self.how)
