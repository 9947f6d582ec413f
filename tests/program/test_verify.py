"""Hostile programs, each with one member changed: all that the C side relies on is checked."""

from dataclasses import replace

import numpy as np
import pytest

from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse.program import serialize
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.steps import Depthwise
from onnxruntime_ep_sparse.program.verify import check

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
PANEL = ("product", "groups", 0, "panel")
HOSTILE = [
    (CONV, ("x",), 10**6, "read before it is made"),
    (CONV, ("x",), -1, "read before it is made"),
    (CONV, ("y",), 10**6, "made twice or is none"),
    (CONV, ("r",), 10**6, "read before"),
    (CONV, ("product",), None, "weights of another kind"),
    (CONV, ("window",), None, "without a proper window"),
    (CONV, ("window", "kernel"), (3, 3, 3, 3), "window"),
    (CONV, ("window", "stride"), (0, 2), "proper window"),
    (CONV, ("window", "dilation"), (1 << 31, 1), "1 to 65535 is supported"),
    (CONV, ("window", "pad_begin"), (-1, 1), "proper window"),
    (CONV, ("product", "m"), 13, "the bias have the shape"),
    (CONV, ("product", "m"), 0, "outputs"),
    (CONV, ("product", "channels"), 0, "channels"),
    (CONV, ("product", "channels"), 7, "of 7 channels"),
    (CONV, ("product", "max_vectors"), 0, "vectors"),
    (CONV, ("product", "max_vectors"), 1 << 40, "vectors"),
    (CONV, ("product", "x_rows"), True, "another order"),
    (CONV, ("product", "taps"), lambda taps: taps[:-1], "taps of a window"),
    (CONV, ("product", "taps", 0), (10**6, 0, 0), "segment"),
    (CONV, ("product", "taps", 0), (0, 10**6, 0), "reads"),
    (CONV, ("product", "segments"), lambda segments: segments[:-1], "segments"),
    (CONV, ("product", "segments", 0), (0, 0, 0, 10**6, 0), "end elsewhere"),
    (CONV, ("product", "segments", 0), (0, -1, 0, 0, 0), "reads"),
    (CONV, ("product", "unit_segment"), (0,), "units"),
    (CONV, ("product", "groups"), (), "no weights"),
    (CONV, ("product", "groups", 0, "channel_begin"), 1, "channels from"),
    (CONV, ("product", "groups", 0, "channels"), 10**6, "channels"),
    (CONV, ("product", "groups", 0, "bounds"), (0,), "blocks"),
    (CONV, ("product", "groups", 0, "bounds"), (0, 10**6), "blocks"),
    (CONV, ("product", "groups", 0, "bounds"), lambda bounds: (0, 0, *bounds[1:]), "ascend"),
    (CONV, (*PANEL, "mr"), 3, "rows by 3"),
    (CONV, (*PANEL, "rows"), 13, "rows"),
    (CONV, (*PANEL, "row_begin"), 1, "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 0), 1), "no row's"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 1), 10**6), "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((-1, -1), 10**6), "no row's"),
    (CONV, (*PANEL, "row_start__bg"), lambda array: array[:, 1:], "beginnings of rows"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 10**6), "missing"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 2), "missing"),
    (CONV, (*PANEL, "k__nc"), with_element((0, 0), 10**6), "outside block"),
    (CONV, (*PANEL, "k__nc"), lambda array: array[:, :1], "columns"),
    (CONV, (*PANEL, "value__nr"), lambda array: array[1:], "columns have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "value__mt"), lambda array: array[1:], "the weights have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "bias__m"), lambda array: array[1:], "the bias have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "channels"), 0, "channels"),
    (("images 0", StepKind.CONCAT), ("axis",), 4, "axis 4 of 4"),
    (("images 0", StepKind.CONCAT), ("axis",), 2, "do not fit"),
    (("images 0", StepKind.CONCAT), ("begins",), False, "do not fit"),
    (("images 0", StepKind.PAD), ("before",), (0, 0, -1, 0), "negative"),
    (("images 0", StepKind.PAD), ("after",), (0, 0, 0), "pads of 4"),
    (("images 0", StepKind.RESIZE), ("resize",), None, "without sizes"),
    (("images 0", StepKind.RESIZE), ("resize", "scale"), (1e30, 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("resize", "scale"), (float("nan"), 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("resize", "size"), (-2, 1), "sizes"),
    (("images 0", StepKind.SHUFFLE), ("block",), 0, "blocks of 0"),
    (("images 0", StepKind.POOL), ("window", "pad_begin"), (9, 9), "pads as wide"),
    (("images 0", StepKind.POOL), ("window", "kernel"), (3, 3, 3), "does not fit kernel_shape"),
    (("images 0", StepKind.POOL), ("product",), Depthwise(1, 1, np.ones((1, 1), np.float32), np.ones(1, np.float32)), "another kind"),
    (("images 0", StepKind.RESHAPE), ("flatten_axis",), 9, "axis 9"),
    (MATRIX, ("product", "taps"), ((0, 0, 1),), "with taps"),
    (MATRIX, ("product", "batch"), (3,), "matrices"),
    (MATRIX, ("product", "vector_operand"), True, "vector of several rows"),
    (("matrices 0", StepKind.NORMALIZE), ("r",), 0, "not constant rows"),
    (("matrices 0", StepKind.TRANSPOSE), ("target",), (0, 1, 7), "no order"),
    (("matrices 0", StepKind.RESHAPE), ("inserted",), (9,), "axes"),
    (("matrices 0", StepKind.BINARY), ("r",), -1, "one operand"),
    (CELL, ("x",), 0, "no projection"),
    (CELL, ("recurrent",), None, "a cell of another kind"),
    (CELL, ("recurrent", "hidden"), 10, "weights"),
    (CELL, ("recurrent", "hidden"), 0, "hidden units"),
    (CELL, ("recurrent", "reverse"), (False,) * 3, "in 3 directions"),
    (CELL, ("recurrent", "gates"), (2, 2), "with gates"),
    (CELL, ("recurrent", "products"), (), "0 weights"),
    (CELL, ("recurrent", "activations"), (), "0 activations"),
    (CELL, ("recurrent", "peephole__dgh"), np.ones((1, 3, 9), np.float32), "peepholes are an LSTM's"),
    (CELL, ("recurrent", "late__dh"), np.ones((2, 9), np.float32), "late bias"),
    (CELL, ("recurrent", "lengths"), 10**6, "read before"),
    (CELL, ("recurrent", "initial_h"), 0, "dimensions"),
    (CELL, ("recurrent", "last_h"), 0, "made twice"),
    (CELL, ("recurrent", "clip"), float("nan"), "clipped"),
]


def named(i, base, where, value, message):
    """A readable id: number, kind of step, and the member that is changed."""
    return f"{i}-{base[1].name.lower()}-{'.'.join(map(str, where))}"


@pytest.mark.parametrize(("base", "where", "value", "message"), HOSTILE, ids=[named(i, *row) for i, row in enumerate(HOSTILE)])
def test_hostile_step(base, where, value, message):
    """Each is refused with the number of the step and the cause, by `decode` too."""
    if where == ("recurrent", "initial_h"):
        value = lambda _: first(*base)[0].inputs["lengths"]  # noqa: E731
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
    with pytest.raises(ValueError, match=r"step \d+|no int|reach|members|is "):
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
        ({"inputs": {"x": 10**6}}, "is none"),
        ({"constants": {0: np.ones(1, np.float32)}}, "made twice"),
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
