"""Steps that move elements, on bytes, on every set of kernels: the same elements as numpy moves, without ONNX Runtime."""

import re

import numpy as np
import pytest

from onnxruntime_ep_sparse.program.enums import Coordinates, ElementType, Interpolation, PadMode, StepKind
from onnxruntime_ep_sparse.program.kinds.layout import Concat, Pad, Reshape, Transpose
from onnxruntime_ep_sparse.program.kinds.parts import Expand, Part
from onnxruntime_ep_sparse.program.kinds.resize import Resize
from onnxruntime_ep_sparse.program.kinds.shuffle import Shuffle
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_steps import run, some, spec_of
from support.kernel_sets import byte_table_of, table_of

ROWS = byte_sets_for(ISAS)
EVERY_SET = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
TYPES = (np.uint8, np.int8)


@EVERY_SET
@pytest.mark.parametrize(
    ("shape", "order"),
    [((2, 3, 7, 5), (0, 2, 3, 1)), ((3, 70, 130), (0, 2, 1)), ((2, 4, 64, 9), (0, 2, 1, 3)), ((300, 200), (1, 0)), ((2, 3, 4), (2, 0, 1))],
    ids=str,
)
@pytest.mark.parametrize("dtype", [*TYPES, np.float32])
def test_transpose(row, shape, order, dtype):
    """Planes to pixels and back: whole vectors of columns and those that are left, within each matrix; floats in the same loops."""
    x = some(1, np.uint8, *shape).astype(dtype)
    y = run(row, StepKind.TRANSPOSE, Transpose(order), dtype, x, workers=3)
    np.testing.assert_array_equal(y, x.transpose(order))


@EVERY_SET
@pytest.mark.parametrize("mode", PadMode)
@pytest.mark.parametrize("dtype", TYPES)
def test_pad(row, mode, dtype):
    """A byte around the image, or bytes of the image."""
    x, fill = some(2, dtype, 2, 3, 9, 21), -7 if dtype == np.int8 else 200
    spec = Pad((0, 0, 1, 2), (0, 0, 3, 4), fill if mode == PadMode.CONSTANT else 0.0, mode)
    how = {"constant_values": fill} if mode == PadMode.CONSTANT else {}
    expected = np.pad(x, [(0, 0), (0, 0), (1, 3), (2, 4)], {PadMode.CONSTANT: "constant"}.get(mode, mode.name.lower()), **how)
    np.testing.assert_array_equal(run(row, StepKind.PAD, spec, dtype, x, workers=2), expected)


@EVERY_SET
@pytest.mark.parametrize("dtype", TYPES)
def test_part(row, dtype):
    """Parts that are views, parts with steps either way, repeated elements."""
    x = some(3, dtype, 5, 6, 33)
    for spec, expected in (
        (Part((0,), (1,), (3,), (1,)), x[1:3]),
        (Part((0, 1), (2, 1), (3, 4), (1, 1)), x[2:3, 1:4]),
        (Part((1, 2), (5, 30), (0, 1), (-2, -3)), x[:, 5:0:-2, 30:1:-3]),
    ):
        np.testing.assert_array_equal(run(row, StepKind.PART, spec, dtype, x, workers=2), expected)
    np.testing.assert_array_equal(run(row, StepKind.EXPAND, Expand((2, 5, 6, 33)), dtype, x), np.broadcast_to(x, (2, 5, 6, 33)))


@EVERY_SET
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("block", [2, 3, 4])
def test_shuffle(row, dtype, block):
    """Channels become pixels of a block, and pixels channels."""
    x = some(4, dtype, 2, 2 * block**2, 5, 17)
    wide = x.reshape(2, block, block, 2, 5, 17).transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 5 * block, 17 * block)
    np.testing.assert_array_equal(run(row, StepKind.SHUFFLE, Shuffle((block, block)), dtype, x), wide)
    np.testing.assert_array_equal(run(row, StepKind.SHUFFLE, Shuffle((block, block), to_depth=True), dtype, wide), x)


@EVERY_SET
@pytest.mark.parametrize("dtype", TYPES)
def test_resize(row, dtype):
    """By the nearest pixels: each twice, and by another scale."""
    x = some(5, dtype, 2, 3, 8, 35)
    for scale in (2, 3):
        spec = Resize(Interpolation.FLOOR, Coordinates.ASYMMETRIC, (float(scale),) * 2)
        np.testing.assert_array_equal(run(row, StepKind.RESIZE, spec, dtype, x), x.repeat(scale, 2).repeat(scale, 3))


@EVERY_SET
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(row, axis):
    """Parts with a view of one of them between: all bytes, none of which is moved twice."""
    a, b = some(6, np.uint8, 3, 4, 35), some(7, np.uint8, 3, 4, 35)
    steps = (
        Step(StepKind.RESHAPE, 1, 2, spec=Reshape((3, 4, 35))),
        Step(StepKind.CONCAT, 0, 3, spec=Concat(axis, begins=True)),
        Step(StepKind.CONCAT, 2, 3, spec=Concat(axis)),
        Step(StepKind.PAD, 3, 4, spec=Pad((0, 0, 1), (0, 0, 0), 9.0)),
        Step(StepKind.CONCAT, 4, 5, spec=Concat(0, begins=True)),
        Step(StepKind.CONCAT, 4, 5, spec=Concat(0)),
    )
    types = dict.fromkeys(range(6), ElementType.UINT8)
    spec = ProgramSpec(6, {"a": 0, "b": 1}, {"y": 5}, steps=steps, types=types, ranks=(3, 2))
    check(spec)
    (y,) = Program(spec, table_of(row.isa), 2, byte_table=byte_table_of(row)).run(a, b.reshape(12, 35))
    once = np.pad(np.concatenate([a, b], axis), [(0, 0), (0, 0), (1, 0)], constant_values=9)
    np.testing.assert_array_equal(y, np.concatenate([once, once]))


@pytest.mark.parametrize("dtype", TYPES)
def test_refuses_other_types(dtype):
    """What moves has one type; a byte is padded by a byte, and resized by the nearest pixels."""
    x, other = some(0, dtype, 1, 2, 4, 4), np.int8 if dtype == np.uint8 else np.uint8
    for kind, data in (
        (StepKind.RESHAPE, Reshape((8, 4))),
        (StepKind.CONCAT, Concat(1, begins=True)),
        (StepKind.PAD, Pad((0,) * 4, (1,) * 4)),
        (StepKind.TRANSPOSE, Transpose((0, 2, 3, 1))),
        (StepKind.PART, Part((1,), (0,), (1,), (1,))),
        (StepKind.EXPAND, Expand((2, 2, 4, 4))),
        (StepKind.SHUFFLE, Shuffle((2, 2), to_depth=True)),
        (StepKind.RESIZE, Resize(Interpolation.FLOOR, Coordinates.ASYMMETRIC, (2.0, 2.0))),
    ):
        spec_of(kind, data, dtype, x)
        for result in (other, np.float32, np.int32):
            with pytest.raises(ValueError, match="is expected"):
                spec_of(kind, data, result, x)
    for fill in (1e9, 0.5, np.nan, -129.0):
        with pytest.raises(ValueError, match=re.escape(f"bytes are padded by {fill}")):
            spec_of(StepKind.PAD, Pad((0,) * 4, (1,) * 4, fill), dtype, x)
    with pytest.raises(ValueError, match="other than the nearest pixels"):
        spec_of(StepKind.RESIZE, Resize(Interpolation.LINEAR, Coordinates.ASYMMETRIC, (2.0, 2.0)), dtype, x)
