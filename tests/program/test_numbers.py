"""Numbers that a plan computes: which ones of a file are refused, and what of them depends on the batch."""

from dataclasses import replace

import pytest

from onnxruntime_ep_sparse.program.enums import ElementType, NumberOp, StepKind
from onnxruntime_ep_sparse.program.kinds.layout import Reshape
from onnxruntime_ep_sparse.program.kinds.row import Origin
from onnxruntime_ep_sparse.program.numbers import COUNT_OF_OPERANDS, origins_of
from onnxruntime_ep_sparse.program.steps import Numbers, ProgramSpec, Step
from onnxruntime_ep_sparse.program.verify import check

INT64 = ElementType.INT64
DIMS = Numbers(NumberOp.SHAPE, 1, (0,), shape=(2,), places=(0, 1))
REST = Numbers(NumberOp.LITERAL, 2, shape=(1,), integers=(-1,))
TARGET = Numbers(NumberOp.JOIN, 3, (1, 2), shape=(3,))
SPEC = ProgramSpec(
    5,
    {"x": 0},
    {"y": 4},
    steps=(Step(StepKind.RESHAPE, 0, 4, spec=Reshape(computed=3)),),
    types={1: INT64, 2: INT64, 3: INT64},
    ranks=(3,),
    computed=(DIMS, REST, TARGET),
)


def test_every_way_to_compute_has_a_number_of_operands():
    """Which is what the C side relies upon."""
    assert COUNT_OF_OPERANDS.keys() == set(NumberOp)


def test_whole():
    """As `ops` makes it."""
    check(SPEC)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((replace(DIMS, places=(0, 3)), REST, TARGET), "places of 3 dimensions"),
        ((replace(DIMS, places=(0,)), REST, TARGET), "another count"),
        ((replace(DIMS, operands=(4,)), REST, TARGET), "before it is made"),
        ((DIMS, replace(REST, integers=()), TARGET), "another count"),
        ((DIMS, REST, replace(TARGET, shape=(2,))), "another length"),
        ((DIMS, REST, replace(TARGET, shape=(17,))), "numbers of the shape"),
        ((DIMS, REST, replace(TARGET, operands=(1,))), "operands of JOIN"),
        ((DIMS, REST, replace(TARGET, operands=(1, 0))), "operands of several types"),
        ((DIMS, TARGET, REST), "not numbers of the plan"),
        ((DIMS, REST, replace(TARGET, before=1)), "not numbers of the plan"),
        ((DIMS, REST, replace(TARGET, before=9)), "not numbers of the plan"),
        ((DIMS, REST, Numbers(NumberOp.PICK, 3, (1,), shape=(1,), places=(2,))), "places of 2 numbers"),
        ((DIMS, REST, Numbers(NumberOp.ADD, 3, (1, 2), shape=(3,))), "several lengths"),
        ((DIMS, REST, Numbers(NumberOp.SQRT, 3, (1,), shape=(2,))), "SQRT of integers"),
        ((DIMS, REST, Numbers(NumberOp.SELECT, 3, (1, 1, 2), shape=(2,))), "not a truth"),
        ((DIMS, REST, Numbers(NumberOp.EQUAL, 3, (1, 1), shape=(2,))), "a truth of another type"),
        ((DIMS, REST, Numbers(NumberOp.INPUT, 3, (0,), shape=(3,))), "not an input"),
    ],
)
def test_refused(changed, words):
    """Each assumption of the C side, changed alone."""
    with pytest.raises(ValueError, match=words):
        check(replace(SPEC, computed=changed))


def test_types_and_lists_of_steps():
    """A step reads no integers as floats, no truths, and no target that is something else."""
    short = (replace(REST, y=3),)
    with pytest.raises(ValueError, match="value 3 is not a shape"):
        check(replace(SPEC, computed=short, types={3: ElementType.INT32}))
    with pytest.raises(ValueError, match="value 3 is int64, float32 is expected"):
        check(replace(SPEC, steps=(Step(StepKind.RESHAPE, 3, 4, spec=Reshape((-1,))),)))
    truths = (Numbers(NumberOp.LITERAL, 3, shape=(1,), integers=(1,)),)
    with pytest.raises(ValueError, match="value 3 is truths of the plan"):
        check(replace(SPEC, steps=(Step(StepKind.RESHAPE, 3, 4, spec=Reshape((-1,))),), computed=truths, types={3: ElementType.BOOL}))
    with pytest.raises(ValueError, match="not numbers of the plan"):
        check(replace(SPEC, steps=(Step(StepKind.RESHAPE, 0, 4, spec=Reshape(computed=0)),)))


def test_contents_that_a_step_reads():
    """An input of integers is no operand of floats."""
    contents = Numbers(NumberOp.INPUT, 3, (0,), shape=(3,))
    spec = replace(SPEC, ranks=(1,), computed=(contents,), types={0: INT64, 3: INT64})
    with pytest.raises(ValueError, match=r"value 0 is int64|contents of an input"):
        check(spec)


def test_batches_are_cut_by_what_depends_on_them():
    """[batch, size, -1] may run in slices; [size, batch, -1] and a batch that was computed with may not."""
    check(replace(SPEC, separable=True))
    assert origins_of(SPEC.computed, {})[3] == (Origin.BATCH, Origin.FREE, Origin.FREE)
    assert origins_of(SPEC.computed, {0: None})[1] == (Origin.FREE, Origin.FREE)
    turned = (replace(DIMS, places=(1, 0)), REST, TARGET)
    doubled = (DIMS, replace(REST, integers=(2,)), Numbers(NumberOp.MUL, 3, (1, 2), shape=(2,)))
    for computed in (turned, doubled):
        with pytest.raises(ValueError, match="the batch cannot be cut"):
            check(replace(SPEC, separable=True, computed=computed))
