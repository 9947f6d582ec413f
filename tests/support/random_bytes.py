"""Random steps on bytes: products, depthwise convolutions, sums and products of two operands; operators; each with its exact result.

A case is a function of a random generator. It is what computes the result with a set of kernels for bytes, and the exact result.
"""

from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.program import byte_packing
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.byte_depthwise import runs_on_windows
from onnxruntime_ep_sparse.program.kinds.quantized import Combine
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support import quantized
from support.byte_programs import MATRICES, RESULTS, ByteCase, Depthwise
from support.byte_steps import run

MOST_PRODUCTS = 2_000_000
"""Products of a case, so that the exact result takes a few milliseconds."""
MOST_WORKERS = 4
TYPES = (np.uint8, np.int8)


def size(rng, most):
    """A size from 1 on, small ones more often."""
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def workers_of(rng):
    """A number of workers."""
    return int(rng.integers(1, MOST_WORKERS + 1))


def byte_case(rng, shape, kind=ByteCase, factors=(None,)):
    """A case with a weight of this shape; zeros, types, zero points and bounds at random."""
    signed, result = bool(rng.integers(2)), list(RESULTS)[rng.integers(4)]
    least = -128 if result == "int8" else 0
    bounds = sorted(map(int, rng.integers(least, least + 256, 2))) if rng.random() < 0.3 else None
    count = factors[rng.integers(len(factors))]
    return kind(
        shape,
        zeros=float(rng.choice([0, 0.5, 0.7, 0.9, 0.97, 1])),
        block=int(rng.choice([1, 1, 4])),
        extreme=rng.random() < 0.2,
        signed=signed,
        result=result,
        zero_x=int(rng.integers(0, 256)) - 128 * signed,
        zero_y=int(rng.integers(0, 256)) + least,
        bounds=bounds,
        seed=int(rng.integers(2**32)),
        factors=count and (1 if count == 1 else shape[0]),
    )


def window_of(rng, rank, most_kernel):
    """Kernel, strides, dilations and pads of a window."""
    kernel, strides, dilations = (tuple(size(rng, most) for _ in range(rank)) for most in (most_kernel, 3, 3))
    return kernel, strides, dilations, tuple(int(rng.integers(0, 2 * k)) for k in kernel * 2)


def image_of(rng, kernel, dilations, pads, most):
    """Sizes of an image that a window meets, beyond the least `most` - 1 at most."""
    rank = len(kernel)
    least = ((k - 1) * d + 1 - a - b for k, d, a, b in zip(kernel, dilations, pads[:rank], pads[rank:], strict=True))
    return tuple(max(1, each) + size(rng, most) - 1 for each in least)


def packed(rng):
    """Weights packed in the form that is cheaper, or in the one form or the other."""
    form = rng.choice(["cheaper", "blocks", "zipped", "anywhere"])
    if form == "cheaper":
        return nullcontext()
    zips = byte_packing.zippable if form == "zipped" else lambda matrix: False
    return patch.multiple(byte_packing, pays=lambda matrix, taps: form == "blocks", zips=zips)


def convolution(rng):
    """A convolution of one to three dimensions, in groups too."""
    while True:
        rank = int(rng.choice([1, 2, 2, 2, 3]))
        group, each, per = int(rng.choice([1, 1, 1, 2, 5])), size(rng, 300), size(rng, 70)
        kernel, strides, dilations, pads = window_of(rng, rank, 1 if rng.random() < 0.4 else 6)
        image, images = image_of(rng, kernel, dilations, pads, 60 if rank < 3 else 9), size(rng, 3)
        if images * np.prod(image) * group * per * each * np.prod(kernel) <= MOST_PRODUCTS:
            break
    case = byte_case(rng, (group * per, each, *kernel), factors=(None, None, 1, 2))
    known = image if rng.random() < 0.5 else ()
    attributes = {"group": group, "strides": strides, "dilations": dilations, "pads": pads, "known": known}
    x, workers, form = case.x(images, group * each, *image, seed=int(rng.integers(2**32))), workers_of(rng), packed(rng)

    def compute(row):
        with form:
            return case.run(case.program(row, case.conv(row, **attributes), x.ndim, workers), x)

    case.window(group, strides, dilations, pads)
    return compute, case.exact_conv(x)


def matrix(rng):
    """A matrix product with the weight on either side."""
    while True:
        m, k, rows = size(rng, 200), size(rng, 3000), size(rng, 300)
        if m * k * rows <= MOST_PRODUCTS:
            break
    rule, x_rows, y_rows, shape_of = list(MATRICES.values())[rng.integers(len(MATRICES))]
    case = byte_case(rng, (m, k), factors=(None, None, 1, 2))
    x, workers, form = case.x(*shape_of(rows, k), seed=int(rng.integers(2**32))), workers_of(rng), packed(rng)

    def compute(row):
        with form:
            return case.run(case.program(row, case.matrix(row, rule, x_rows=x_rows, y_rows=y_rows), x.ndim, workers), x)

    return compute, case.exact_matrix(x, rule, x_rows=x_rows, y_rows=y_rows)


def depthwise(rng):
    """A convolution whose outputs each read one channel, in one or two dimensions."""
    while True:
        rank, many, channels = int(rng.choice([1, 2, 2, 2])), size(rng, 3), size(rng, 70)
        kernel, strides, dilations, pads = window_of(rng, rank, 8)
        image, images = image_of(rng, kernel, dilations, pads, 90), size(rng, 3)
        rank_pads = (pads[:rank], pads[rank:])
        runs = runs_on_windows(Window(kernel, strides, dilations, *rank_pads))
        if runs and images * many * channels * np.prod(image) * np.prod(kernel) <= MOST_PRODUCTS:
            break
    case = byte_case(rng, (many * channels, 1, *kernel), Depthwise)
    x, workers = case.x(images, channels, *image, seed=int(rng.integers(2**32))), workers_of(rng)
    attributes = {"group": channels, "strides": strides, "dilations": dilations, "pads": pads}
    case.window(*attributes.values())
    return lambda row: case.program(row, case.conv(row, **attributes), x.ndim, workers).run(x)[0], case.exact_conv(x)


def fused(a, b, c):
    """The sum of a product, which has 32 bits, and c: rounded once, because float64 holds the sum."""
    return (np.asarray(a, np.float64) * np.float64(b) + np.asarray(c, np.float64)).astype(np.float32)


def combined(spec, x, r, dtype):
    """What a Combine computes of integers."""
    a, b, info = x.astype(np.int64), r.astype(np.int64), np.iinfo(dtype)
    if spec.multiplies:
        value = ((a - int(spec.x_zero)) * (b - int(spec.r_zero))).astype(np.float32) * np.float32(spec.x_scale) + np.float32(spec.y_zero)
    else:
        value = fused(a, spec.x_scale, fused(b, spec.r_scale, spec.shift))
    low, high = max(spec.low + spec.y_zero, info.min), min(spec.high + spec.y_zero, info.max)
    return np.rint(value).clip(low, high).astype(dtype)


def combination(rng):
    """A sum or product of two operands that broadcast, with ties and with results beyond a byte."""
    shape = tuple(size(rng, 40 if i else 3) for i in range(int(rng.integers(1, 5))))
    other = tuple(d if rng.random() < 0.7 else 1 for d in shape) if rng.random() < 0.4 else shape
    types = [TYPES[rng.integers(2)] for _ in range(3)]
    zero_a, zero_b, zero_y = (float(rng.integers(0, 256) - 128 * (dtype == np.int8)) for dtype in types)

    def scale():
        return float(np.float32(rng.choice([0.5, 1.0, 0.25, float(np.exp(rng.uniform(-6, 2)))])))

    multiplies = bool(rng.integers(2))
    ra, rb = scale() / (64 if multiplies else 1), 1.0 if multiplies else scale()
    shift = 0.0 if multiplies else float(np.float32(rng.choice([-17.5, float(rng.normal() * 100)])))
    spec = Combine(multiplies, zero_a, ra, zero_b, rb, shift, zero_y, -255.0, 255.0)
    if rng.random() < 0.3:
        spec = replace(spec, low=0.0, high=float(rng.integers(1, 256)))
    if rng.random() < 0.3:
        shape, other = other, shape
    x, r = (rng.integers(0, 256, d).astype(np.uint8).view(dtype) for d, dtype in zip((shape, other), types[:2], strict=True))
    workers = workers_of(rng)
    return lambda row: run(row, StepKind.COMBINE, spec, types[2], x, r, workers=workers), combined(spec, x, r, types[2])


def operator(rng):
    """A quantised operator or a chain of them, as a graph."""
    case, workers = quantized.random_case(int(rng.integers(2**32))), workers_of(rng)
    return lambda row: quantized.run(case, row, workers), case[5]


CASES = {"convolutions": convolution, "matrices": matrix, "depthwise": depthwise, "sums": combination, "operators": operator}


def check(kind, rng, isa):
    """Draw a case and hold every set of kernels of an instruction set against the exact result."""
    compute, expected = CASES[kind](rng)
    sets = [row for row in byte_sets_for(ISAS) if row.isa.name == isa and row.name in kernels.available_byte_sets()]
    assert sets
    for row in sets:
        y = compute(row)
        assert getattr(y, "dtype", y) == expected.dtype, row.name
        np.testing.assert_array_equal(y, expected, err_msg=row.name)
