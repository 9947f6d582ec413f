"""Cast between the types of floating-point numbers and of truths that regions hold."""

from __future__ import annotations

import numpy as np

from ..graph.ir import BOOL, Graph, Node, shape_of
from ..program.builder import TYPE_OF, Builder
from ..program.enums import StepKind
from ..program.kinds.convert import Convert
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Reshape
from ..program.steps import Step
from ..reasons import Finding
from .elementwise import IS_TRUE
from .row import TRUTHS, OpRow


def _can_run(graph: Graph, node: Node) -> Finding | None:
    return None


def _lower(builder: Builder, node: Node) -> None:
    """Round to a type of 16 bits, or compare with 0; float32 is what the operand is in already."""
    x, y = node.inputs[0], node.outputs[0]
    if builder.graph.values[y].dtype == BOOL and builder.graph.values[x].dtype != BOOL:
        zero = builder.constant(np.zeros((), np.float32))
        builder.step(Step(StepKind.BINARY, builder.value(x), builder.value(y), zero, spec=Binary(IS_TRUE)))
        return
    narrow = builder.graph.narrow.get(y)
    if narrow is None:
        builder.step(Step(StepKind.RESHAPE, builder.value(x), builder.value(y), spec=Reshape((0,) * len(shape_of(builder.graph, x)))))
    else:
        builder.step(Step(StepKind.CONVERT, builder.value(x), builder.value(y), spec=Convert(TYPE_OF[narrow])))


ROWS = (OpRow("Cast", "neighbour", _can_run, _lower, "between float32, float16, bfloat16 and bool", types=TRUTHS),)
