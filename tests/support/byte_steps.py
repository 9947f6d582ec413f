"""Steps on bytes called from numpy: programs of one step for any set of kernels."""

import numpy as np

from onnxruntime_ep_sparse.program.enums import ElementType
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import byte_table_of, table_of

ELEMENTS = {np.dtype(element.bits): element for element in ElementType if element != ElementType.BFLOAT16}


def some(seed, dtype, *shape):
    """Random bytes of a type."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8).view(dtype)


def spec_of(kind, data, dtype, *inputs, **fields):
    """A verified program of one step: `inputs` are arrays with the types and ranks of its operands, `dtype` is that of its result."""
    types = {i: ELEMENTS[np.dtype(each)] for i, each in enumerate([*(x.dtype for x in inputs), dtype])}
    types = {value: element for value, element in types.items() if element != ElementType.FLOAT32}
    operands = {"x": 0, "r": 1} if len(inputs) == 2 else {"x": 0}
    y = len(inputs)
    step = Step(kind, 0, y, y - 1 if y == 2 else -1, spec=data, **fields)
    spec = ProgramSpec(y + 1, operands, {"y": y}, steps=(step,), types=types, ranks=tuple(x.ndim for x in inputs))
    check(spec)
    return spec


def run(row, kind, data, dtype, *inputs, workers=1, **fields):
    """What a step computes of these inputs with a set of kernels for bytes."""
    spec = spec_of(kind, data, dtype, *inputs, **fields)
    (y,) = Program(spec, table_of(row.isa), workers, byte_table=byte_table_of(row)).run(*inputs)
    assert y.dtype == dtype
    return y


def max_of_windows(x, kernel, strides, pads, dilations, ceil=False):
    """What a MaxPool computes of images (N, C, *size) of bytes; the least byte where a window has nothing but padding."""
    least, rank = np.iinfo(x.dtype).min, len(kernel)
    beyond = [s - 1 if ceil else 0 for s in strides]
    x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[rank + i] + beyond[i]) for i in range(rank))], constant_values=least)
    size = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)]
    y = np.full((*x.shape[:2], *size), least, x.dtype)
    for tap in np.ndindex(*kernel):
        y = np.maximum(
            y, x[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, size, strides, strict=True)))]
        )
    return y
