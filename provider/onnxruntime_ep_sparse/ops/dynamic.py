"""DynamicQuantizeLinear, which finds its scale and zero point in each run. It writes the bytes that products of bytes read, else floats."""

from __future__ import annotations

from functools import partial

from .. import reasons
from ..graph.ir import FLOAT, UINT8, Graph, Node
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.quantized import DynamicQuantize
from ..program.steps import Step
from ..reasons import Finding
from .integer_products import runs_on_bytes
from .quantized_costs import elementwise
from .row import OpRow


def _can_run(graph: Graph, node: Node) -> Finding | None:
    types = [graph.values[name].dtype for name in (node.inputs[0], *node.outputs) if name]
    return None if types == [FLOAT, UINT8, FLOAT, UINT8] else reasons.EXTRA_OUTPUTS()


def _lower(builder: Builder, node: Node) -> None:
    y, scale, zero = node.outputs
    spec = DynamicQuantize(builder.value(scale), builder.value(zero))
    on_bytes = any(runs_on_bytes(builder.graph, reader) for reader in builder.graph.consumers.get(y, []))
    number = builder.stored_value(y) if on_bytes else builder.value(y)
    builder.step(Step(StepKind.DYNAMIC_QUANTIZE, builder.value(node.inputs[0]), number, spec=spec))
    builder.zeros[y], builder.zeros[zero] = zero, 0


ROWS = (
    OpRow(
        "DynamicQuantizeLinear",
        "neighbour",
        _can_run,
        _lower,
        results=3,
        types=(UINT8, FLOAT),
        estimate=partial(elementwise, theirs="quantized", ours="exp"),
    ),
)
