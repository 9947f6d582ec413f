"""Depthwise convolutions of bytes as programs: every form of a window, every set of kernels; equal to int64, without ONNX Runtime."""

import re
from dataclasses import replace

import numpy as np
import pytest

from onnxruntime_ep_sparse.program.enums import ElementType
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_programs import RESULTS, Depthwise

BYTE_SETS = byte_sets_for(ISAS)
EVERY_SET = pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)
WINDOWS = {
    "3x3": ((20, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (2, 20, 14, 14)),
    "3x3, stride": ((20, 1, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}, (2, 20, 15, 14)),
    "5x5": ((20, 1, 5, 5), {"pads": (2, 2, 2, 2)}, (2, 20, 28, 31)),
    "5x5, stride": ((20, 1, 5, 5), {"pads": (1, 2, 2, 2), "strides": (2, 2)}, (2, 20, 28, 31)),
    "several bands": ((5, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (1, 5, 95, 130)),
    "several bands, stride": ((5, 1, 3, 3), {"pads": (0, 0, 1, 1), "strides": (2, 2)}, (1, 5, 130, 150)),
    "wide": ((3, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (1, 3, 9, 3000)),
    "narrow": ((70, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (3, 70, 7, 7)),
    "one pixel": ((7, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (2, 7, 1, 1)),
    "one column": ((7, 1, 3, 3), {"pads": (1, 1, 1, 1)}, (2, 7, 40, 1)),
    "smaller than the window": ((7, 1, 5, 5), {"pads": (2, 2, 2, 2)}, (3, 7, 2, 3)),
    "padding beyond the window": ((3, 1, 3, 3), {"pads": (5, 19, 6, 40)}, (1, 3, 6, 9)),
    "no padding": ((3, 1, 3, 3), {}, (1, 3, 60, 90)),
    "1x1": ((5, 1, 1, 1), {}, (2, 5, 9, 9)),
    "uneven": ((9, 1, 2, 4), {"strides": (3, 1), "dilations": (2, 3), "pads": (0, 2, 3, 1)}, (2, 9, 17, 43)),
    "stride of columns": ((9, 1, 3, 7), {"strides": (1, 2), "dilations": (2, 1), "pads": (2, 3, 1, 2)}, (2, 9, 17, 63)),
    "stride and dilation": ((9, 1, 3, 7), {"strides": (2, 2), "dilations": (3, 3), "pads": (2, 3, 1, 2)}, (2, 9, 27, 63)),
    "stride 3": ((9, 1, 3, 3), {"strides": (3, 3), "pads": (1, 2, 1, 0)}, (2, 9, 17, 63)),
    "31x31": ((20, 1, 31, 31), {"pads": (15, 15, 15, 15)}, (1, 20, 14, 15)),
    "two outputs a channel": ((24, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 12}, (2, 12, 9, 20)),
    "one dimension": ((12, 1, 9), {"pads": (4, 4)}, (2, 12, 100)),
}


@EVERY_SET
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("zeros", [0, 0.6])
def test_windows(row, name, zeros):
    """Each form of a window, the same for any number of workers."""
    shape, attributes, x_shape = WINDOWS[name]
    case = Depthwise(shape, zeros=zeros)
    data = case.conv(row, **attributes)
    x = case.x(*x_shape)
    expected = case.exact_conv(x)
    assert len(np.unique(expected)) > min(expected.size, 100) // 10
    for workers in (1, 3):
        np.testing.assert_array_equal(case.program(row, data, x.ndim, workers).run(x)[0], expected)


@EVERY_SET
@pytest.mark.parametrize("signed", [False, True], ids=["u8", "s8"])
@pytest.mark.parametrize("result", RESULTS)
def test_types(row, signed, result):
    """Signed and unsigned activations, all types of results, zero points at both ends, both strides."""
    for zero_x, zero_y in ((0, 0), (-128, -128) if signed and result == "int8" else (127, 127)):
        case = Depthwise((9, 1, 3, 3), zeros=0, signed=signed, result=result, zero_x=zero_x, zero_y=zero_y)
        for stride in (1, 2):
            data = case.conv(row, pads=(1, 1, 1, 1), strides=(stride, stride))
            x = case.x(2, 9, 13, 21)
            (y,) = case.program(row, data, 4).run(x)
            assert y.dtype == result
            np.testing.assert_array_equal(y, case.exact_conv(x))


@EVERY_SET
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 8)])
def test_extremes(row, kernel):
    """Weights of -128 and 127 times activations of 255 do not saturate, whatever their signs beside each other."""
    for stride in (1, 2):
        case = Depthwise((64, 1, *kernel), zeros=0.1, extreme=True, zero_x=0, result="int32")
        x = np.full((1, 64, 9, 17), 255, np.uint8)
        np.testing.assert_array_equal(case.program(row, case.conv(row, strides=(stride, stride)), 4).run(x)[0], case.exact_conv(x))


def damaged(data):
    """Data of which one field does not fit, with what the message says."""
    yield replace(data, scale__m=data.scale__m[1:]), "the scales have the shape"
    yield replace(data, bias__m=data.bias__m[1:]), "the bias of bytes have the shape"
    yield replace(data, low=200, high=199), "bounds 200 and 199"
    yield replace(data, zero_x=-1), "the zero point -1 of x"
    yield replace(data, zero_y=256), "the zero point 256 of y"
    yield replace(data, start__m=data.start__m[::-1].copy()), "outputs without entries of their own"
    yield replace(data, start__m=data.start__m[1:]), "the beginnings of outputs have the shape"
    yield replace(data, group__n=data.group__n + 2), "a group outside of the window"
    yield replace(data, group__n=data.group__n[1:]), "the groups have the shape"
    yield replace(data, group__n=data.group__n | 1), "a window before its group, with a stride"
    yield replace(data, window=replace(data.window, kernel=(3, 5), stride=(1, 3))), "a window that kernels for bytes do not run"


def test_damaged():
    """Data that do not fit are refused before C reads them; so are values of other types and weights that are not bytes."""
    case = Depthwise((6, 1, 3, 3))
    row = BYTE_SETS[-1]
    data = case.conv(row, strides=(1, 2))
    spec = case.spec(data, 4)
    for wrong, message in damaged(data):
        with pytest.raises(ValueError, match=re.escape(message)):
            check(replace(spec, steps=(replace(spec.steps[0], spec=wrong),)))
    with pytest.raises(ValueError, match="value 0 is int8, uint8 is expected"):
        check(replace(spec, types=spec.types | {0: ElementType.INT8}))
    with pytest.raises(ValueError, match="results of another type"):
        check(replace(spec, types=spec.types | {1: ElementType.FLOAT16}))
    case.weight[0, 0, 1, 1] = 128
    with pytest.raises(ValueError, match=r"the weight 128\.0 is not an integer of 8 bits"):
        case.conv(row)
