"""The table of operators: general checks, and each row against ONNX's own description of the operator."""

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from onnx import defs

from onnxruntime_ep_sparse import ops as package
from onnxruntime_ep_sparse.graph.ir import BOOL, FLOAT, INT64, Value
from onnxruntime_ep_sparse.ops import integer_products, quantized
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.row import FUSED, MICROSOFT, ONNX
from support.nodes import C, one_node

FILES = [importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)]
MODULES = [module for module in FILES if hasattr(module, "ROWS")]
QUANTISED = {row.op_type for module in (quantized, integer_products) for row in module.ROWS}
"""Operators whose operands are integers, and scales and zero points beside them: tests/ops/test_quantized.py asks what they take."""
NEWEST = defs.onnx_opset_version()
KNOWN = [name for name, row in ops.OPS.items() if "" in row.domains and defs.has(name) and name not in QUANTISED]
"""Operators of ONNX's own domain, to which ONNX Runtime adds SimplifiedLayerNormalization."""


def test_each_operator_has_one_row():
    """A second row would hide the first."""
    assert sorted(row.op_type for module in MODULES for row in module.ROWS) == sorted(ops.OPS)


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_the_inputs_that_cannot_be_float(name):
    """Data is what ONNX lets be float32, or a truth where the row takes truths, but for numbers of Pad, Resize, Upsample, Pow."""
    row, schema = ops.OPS[name], defs.get_schema(name, NEWEST)
    data = {"tensor(float)", *(("tensor(bool)",) if BOOL in row.types else ())}
    other = {i for i, value in enumerate(schema.inputs) if not data & set(value.types)}
    numbers = {"Pad": {2}, "Resize": {1, 2}, "Upsample": {1}, "Pow": {1}}
    other -= {1} if name in ("Gather", "GatherND", "ScatterND") else set()  # indices are data
    assert set(row.parameters) == other | numbers.get(name, set())
    assert row.results <= schema.max_output


@pytest.mark.parametrize("name", KNOWN)
def test_first_version_exists(name):
    """A row names a version in which ONNX changed the operator."""
    versions = {schema.since_version for schema in defs.get_all_schemas_with_history() if (schema.name, schema.domain) == (name, "")}
    assert ops.OPS[name].first_version in versions | {1}


@pytest.mark.parametrize("name", ops.OPS)
def test_domains(name):
    """An operator of the same name in another domain is another one."""
    row = ops.OPS[name]
    assert set(row.domains) <= {*ONNX, *MICROSOFT, FUSED}
    for domain in (*ONNX, *MICROSOFT, FUSED, "other"):
        _, node = one_node(name, [(1, 4)], (1, 4), domain=domain)
        assert ops.row_for(node) is (row if domain in row.domains else ops.NAMESAKES.get((domain, name)))


def test_operators_beyond_the_table():
    """They have no row, no weights, and a reason."""
    graph, node = one_node("Atan", [(1, 4)], (1, 4))
    assert ops.can_run(graph, node).code == "unsupported-operator"
    assert ops.weights_of(graph, node) == ()
    assert not ops.is_activation(node)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (Value("y", 0, (1, 4)), "type-unknown"),
        (None, "name-not-unique"),
        (Value("y", INT64, (1, 4)), "not-float32"),
        (Value("y", FLOAT, None), "rank-unknown"),
        (Value("y", FLOAT, (1,) * 9), "unsupported-rank"),
        (Value("y", FLOAT, (1,) * 8), None),
    ],
)
def test_values_that_no_operator_can_have(value, code):
    """Types and ranks are checked for every operator alike."""
    graph, node = one_node("Relu", [(1, 4)], (1, 4))
    values = {name: known for name, known in graph.values.items() if name != "y"} | ({"y": value} if value else {})
    finding = ops.can_run(replace(graph, values=values), node)
    assert (finding and finding.code) == code


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2,), (8,), (1, 1), (2, 1), (1, 4), (2, 2, 2)])
@pytest.mark.parametrize("name", [name for name in KNOWN if ops.OPS[name].parameters])
def test_parameters_of_any_shape_get_an_answer(name, shape):
    """None or a reason, and no exception: that would leave the whole graph."""
    described = defs.get_schema(name, NEWEST).inputs
    whole = {index: "tensor(int64)" in described[index].types for index in ops.OPS[name].parameters}
    for index in whole:
        needed = [i for i in whole if i < index and described[i].option == defs.OpSchema.FormalParameterOption.Single]
        sizes = {**dict.fromkeys(needed, (8,)), index: shape}
        arrays = {i: np.full(size, 2, np.int64 if whole[i] else np.float32) for i, size in sizes.items()}
        inputs = [(2, 4, 4, 4), *(sizes.get(i) for i in range(1, index + 1))]
        graph, node = one_node(name, inputs, (2, 4, 4, 4), arrays=arrays, dtypes={i: INT64 for i in sizes if whole[i]})
        finding = ops.can_run(graph, node)
        assert finding is None or finding.text


@pytest.mark.parametrize("value", [2, 3, -1, 2**40])
@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name in KNOWN for flag in sorted(ops.FLAGS & set(defs.get_schema(name, NEWEST).attributes))]
)
def test_flags_are_0_or_1(name, flag, value):
    """ONNX Runtime takes ceil_mode=2 for 0, and transA=2 for 1: whatever it does, such nodes are left to it."""
    graph, node = one_node(name, [(2, 4, 4, 4)], (2, 4, 4, 4), {flag: value})
    finding = ops.can_run(graph, node)
    assert finding.code == "unsupported-attribute"
    assert f"{flag}={value}" in finding.text


def test_every_flag_is_known():
    """Whole numbers whose documented values are 0 and 1, of the operators in the table."""
    whole = {
        attribute.name
        for name in KNOWN
        for attribute in defs.get_schema(name, NEWEST).attributes.values()
        if attribute.type == defs.OpSchema.AttrType.INT
    }
    numbers = {
        "axis",
        "group",
        "num_groups",
        "num_outputs",
        "hidden_size",
        "size",
        "blocksize",
        "stash_type",
        "spatial",
        "start",
        "end",
        "training_mode",
        "to",
        "batch_dims",
        "num_heads",
        "rotary_embedding_dim",
        *("q_num_heads", "kv_num_heads", "qk_matmul_output_mode", "softmax_precision", "left_window_size", "right_window_size"),
    }
    assert whole - numbers == ops.FLAGS & whole
    assert whole >= ops.FLAGS


def test_further_outputs_are_declined():
    """Indices of a MaxPool that are read, whatever their type; those that are not matter to no one."""
    graph, node = one_node("MaxPool", [(1, 4, 8, 8)], (1, 4, 7, 7), {"kernel_shape": (2, 2)})
    graph.values["indices"] = Value("indices", INT64, (1, 4, 7, 7))
    assert ops.can_run(replace(graph, outputs=("y", "indices")), replace(node, outputs=("y", "indices"))).code == "extra-outputs"
    assert ops.can_run(graph, replace(node, outputs=("y", "indices"))) is None
    assert ops.can_run(graph, replace(node, outputs=("y", ""))) is None


@pytest.mark.parametrize("name", sorted(ops.OPS.keys() - QUANTISED))
def test_roles(name):
    """Products and recurrent nodes have weights; activations are what a product can end with."""
    row = ops.OPS[name]
    _, node = one_node(name, [(1, 4)], (1, 4), domain=row.domains[0])
    assert ops.is_activation(node) == (row.role == "activation")
    inputs = [(2, 3, 4), (C, 1, 16, 4), (C, 1, 16, 4)] if row.role == "recurrent" else [(1, 4), (C, 4, 4)]
    graph, node = one_node(name, inputs, (1, 4), domain=row.domains[0])
    assert bool(ops.weights_of(graph, node)) == (row.role in ("product", "recurrent"))


def test_ranks_are_kept_for_regions():
    """What a Conv of the whole graph implies is known in a graph without the Conv."""
    graph, node = one_node("Conv", [(1, 4, 8, 8), (C, 4, 4, 1, 1)], None)
    ranks: dict[str, int] = {}
    assert ops.with_implied_shapes(graph, ranks).values["y"].shape is not None
    assert ranks == {"y": 4}
    relu = replace(node, op_type="Relu", inputs=("y",), outputs=("z",))
    alone = replace(graph, nodes=(relu,), values={name: Value(name, FLOAT, None) for name in "yz"}, inputs=("y",), outputs=("z",))
    assert ops.with_implied_shapes(alone, ranks).values["y"].shape == (None,) * 4
