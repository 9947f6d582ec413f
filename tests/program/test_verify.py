"""Hostile programs, each with one member changed: all that the C side relies on is checked."""

from dataclasses import replace

import numpy as np
import pytest

from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.program import serialize
from onnxruntime_ep_sparse.program.enums import ElementType, StepKind
from onnxruntime_ep_sparse.program.kinds.convert import Convert
from onnxruntime_ep_sparse.program.kinds.reduce import Reduce
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse_kernels.elementwise import Op
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.programs import graph_of

SEEDS = fuzz.seeds()


def changed(program, where, value):
    """The program with another member somewhere: `where` alternates names of fields and places in tuples."""
    if not where:
        return value(program) if callable(value) else value
    key, rest = where[0], where[1:]
    if isinstance(key, int):
        return (*program[:key], changed(program[key], rest, value), *program[key + 1 :])
    return replace(program, **{key: changed(getattr(program, key), rest, value)})


def with_element(place, number):
    """A function that sets one element of a copy of an array."""

    def change(array):
        array = array.copy()
        array[place] = number
        return array

    return change


def first(seed_name, kind):
    """A seed's program and where its first step of a kind stands."""
    seed = next(seed for seed in SEEDS if seed.name == seed_name)
    program = serialize.decode(seed.blob).program
    return program, next(i for i, step in enumerate(program.steps) if step.kind == kind)


CONV, CELL, MATRIX = ("images 0", StepKind.PRODUCT), ("cells 0", StepKind.RECURRENT), ("matrices 0", StepKind.PRODUCT)
NARROW = ("narrow 0", StepKind.CONVERT)
PANEL = ("spec", "groups", 0, "panel")
HOSTILE = [
    (CONV, ("x",), 10**6, "read before it is made"),
    (CONV, ("x",), -1, "read before it is made"),
    (CONV, ("y",), 10**6, "made twice or does not exist"),
    (CONV, ("r",), 10**6, "read before"),
    (CONV, ("spec",), None, "data of another kind"),
    (CONV, ("spec", "window"), None, "missing or invalid"),
    (CONV, ("spec", "window", "kernel"), (3, 3, 3, 3), "window"),
    (CONV, ("spec", "window", "stride"), (0, 2), "missing or invalid"),
    (CONV, ("spec", "window", "dilation"), (1 << 31, 1), "1 to 65535 is supported"),
    (CONV, ("spec", "window", "pad_begin"), (-1, 1), "missing or invalid"),
    (CONV, ("spec", "m"), 13, "the bias have the shape"),
    (CONV, ("spec", "m"), 0, "outputs"),
    (CONV, ("spec", "channels"), 0, "channels"),
    (CONV, ("spec", "channels"), 7, "of 7 channels"),
    (CONV, ("spec", "max_vectors"), 0, "vectors"),
    (CONV, ("spec", "max_vectors"), 1 << 40, "vectors"),
    (CONV, ("spec", "x_rows"), True, "another order"),
    (CONV, ("spec", "taps"), lambda taps: taps[:-1], "taps of a window"),
    (CONV, ("spec", "taps", 0), (10**6, 0, 0), "segment"),
    (CONV, ("spec", "taps", 0), (0, 10**6, 0), "reads"),
    (CONV, ("spec", "segments"), lambda segments: segments[:-1], "segments"),
    (CONV, ("spec", "segments", 0), (0, 0, 0, 10**6, 0), "end elsewhere"),
    (CONV, ("spec", "segments", 0), (0, -1, 0, 0, 0), "reads"),
    (CONV, ("spec", "unit_segment"), (0,), "units"),
    (CONV, ("spec", "groups"), (), "no weights"),
    (CONV, ("spec", "groups", 0, "channel_begin"), 1, "channels from"),
    (CONV, ("spec", "groups", 0, "channels"), 10**6, "channels"),
    (CONV, ("spec", "groups", 0, "bounds"), (0,), "blocks"),
    (CONV, ("spec", "groups", 0, "bounds"), (0, 10**6), "blocks"),
    (CONV, ("spec", "groups", 0, "bounds"), lambda bounds: (0, 0, *bounds[1:]), "ascend"),
    (CONV, (*PANEL, "mr"), 3, "rows by 3"),
    (CONV, (*PANEL, "rows"), 13, "rows"),
    (CONV, (*PANEL, "row_begin"), 1, "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 0), 1), "belong to no row"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 1), 10**6), "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((-1, -1), 10**6), "belong to no row"),
    (CONV, (*PANEL, "row_start__bg"), lambda array: array[:, 1:], "beginnings of rows"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 10**6), "missing"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 2), "missing"),
    (CONV, (*PANEL, "k__nc"), with_element((0, 0), 10**4), "outside block"),
    (CONV, (*PANEL, "k__nc"), lambda array: array[:, :1], "columns"),
    (CONV, (*PANEL, "value__nr"), lambda array: array[1:], "columns have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("spec", "value__mt"), lambda array: array[1:], "the weights have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("spec", "bias__m"), lambda array: array[1:], "the bias have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("spec", "channels"), 0, "channels"),
    (("images 0", StepKind.CONCAT), ("spec", "axis"), 4, "axis 4 of 4"),
    (("images 0", StepKind.CONCAT), ("spec", "axis"), 2, "do not fit"),
    (("images 0", StepKind.CONCAT), ("spec", "begins"), False, "do not fit"),
    (("images 0", StepKind.PAD), ("spec", "before"), (0, 0, -1, 0), "negative"),
    (("images 0", StepKind.PAD), ("spec", "after"), (0, 0, 0), "pads of 4"),
    (("images 0", StepKind.RESIZE), ("spec",), None, "data of another kind"),
    (("images 0", StepKind.RESIZE), ("spec", "scale"), (1e30, 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("spec", "scale"), (float("nan"), 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("spec", "size"), (-2, 1), "sizes"),
    (("images 0", StepKind.SHUFFLE), ("spec", "block"), (0, 2), "blocks of"),
    (("images 0", StepKind.SHUFFLE), ("spec", "block"), (2,), "blocks of 1 dimensions"),
    (("images 0", StepKind.SHUFFLE), ("spec", "crop"), (0, 2), "a crop of"),
    (("images 0", StepKind.POOL), ("spec", "window", "pad_begin"), (9, 9), "pads as wide"),
    (("images 0", StepKind.POOL), ("spec", "window", "kernel"), (3, 3, 3), "does not fit kernel_shape"),
    (("images 0", StepKind.POOL), ("spec",), Reduce((), Op.ADD), "data of another kind"),
    (("images 0", StepKind.RESHAPE), ("spec", "flatten_axis"), 9, "axis 9"),
    (("matrices 0", StepKind.BINARY), ("spec",), None, "data of another kind"),
    (("matrices 0", StepKind.ACTIVATE), ("spec",), Reduce((), Op.ADD), "data of another kind"),
    (MATRIX, ("spec", "taps"), ((0, 0, 1),), "with taps"),
    (MATRIX, ("spec", "batch"), (3,), "matrices"),
    (MATRIX, ("spec", "vector_operand"), True, "vector of several rows"),
    (("matrices 0", StepKind.NORMALIZE), ("r",), 0, "not constant rows"),
    (("matrices 0", StepKind.TRANSPOSE), ("spec", "target"), (0, 1, 7), "not an order"),
    (("matrices 0", StepKind.RESHAPE), ("spec", "inserted"), (9,), "axes"),
    (("matrices 0", StepKind.BINARY), ("r",), -1, "one operand"),
    (NARROW, ("spec",), Convert(ElementType.BFLOAT16), "float16 to float32 through bfloat16"),
    (NARROW, ("spec",), Convert(ElementType.INT32), "through int32"),
    (CELL, ("x",), 0, "not a projection"),
    (CELL, ("spec",), None, "data of another kind"),
    (CELL, ("spec", "hidden"), 10, "weights"),
    (CELL, ("spec", "hidden"), 0, "hidden units"),
    (CELL, ("spec", "reverse"), (False,) * 3, "in 3 directions"),
    (CELL, ("spec", "gates"), (2, 2), "with gates"),
    (CELL, ("spec", "products"), (), "0 weights"),
    (CELL, ("spec", "activations"), (), "0 activations"),
    (CELL, ("spec", "peephole__dgh"), np.ones((1, 3, 9), np.float32), "peepholes are an LSTM's"),
    (CELL, ("spec", "late__dh"), np.ones((2, 9), np.float32), "late bias"),
    (CELL, ("spec", "lengths"), 10**6, "read before"),
    (CELL, ("spec", "lengths"), 0, "dimensions"),
    (CELL, ("spec", "initial_h"), 0, "dimensions"),
    (CELL, ("spec", "last_h"), 0, "made twice"),
    (CELL, ("spec", "clip"), float("nan"), "clipped"),
]


def named(i, base, where, value, message):
    """A readable id: number, kind of step, and the member that is changed."""
    return f"{i}-{base[1].name.lower()}-{'.'.join(map(str, where))}"


@pytest.mark.parametrize(("base", "where", "value", "message"), HOSTILE, ids=[named(i, *row) for i, row in enumerate(HOSTILE)])
def test_hostile_step(base, where, value, message):
    """Each is refused with the number of the step and the cause, by `decode` too."""
    if where == ("spec", "initial_h"):
        value = lambda _: first(*base)[0].inputs["lengths"]  # noqa: E731  # a value of the table of cases, as the others are
    program, index = first(*base)
    check(program)
    hostile = changed(program, ("steps", index, *where), value)
    with pytest.raises(ValueError, match=rf"^step \d+ \(.*{message}"):
        check(hostile)
    region = serialize.decode(next(seed.blob for seed in SEEDS if seed.name == base[0]))
    try:
        blob = serialize.encode(replace(region, program=hostile))
    except (ValueError, TypeError):
        return  # cannot be written
    with pytest.raises(ValueError, match=r"step \d+|no int|reach|members|is |lacks"):
        serialize.decode(blob)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_values": 1}, "value"),
        ({"n_values": 1 << 40}, "values in"),
        ({"outputs": {}}, "without outputs"),
        ({"outputs": {"y": 0}}, "no step makes"),
        ({"outputs": {"y": 2, "z": 2}}, "twice the same|no step makes"),
        ({"ranks": ()}, "ranks of"),
        ({"ranks": (9,)}, "dimensions"),
        ({"ranks": (3,)}, "dimensions"),
        ({"inputs": {"x": 0, "z": 0}, "ranks": (4, 4)}, "made twice"),
        ({"inputs": {"x": 10**6}}, "does not exist"),
        ({"constants": {0: np.ones(1, np.float32)}}, "made twice"),
        ({"types": {10**6: ElementType.UINT8}}, "does not exist"),
        ({"types": {0: ElementType.FLOAT16}}, "value 0 is float16, float32 is expected"),
        ({"types": {2: ElementType.INT32}}, "value 2 is int32, float32 is expected"),
    ],
)
def test_hostile_program(change, message):
    """Errors outside of the steps."""
    program, _ = first(*CONV)
    with pytest.raises(ValueError, match=message):
        check(replace(program, **change))


def test_batches_that_cannot_be_cut():
    """A recurrent program does not compute sequence by sequence of its first dimension."""
    program, _ = first(*CELL)
    assert not program.separable
    with pytest.raises(ValueError, match="the batch cannot be cut"):
        check(replace(program, separable=True))


def residual():
    """A program of a product and its residual: the product, and the addition that completes it."""
    nodes = [("MatMul", ("x", "w"), "p", ("n", 4), {}), ("Add", ("p", "r"), "y", ("n", 4), {})]
    graph = graph_of(nodes, {"x": ("n", 4), "r": ("n", 4)}, {"w": np.eye(4, dtype=np.float32)})
    return pipeline.lower_to_spec(graph, ISAS[0])


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("steps",), lambda steps: steps[:1]),
        (("steps", 0, "r"), -1),
        (("steps", 1, "completes"), False),
        (("steps", 1, "r"), lambda r: 0),
        (("steps",), lambda steps: (replace(steps[0], r=-1), replace(steps[1], completes=False), steps[1])),
    ],
)
def test_residuals_are_added(where, value):
    """A product that may leave its residual out is followed by the step that adds it then, and no other step may have nothing to do."""
    program = residual()
    assert [step.completes for step in program.steps] == [False, True]
    check(program)
    with pytest.raises(ValueError, match="residual"):
        check(changed(program, where, value))
