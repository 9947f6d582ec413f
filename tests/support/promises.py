"""What the project promises, as functions that tests call: ownership asserted, results within the promised distance of float64."""

import os

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxruntime_ep_sparse as sparse
from support.making import noise
from support.reference import OPERATORS

EPS = float(np.finfo(np.float32).eps)
ALWAYS = {"policy": "always"}


def session_options(threads=None, entries=None, level=None):
    """Options of a session that accounts for its nodes, with ONNX Runtime's optimizations up to `level`, or all."""
    options = onnxruntime.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    options.log_severity_level = 4
    # the address sanitizer sees the ends of tensors that are allocations of their own
    options.enable_cpu_mem_arena = "ASAN_OPTIONS" not in os.environ
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    return options


def make_session(model, options=None, **arguments):
    """A session with our provider, nothing asserted. `model` is a ModelProto, bytes or a path; `arguments` go to `session_options`."""
    source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    providers = [(sparse.EP_NAME, {**ALWAYS, **(options or {})}), "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(source, session_options(**arguments), providers=providers, enable_fallback=0)


def cpu_session(model, **arguments):
    """The CPU provider's session of a model."""
    source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    return onnxruntime.InferenceSession(source, session_options(**arguments), providers=["CPUExecutionProvider"], enable_fallback=0)


def assignment(session):
    """(provider, operator) of every node that ONNX Runtime kept."""
    return [(graph.ep_name, node.op_type) for graph in session.get_provider_graph_assignment_info() for node in graph.get_nodes()]


def owned_session(model, options=None, regions=None, **arguments):
    """A session in which our provider has every node, as ONNX Runtime accounts for it; in `regions` regions if that is given."""
    session = make_session(model, options, **arguments)
    nodes = assignment(session)
    assert nodes, "an empty graph"
    assert {provider for provider, _ in nodes} == {sparse.EP_NAME}, (nodes, [d.reason for d in sparse.explain(session) if not d.taken])
    if regions is not None:
        assert len(session.get_provider_graph_assignment_info()) == regions
    return session


def exact(model, feeds):
    """The outputs computed in float64 by ONNX's reference implementation."""
    doubled = onnx.ModelProto()
    doubled.CopyFrom(model)
    within = [a.t for node in doubled.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    for tensor in (*doubled.graph.initializer, *within):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*doubled.graph.input, *doubled.graph.output, *doubled.graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return ReferenceEvaluator(doubled, new_ops=OPERATORS).run(None, {name: array.astype(np.float64) for name, array in feeds.items()})


def magnitude(model, feeds):
    """|W||x| + |b|: the same model on the absolute values of its weights and inputs. Only for models of products and additions."""
    absolute = onnx.ModelProto()
    absolute.CopyFrom(model)
    for tensor in absolute.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)), tensor.name))
    for node in absolute.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("alpha", "beta"):
                attribute.f = abs(attribute.f)
    return exact(absolute, {name: np.abs(array) for name, array in feeds.items()})


def assert_accurate(ours, theirs, y64, sizes, depth):
    """|y - y64| <= max(2 max|y_ort - y64|, 4 eps32 sqrt(K) (|W||x| + |b|)) for every element; `sizes` is |W||x| + |b|, `depth` K."""
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == y64.shape
    if not ours.size:
        return
    allowed = np.maximum(2 * np.abs(theirs - y64).max(), 4 * EPS * np.sqrt(depth) * sizes)
    wrong = np.abs(ours - y64) > allowed
    where = tuple(np.argwhere(wrong)[0]) if wrong.any() else ()
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} beyond the promise, first at {where}: {ours[where]} instead of {y64[where]}"


def assert_close(ours, theirs, in_float64=None):
    """The promise for whole nets: no element further away than 1e-4 of the largest.

    A graph may magnify the CPU provider's own errors beyond that, as x - Elu(x) does. If `in_float64` is given, which returns the exact
    output, ours may instead be at most twice as far from it as theirs.
    """
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape == theirs.shape
    if not ours.size:
        return
    error, allowed = np.abs(ours - theirs).max(), 1e-4 * np.abs(theirs).max()
    if in_float64 is not None and error > allowed:
        y64 = in_float64()
        error, allowed = np.abs(ours - y64).max(), 2 * np.abs(theirs - y64).max()
    assert error <= allowed, f"an error of {error:.2e}, {allowed:.2e} is allowed"


def assert_same(model, shapes, exact=True, seed=0, threads=None):
    """Every node ours and the CPU provider's results for inputs of these shapes; the bits of them if `exact`."""
    session, theirs = owned_session(model, threads=threads), cpu_session(model)
    for i, shape in enumerate(shapes):
        feeds = {"x": noise(np.random.default_rng(seed + i), *shape)}
        for y, y_ort in zip(session.run(None, feeds), theirs.run(None, feeds), strict=True):
            assert_close(y, y_ort)
            assert not exact or np.array_equal(y, y_ort)


def reasons(model):
    """What our provider says of the nodes that it left."""
    return {decision.reason for decision in sparse.explain(make_session(model)) if not decision.taken}
