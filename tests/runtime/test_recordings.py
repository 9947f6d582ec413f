"""Recordings of runs: each step that is computed, its work, and the kernels that compute it."""

import numpy as np
import pytest

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.program import byte_packing
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import APART, ISAS, SHARED, byte_sets_for, isa_named
from support.byte_programs import ByteCase
from support.kernel_sets import table_of
from support.making import noise, pruned
from support.programs import graph_of

ISA = isa_named(kernels.available_isas()[0])


def product(shape, zeros, x, **attributes):
    """The program of a Conv or a MatMul with the weight `shape`, run on an input of the shape `x`: its only record and its weight."""
    rng = np.random.default_rng(0)
    weight = pruned(rng, shape, zeros)
    op_type, operands = ("Conv", weight) if len(shape) > 2 else ("MatMul", np.ascontiguousarray(weight.T))
    graph = graph_of([(op_type, ("x", "w"), "y", (None,) * len(x), attributes)], {"x": x}, {"w": operands})
    program = Program(pipeline.lower_to_spec(graph, ISA), table_of(ISA), 1)
    recorded = []
    program.run(noise(rng, *x), recorded=recorded)
    (record,) = recorded
    return record, weight


@pytest.mark.parametrize(
    ("shape", "zeros", "x", "kernel", "rows", "layout"),
    [
        ((24, 32, 3, 3), 0.9, (1, 32, 12, 12), "spmm_f32", APART, "tiles"),
        ((24, 32, 3, 3), 0.0, (1, 32, 12, 12), "spmm_f32", SHARED, "tiles"),
        ((24, 3, 3, 3), 0.0, (1, 3, 12, 32), "spmm_f32", SHARED, "rows"),
        ((256, 256), 0.9, (1, 256), "sell", 0, "SELL"),
        ((256, 256), 0.1, (1, 256), "dense", 0, "with zeros"),
    ],
)
def test_kernels_of_products(shape, zeros, x, kernel, rows, layout):
    """Tiles of registers, or a layout for few pixels. The number of nonzeros is that of the weight."""
    record, weight = product(shape, zeros, x, **({"pads": (1, 1, 1, 1)} if len(shape) > 2 else {}))
    assert (record.kernel, record.rows, record.layout) == (kernel, rows, layout)
    assert record.nonzeros == np.count_nonzero(weight)
    assert record.macs == record.nonzeros * (x[2] * x[3] if len(x) > 2 else x[0])
    assert record.width == 1 or (rows, record.width) in ISA.tiles
    assert record.ns > 0


def test_layouts_of_images():
    """Dealt images, and steps that run together in bands: the second one has the work of both, the first one no record."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", ("x", "d"), "a", (None, 32, None, None), {"group": 32, "pads": (1,) * 4}),
        ("Conv", ("a", "w"), "y", (None, 24, None, None), {}),
    ]
    weights = {"d": noise(rng, 32, 1, 3, 3), "w": pruned(rng, (24, 32, 1, 1), 0.5)}
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": (1, 32, 64, 64)}, weights), ISA)
    x, kept = noise(rng, 1, 32, 64, 64), np.count_nonzero(weights["w"])
    for far_floats, expected in ((1 << 40, [("depthwise", "", 288), ("spmm_f32", "tiles", kept)]), (0, [("spmm_f32", "bands", kept)])):
        recorded = []
        Program(spec, table_of(ISA), 1, far_floats=far_floats).run(x, recorded=recorded)
        assert [(record.kernel, record.layout, record.nonzeros) for record in recorded] == expected
        assert sum(record.macs for record in recorded) == (kept + 288) * 64 * 64
        assert [record.step for record in recorded] == list(range(2 - len(expected), 2))
    nodes = [("Conv", (f"v{i}", "w"), f"v{i + 1}", (None, 32, None, None), {"pads": (1,) * 4}) for i in range(3)]
    graph = graph_of(nodes, {"v0": (1, 32, 64, 64)}, {"w": pruned(rng, (32, 32, 3, 3), 0.8)}, ["v3"])
    recorded = []
    Program(pipeline.lower_to_spec(graph, ISA), table_of(ISA), 1, dealt_pixels=0).run(noise(rng, 1, 32, 64, 64), recorded=recorded)
    assert "dealt" in {record.layout for record in recorded}


def test_kernels_of_recurrent_nodes():
    """The step after the projection has the weights of all gates."""
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (1, 96, 40), 0.8), "r": pruned(rng, (1, 96, 32), 0.8)}
    graph = graph_of([("GRU", ("x", "w", "r"), "y", (None, 1, None, 32), {"hidden_size": 32})], {"x": (7, 5, 40)}, weights)
    recorded = []
    Program(pipeline.lower_to_spec(graph, ISA), table_of(ISA), 1).run(noise(rng, 7, 5, 40), recorded=recorded)
    assert recorded[-1].nonzeros == np.count_nonzero(weights["r"])
    assert recorded[-1].kernel in ("sell", "dense", "spmm_f32")


@pytest.mark.parametrize(("blocks", "size", "form"), [(False, 16, "spmm_u8_quads"), (True, 16, "spmm_u8_blocks"), (True, 3, "spmm_u8_few")])
def test_kernels_of_bytes(blocks, size, form, monkeypatch):
    """Weights anywhere, in blocks of channels, and few pixels."""
    monkeypatch.setattr(byte_packing, "pays", lambda matrix, taps: blocks)
    case = ByteCase((20, 24, 1, 1))
    row = next(row for row in byte_sets_for(ISAS) if row.isa == ISA)
    recorded = []
    case.program(row, case.conv(row), 4).run(case.x(1, 24, size, size), recorded=recorded)
    (record,) = recorded
    assert (record.kernel, record.macs) == (form, record.nonzeros * size * size)


def test_batch_in_slices():
    """Each slice has records of its own; nothing is recorded for a step that finds its result in place."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", ("x", "w"), "a", (None, 40, None, None), {}),
        ("Reshape", ("a", "shape"), "b", (None, 40 * 120 * 150), {}),
        ("Relu", ("b",), "y", (None, 40 * 120 * 150), {}),
    ]
    constants = {"w": pruned(rng, (40, 3, 1, 1), 0.5), "shape": np.array([0, -1])}
    program = Program(pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", 3, 120, 150)}, constants), ISA), table_of(ISA), 1)
    recorded = []
    program.run(noise(rng, 8, 3, 120, 150), recorded=recorded)
    steps = [record.step for record in recorded]
    assert len(steps) > 2
    assert steps == sorted(set(steps)) * (len(steps) // len(set(steps)))
    assert sum(record.macs for record in recorded) == np.count_nonzero(constants["w"]) * 8 * 120 * 150
