"""Products of bytes as programs: every form of a convolution, matrices, every set of kernels; equal to int64, without ONNX Runtime."""

import re
from dataclasses import replace

import numpy as np
import pytest

from onnxruntime_ep_sparse import options, pipeline
from onnxruntime_ep_sparse.program import byte_packing
from onnxruntime_ep_sparse.program.enums import ElementType, ShapeRule, StepKind
from onnxruntime_ep_sparse.program.kinds.byte_product import BYTE_PRODUCT
from onnxruntime_ep_sparse.program.kinds.quantized import DynamicQuantize
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_programs import MATRICES, RESULTS, ByteCase
from support.kernel_sets import byte_table_of, table_of

BYTE_SETS = byte_sets_for(ISAS)
EVERY_SET = pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)
CONVOLUTIONS = {
    "pointwise": ((20, 24, 1, 1), {"known": (9, 7)}, (2, 24, 9, 7)),
    "pointwise, whole units": ((20, 24, 1, 1), {}, (1, 24, 16, 16)),
    "pointwise, stride": ((20, 24, 1, 1), {"known": (9, 7), "strides": (2, 2)}, (2, 24, 9, 7)),
    "small image": ((20, 24, 3, 3), {"known": (9, 7), "pads": (1, 1, 1, 1)}, (2, 24, 9, 7)),
    "small image, stride": ((20, 24, 3, 3), {"known": (14, 14), "pads": (1, 1, 1, 1), "strides": (2, 2)}, (2, 24, 14, 14)),
    "unknown width": ((20, 23, 3, 3), {"pads": (1, 1, 1, 1)}, (2, 23, 9, 70)),
    "uneven": ((9, 5, 2, 4), {"strides": (3, 1), "dilations": (2, 3), "pads": (0, 2, 3, 1)}, (2, 5, 17, 23)),
    "far dilation": ((6, 6, 2, 3), {"dilations": (1, 12000), "pads": (1, 12000, 0, 12000)}, (2, 6, 5, 13)),
    "larger than the image": ((8, 6, 7, 7), {"pads": (3,) * 4, "known": (3, 2)}, (2, 6, 3, 2)),
    "groups": ((20, 6, 3, 3), {"group": 4, "pads": (1, 1, 1, 1), "known": (9, 7)}, (2, 24, 9, 7)),
    "one channel an output": ((12, 1, 3, 3), {"group": 12, "pads": (1, 1, 1, 1), "known": (9, 7)}, (2, 12, 9, 7)),
    "one dimension": ((20, 24, 5), {"pads": (2, 2), "known": (61,)}, (2, 24, 61)),
    "three dimensions": ((10, 6, 3, 3, 3), {"strides": (2, 1, 2), "dilations": (1, 2, 1), "pads": (1,) * 6}, (2, 6, 7, 9, 8)),
    "one row": ((1, 3, 1, 1), {"known": (1, 1)}, (1, 3, 1, 1)),
    "many channels": ((70, 900, 1, 1), {"known": (6, 6)}, (1, 900, 6, 6)),
    "many channels, window": ((40, 300, 3, 3), {"known": (14, 14), "pads": (1, 1, 1, 1)}, (1, 300, 14, 14)),
}


@pytest.fixture
def form(request, monkeypatch):
    """How weights are packed: as blocks of four channels or by zipped columns, where they can be, or anywhere."""
    monkeypatch.setattr(byte_packing, "pays", lambda matrix, taps: request.param == "blocks")
    monkeypatch.setattr(byte_packing, "zips", lambda matrix: request.param == "zipped" and byte_packing.zippable(matrix))
    return request.param


@EVERY_SET
@pytest.mark.parametrize("form", ["anywhere", "blocks", "zipped"], indirect=True)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(row, name, form):
    """Each form of a tile, with weights anywhere and in blocks of channels; the same for any number of workers."""
    shape, attributes, x_shape = CONVOLUTIONS[name]
    case = ByteCase(shape)
    data = case.conv(row, **attributes)
    assert data.blocks == (form == "blocks" and attributes.get("group", 1) == 1)
    assert data.zipped <= (form == "zipped")
    assert data.zipped or form != "zipped" or attributes.get("group", 1) > 1 or np.prod(shape[1:]) > 200
    x = case.x(*x_shape)
    expected = case.exact_conv(x)
    assert len(np.unique(expected)) > min(expected.size, 100) // 10
    for workers in (1, 3):
        np.testing.assert_array_equal(case.program(row, data, len(x_shape), workers).run(x)[0], expected)


@EVERY_SET
@pytest.mark.parametrize("signed", [False, True], ids=["u8", "s8"])
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("form", ["anywhere", "blocks", "zipped"], indirect=True)
def test_types(row, signed, result, form):
    """Signed and unsigned activations, all types of results, zero points at both ends; where tiles are runs of the output and elsewhere."""
    for zero_x, zero_y in ((0, 0), (-128, -128) if signed and result == "int8" else (127, 127)):
        case = ByteCase((9, 11, 3, 3), signed=signed, result=result, zero_x=zero_x, zero_y=zero_y)
        for height, width in ((5, 9), (33, 17)):
            x = case.x(1, 11, height, width)
            data = case.conv(row, pads=(1, 1, 1, 1))
            (y,) = case.program(row, data, 4).run(x)
            assert y.dtype == result
            np.testing.assert_array_equal(y, case.exact_conv(x))
        pointwise = ByteCase((9, 11, 1, 1), signed=signed, result=result, zero_x=zero_x, zero_y=zero_y)
        x = pointwise.x(1, 11, 16, 16)
        np.testing.assert_array_equal(pointwise.program(row, pointwise.conv(row), 4).run(x)[0], pointwise.exact_conv(x))


@EVERY_SET
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("form", ["anywhere", "blocks"], indirect=True)
def test_matrix(row, name, form):
    """Operands of both orders; K that fours and sixteens do not divide; from one row to several units; results of one and of four bytes."""
    rule, x_rows, y_rows, shape_of = MATRICES[name]
    for k, rows, result in ((16, 1, "uint8"), (37, 5, "int8"), (100, 70, "float32"), (1300, 130, "uint8"), (48, 64, "int32")):
        case = ByteCase((45, k), result=result, signed=k == 37)
        data = case.matrix(row, rule, x_rows=x_rows, y_rows=y_rows)
        assert data.blocks == (form == "blocks" and (not x_rows or k % 4 == 0))
        x = case.x(*shape_of(rows, k))
        expected = case.exact_matrix(x, rule, x_rows=x_rows, y_rows=y_rows)
        for workers in (1, 3):
            np.testing.assert_array_equal(case.program(row, data, x.ndim, workers).run(x)[0], expected)


@EVERY_SET
@pytest.mark.parametrize("signed", [False, True], ids=["u8", "s8"])
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("form", ["anywhere", "blocks", "zipped"], indirect=True)
def test_values_at_run_time(row, signed, result, form):
    """The zero point of x, which is padding too, and factors of the scales can be values: one program for several of them."""
    for factors in (1, 37):
        case = ByteCase((37, 11, 3, 3), signed=signed, result=result, factors=factors)
        data = case.conv(row, pads=(1, 1, 1, 1))
        matrix = ByteCase((37, 48), signed=signed, result=result, factors=factors, seed=3)
        packed = matrix.matrix(row, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True)
        for workers in (1, 3):
            program, second = case.program(row, data, 4, workers), matrix.program(row, packed, 3, workers)
            for zero in (-128, 5) if signed else (255, 0):
                case.zero_x = matrix.zero_x = zero
                x, rows = case.x(2, 11, 9, 33, seed=zero + 200), matrix.x(2, 3 + 128 * workers, 48)
                np.testing.assert_array_equal(case.run(program, x), case.exact_conv(x))
                np.testing.assert_array_equal(
                    matrix.run(second, rows), matrix.exact_matrix(rows, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True)
                )


def test_damaged_values_at_run_time():
    """Values of other sizes, types and ranks are errors; a zero point that no byte can be becomes the next that can."""
    row = BYTE_SETS[-1]
    case = ByteCase((6, 4, 1, 1), factors=6)
    data = case.conv(row)
    x, program = case.x(1, 4, 3, 3), case.program(row, data, 4)
    with pytest.raises(RuntimeError, match="factors of the scales have 2 elements, 1 or as many as rows are expected"):
        program.run(x, np.zeros(1, np.float32), np.ones(2, np.float32))
    for odd, zero in ((300.0, 255), (-1e30, 0), (np.nan, 0), (2.5, 2)):
        case.zero_x = zero
        np.testing.assert_array_equal(program.run(x, np.array([odd], np.float32), case.factor)[0], case.exact_conv(x))
    spec = case.spec(data, 4)
    with pytest.raises(ValueError, match="value 2 is uint8, float32 is expected"):
        check(replace(spec, types=spec.types | {2: ElementType.UINT8}))
    with pytest.raises(ValueError, match="value 3 has more than one dimension"):
        check(replace(spec, ranks=(4, 1, 2)))
    with pytest.raises(ValueError, match="without the sums of weights, or the reverse"):
        check(replace(spec, steps=(replace(spec.steps[0], spec=replace(data, sums__m=None)),)))
    with pytest.raises(ValueError, match="the batch cannot be cut"):
        check(replace(spec, separable=True))
    with pytest.raises(RuntimeError, match="a zero point has 2 elements, 1 are expected"):
        program.run(x, np.zeros(2, np.float32), case.factor)


@EVERY_SET
def test_quantised_by_extent(row):
    """Floats become bytes by their extent, and the product of these reads their scale and zero point."""
    case = ByteCase((33, 24), result="float32", factors=1)
    data = replace(case.matrix(row, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True), zero=3, factor=2)
    steps = (Step(StepKind.DYNAMIC_QUANTIZE, 0, 1, spec=DynamicQuantize(2, 3)), Step(StepKind.BYTE_PRODUCT, 1, 4, spec=data))
    outputs = {"bytes": 1, "scale": 2, "zero": 3, "y": 4}
    spec = ProgramSpec(5, {"x": 0}, outputs, steps=steps, types={1: ElementType.UINT8}, ranks=(2,))
    check(spec)
    for workers in (1, 3):
        program = Program(spec, table_of(row.isa), workers, byte_table=byte_table_of(row))
        for rows, low, high in ((1, -1, 2), (70, 0.5, 3), (400, -7, -1), (5, 0, 0)):
            x = np.random.default_rng(rows).uniform(low, high, (rows, 24)).astype(np.float32)
            found, scale, zero, y = program.run(x)
            least, most = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
            assert scale == (np.float32(most - least) / np.float32(255) if most > least else 1)
            assert zero == np.rint(np.clip(-least / scale, 0, 255))
            np.testing.assert_array_equal(found, np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8))
            case.zero_x, case.factor = int(zero), scale
            np.testing.assert_array_equal(y, case.exact_matrix(found, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True))
    with pytest.raises(ValueError, match="the result is uint8 or float32"):
        check(replace(spec, types={1: ElementType.INT8}))


@EVERY_SET
@pytest.mark.parametrize("form", ["anywhere", "blocks"], indirect=True)
@pytest.mark.parametrize("zeros", [0, 0.97, 1])
def test_extremes(row, zeros, form):
    """Weights of -128 and 127 times activations of 255 do not saturate; rows without weights are their bias; nor does a dense weight."""
    case = ByteCase((33, 64, 1, 1), zeros=zeros, extreme=True, zero_x=0)
    x = np.full((1, 64, 9, 9), 255, np.uint8)
    np.testing.assert_array_equal(case.program(row, case.conv(row), 4).run(x)[0], case.exact_conv(x))


@pytest.mark.parametrize("block", [1, 4])
def test_chooses_form(block):
    """Blocks of channels are packed as such, other weights anywhere."""
    case = ByteCase((64, 64, 3, 3), zeros=0.8, block=block)
    assert case.conv(BYTE_SETS[0], pads=(1, 1, 1, 1)).blocks == (block == 4)


def test_chain():
    """Bytes between two steps take as many bytes in the arena, and what the first one writes is what the second one reads."""
    row = BYTE_SETS[-1]
    first, second = ByteCase((24, 16, 3, 3), zero_y=3), ByteCase((8, 24, 1, 1), zero_x=3)
    x = first.x(2, 16, 20, 20)
    specs = [first.spec(first.conv(row, pads=(1, 1, 1, 1)), 4), second.spec(second.conv(row), 4)]
    step = replace(specs[1].steps[0], x=1, y=2)
    spec = replace(
        specs[0],
        n_values=3,
        outputs={"y": 2},
        steps=(specs[0].steps[0], step),
        types=dict.fromkeys(range(3), ElementType.UINT8),
        separable=True,
    )
    check(spec)
    program = Program(spec, table_of(row.isa), 2, byte_table=byte_table_of(row))
    np.testing.assert_array_equal(program.run(x)[0], second.exact_conv(first.exact_conv(x)))


@EVERY_SET
@pytest.mark.parametrize("result", ["uint8", "int8"])
def test_bounds(row, result):
    """Bounds within the range of the type clamp the results, as Relu6 does."""
    zero = -20 if result == "int8" else 20
    case = ByteCase((9, 11, 1, 1), result=result, zero_y=zero, bounds=(zero, zero + 15))
    x = case.x(1, 11, 9, 9)
    (y,) = case.program(row, case.conv(row), 4).run(x)
    np.testing.assert_array_equal(y, case.exact_conv(x))
    assert (y.min(), y.max()) == (case.low, case.high)


def damaged(data):
    """Data of which one field does not fit, with what the message says."""
    product = data.product
    group = product.groups[0]
    yield replace(data, scale__m=data.scale__m[1:]), "the scales have the shape"
    yield replace(data, bias__m=data.bias__m[1:]), "the bias of bytes have the shape"
    yield replace(data, low=200, high=199), "bounds 200 and 199"
    yield replace(data, high=256), "bounds 0 and 256"
    yield replace(data, zero_x=-1), "the zero point -1 of x"
    yield replace(data, zero_y=256), "the zero point 256 of y"
    yield replace(data, divisor=0.0), "the divisor 0.0"
    yield replace(data, divisor=float("nan")), "the divisor nan"
    if not data.zipped:
        yield replace(data, blocks=not data.blocks), "the columns have the shape"
    panel = replace(group.panel, k__nc=group.panel.k__nc + np.uint16(9999))
    yield replace(data, product=replace(product, groups=(replace(group, panel=panel),))), "columns outside block 0"
    if data.zipped:
        yield replace(data, zipped=False), "the columns have the shape"
        panel = replace(group.panel, k__nc=group.panel.k__nc + np.uint16(80))
        yield replace(data, product=replace(product, groups=(replace(group, panel=panel),))), "zipped columns beyond K"
        part = replace(group, channels=1, bounds=(0, 1))
        yield replace(data, product=replace(product, groups=(part,))), "columns"
    if data.blocks:
        yield replace(data, zipped=True), "columns of a part of K that are zipped"
        yield replace(data, product=replace(product, groups=(replace(group, channels=2, bounds=(0, 2)),))), "columns outside block 0"


@pytest.mark.parametrize("form", ["anywhere", "blocks", "zipped"], indirect=True)
def test_damaged(form):
    """Data that do not fit are refused before C reads them; so are values of other types."""
    case = ByteCase((6, 12, 3, 3))
    row = BYTE_SETS[-1]
    spec = case.spec(case.conv(row, pads=(1, 1, 1, 1), known=(8, 8)), 4)
    for data, message in damaged(spec.steps[0].spec):
        with pytest.raises(ValueError, match=re.escape(message)):
            check(replace(spec, steps=(replace(spec.steps[0], spec=data),)))
    with pytest.raises(ValueError, match="value 0 is int8, uint8 is expected"):
        check(replace(spec, types=spec.types | {0: ElementType.INT8}))
    with pytest.raises(ValueError, match="results of another type"):
        check(replace(spec, types=spec.types | {1: ElementType.FLOAT16}))


def test_session_has_kernels_for_bytes():
    """A session gives a program the kernels for bytes of its instruction set."""
    case = ByteCase((20, 24, 1, 1))
    row = BYTE_SETS[-1]
    x = case.x(1, 24, 9, 9)
    program = pipeline.program_of(case.spec(case.conv(row), 4), options.parse({"isa": row.isa.name}))
    np.testing.assert_array_equal(program.run(x)[0], case.exact_conv(x))


@EVERY_SET
@pytest.mark.parametrize("form", ["anywhere", "blocks", "zipped"], indirect=True)
@pytest.mark.parametrize("shape", [(8, 2100, 1, 1), (8, 300, 3, 3)], ids=["pointwise", "window"])
def test_packed_for_other_vectors(row, form, shape):
    """Weights that were packed for the narrowest vectors run with all others: offsets reach what the widest tiles hold."""
    case = ByteCase(shape, zeros=0.99)
    pad = shape[2] // 2
    data = case.conv(BYTE_SETS[-1], known=(20, 20), pads=(pad,) * 4)
    x = case.x(1, shape[1], 20, 20)
    ours = BYTE_PRODUCT.for_lanes(data, BYTE_SETS[-1].isa.lanes, row.isa.lanes)
    np.testing.assert_array_equal(case.program(row, ours, 4).run(x)[0], case.exact_conv(x))


def test_needs_kernels_for_bytes():
    """A program with such a step is not made without their kernels, nor with those of other vectors."""
    case = ByteCase((4, 4, 1, 1))
    row = BYTE_SETS[-1]
    spec = case.spec(case.conv(row), 4)
    table = table_of(row.isa)
    with pytest.raises(ValueError, match="need kernels for bytes; pass a byte_table"):
        Program(spec, table, 1)
    other = next((other for other in BYTE_SETS if other.isa.lanes != row.isa.lanes), row)
    with pytest.raises(ValueError, match="kernels for vectors of"):
        Program(spec, table, 1, byte_table=byte_table_of(other))
