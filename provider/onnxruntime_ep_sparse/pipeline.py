"""From the graph of a region to a program: passes, lowering by the operators' rows, packing, compilation."""

from __future__ import annotations

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import Isa

from .graph.ir import Graph
from .ops.table import is_activation, is_addition, row_for
from .options import Options, byte_set_of, isa_of, workers_of
from .passes.run import run_passes
from .program.builder import Builder
from .program.steps import ProgramSpec
from .runtime._program import Program


def lower(graph: Graph, options: Options) -> Program:
    """Compile a region. `graph.inputs` are its inputs that are not constant, `graph.outputs` the values that leave it."""
    return program_of(lower_to_spec(graph, isa_of(options), workers_of(options)), options)


def lower_to_spec(graph: Graph, isa: Isa, workers: int = 1) -> ProgramSpec:
    """Return the program of a region as plain data, packed for `isa` on `workers` threads: what a compiled model keeps."""
    graph = run_passes(graph)
    builder = Builder(graph, isa, workers, is_activation, is_addition)
    for node in graph.nodes:
        row = row_for(node)
        assert row is not None, f"{node.op_type} in a region"
        builder.begin(node)
        row.lower(builder, node)
        builder.pass_on(node)
    return builder.finish()


def program_of(spec: ProgramSpec, options: Options) -> Program:
    """Compile the program for this process."""
    byte_table = kernels.byte_table(byte_set_of(options)) if spec.has_bytes else None
    return Program(spec, kernels.table(isa_of(options).name), workers_of(options), options.profile, byte_table=byte_table)
