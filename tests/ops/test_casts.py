"""Values of 16 bits: products computed in float32, converted once at the border; Cast between the types of floating-point numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.formats import region_model
from support.making import noise, pruned
from support.promises import assignment, cpu_session, exact, make_session, owned_session

ULPS = 2


def half_model(nodes, inputs, outputs, weights, kinds=None, opset=20):
    """A model of float16; `kinds` has the element types of other inputs and outputs."""
    kinds = kinds or {}
    infos = [
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT16), shape) for n, shape in values.items()]
        for values in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "half", *infos, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def in_float64(model, feeds):
    """The outputs in float64 of the numbers that a model of float16 holds."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return exact(wide, {name: x.astype(np.float32) for name, x in feeds.items()})


def assert_rounded_once(y, y64):
    """Within ULPS of float16."""
    assert y.dtype == np.float16
    spacing = np.spacing(np.abs(y64).astype(np.float16)).astype(np.float64)
    assert (np.abs(y.astype(np.float64) - y64) <= ULPS * spacing).all()


def residual_net(rng):
    """Two convolutions and a sum that leaves the region too."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w", "b"], ["a"], pads=[1] * 4),
        make("Relu", ["a"], ["r"]),
        make("Conv", ["r", "w"], ["c"], pads=[1] * 4),
        make("Add", ["c", "r"], ["s"]),
        make("GlobalAveragePool", ["s"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    weights = {"w": pruned(rng, (16, 16, 3, 3)), "b": noise(rng, 16), "v": pruned(rng, (10, 16), 0.5)}
    halves = {name: (array / 4).astype(np.float16) for name, array in weights.items()}
    return half_model(nodes, {"x": ["n", 16, 9, 7]}, {"y": ["n", 10], "s": ["n", 16, 9, 7]}, halves)


@pytest.mark.parametrize("isa", kernels.available_isas())
@pytest.mark.parametrize("batch", [1, 3])
def test_a_region_rounds_once(isa, batch):
    """One region has all nodes, and its outputs are those of float64, rounded."""
    rng = np.random.default_rng(1)
    model = residual_net(rng)
    session = owned_session(model, {"isa": isa}, regions=1)
    feeds = {"x": noise(rng, batch, 16, 9, 7).astype(np.float16)}
    for y, y64 in zip(session.run(None, feeds), in_float64(model, feeds), strict=True):
        assert_rounded_once(y, y64)


def test_beside_nodes_of_the_cpu_provider():
    """What crosses the border has the type of the file on both sides."""
    rng = np.random.default_rng(2)
    make = helper.make_node
    nodes = [make("Atan", ["x"], ["c"]), make("MatMul", ["c", "w"], ["m"]), make("Relu", ["m"], ["r"]), make("Atan", ["r"], ["y"])]
    weights = {"w": (pruned(rng, (64, 48)) / 8).astype(np.float16)}
    model = half_model(nodes, {"x": ["n", 64]}, {"y": ["n", 48]}, weights)
    session = make_session(model)
    assert {op for provider, op in assignment(session) if provider == sparse.EP_NAME} == {"MatMul", "Relu"}
    feeds = {"x": noise(rng, 5, 64).astype(np.float16)}
    (y,), (theirs,) = session.run(None, feeds), cpu_session(model).run(None, feeds)
    assert np.abs(y.astype(np.float32) - theirs).max() <= 2e-3


def test_casts_at_the_border():
    """A model of float16 whose inputs and outputs are float32, as converters write it, is one region."""
    rng = np.random.default_rng(3)
    make = helper.make_node
    nodes = [
        make("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        make("MatMul", ["a", "w"], ["m"]),
        make("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"w": (pruned(rng, (64, 48)) / 8).astype(np.float16)}
    model = half_model(nodes, {"x": ["n", 64]}, {"y": ["n", 48]}, weights, dict.fromkeys("xy", TensorProto.FLOAT))
    x = noise(rng, 5, 64)
    (y,) = owned_session(model, regions=1).run(None, {"x": x})
    expected = x.astype(np.float16).astype(np.float64) @ weights["w"].astype(np.float64)
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() <= 1e-5


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16], ids=["float16", "bfloat16"])
def test_a_cast_inside_rounds(kind):
    """A Cast that the file asks for rounds where it stands, also to infinity."""
    make = helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["m"]), make("Cast", ["m"], ["a"], to=kind), make("Cast", ["a"], ["y"], to=TensorProto.FLOAT)]
    weights = {"w": np.eye(8, dtype=np.float32)}
    model = half_model(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, weights, dict.fromkeys("xy", TensorProto.FLOAT), opset=22)
    x = noise(np.random.default_rng(4), 3, 8)
    x[0, 0] = 1e6
    (y,), (theirs,) = owned_session(model, regions=1).run(None, {"x": x}), cpu_session(model).run(None, {"x": x})
    assert np.array_equal(y, theirs)
    assert np.isinf(y[0, 0]) == (kind == TensorProto.FLOAT16)


@pytest.mark.parametrize("source", [TensorProto.UINT16, TensorProto.DOUBLE])
def test_casts_of_other_types_are_declined(source):
    """They stay with the CPU provider."""
    nodes = [helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16), helper.make_node("MatMul", ["a", "w"], ["y"])]
    weights = {"w": np.eye(8, dtype=np.float16)}
    model = half_model(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, weights, {"x": source})
    session = make_session(model)
    assert ("CPUExecutionProvider", "Cast") in assignment(session)
    assert (sparse.EP_NAME, "MatMul") in assignment(session)


def test_bfloat16_runs_where_all_nodes_are_taken():
    """The CPU provider has no kernels for it."""
    model = models.FORMATS["bf16"](models.resnet50(0.8, image=32, width=0.25, blocks=(1,)))
    wide = models.resnet50(0.8, image=32, width=0.25, blocks=(1,))
    feeds = models.inputs_for(wide, batch=2)
    (y,), (expected,) = owned_session(model).run(None, feeds), cpu_session(wide).run(None, feeds)
    assert np.abs(y - expected).max() <= 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("root", [np.float16(2**0.5), np.float16(0.5**0.5)])
def test_gelu_with_a_rounded_root(root):
    """The five nodes of a Gelu are one step, with the root of 2 as float16 holds it."""
    rng = np.random.default_rng(7)
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w"], ["m"]),
        make("Div" if root > 1 else "Mul", ["m", "root"], ["s"]),
        make("Erf", ["s"], ["e"]),
        make("Add", ["e", "one"], ["a"]),
        make("Mul", ["m", "a"], ["p"]),
        make("Mul", ["p", "half"], ["y"]),
    ]
    weights = {"w": (pruned(rng, (64, 48)) / 4).astype(np.float16), "root": root, "one": np.float16(1), "half": np.float16(0.5)}
    model = half_model(nodes, {"x": ["n", 64]}, {"y": ["n", 48]}, weights)
    session = owned_session(model, {"profile": "1"}, regions=1)
    feeds = {"x": noise(rng, 5, 64).astype(np.float16)}
    (y,), (y64,) = session.run(None, feeds), in_float64(model, feeds)
    assert np.abs(y - y64).max() <= ULPS * 2**-10
    assert [step.kind for step in sparse.step_times(session)] == ["convert", "product", "convert"]


def test_compiled_regions_keep_their_types():
    """A compiled model reads and writes float16, with the same bits; it refuses another type of its outputs."""
    rng = np.random.default_rng(8)
    model = residual_net(rng)
    options = sparse.session_options({"policy": "always"})
    compiled = onnxruntime.ModelCompiler(options, model.SerializeToString(), embed_compiled_data_into_model=True).compile_to_bytes()
    feeds = {"x": noise(rng, 2, 16, 9, 7).astype(np.float16)}
    expected = owned_session(model).run(None, feeds)
    for y, wanted in zip(make_session(compiled).run(None, feeds), expected, strict=True):
        assert y.dtype == np.float16
        assert np.array_equal(y, wanted)
    other = onnx.load_from_string(compiled)
    for value in other.graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="is not float16"):
        make_session(other)


def test_regions_as_models_keep_their_types(monkeypatch):
    """`policy=measure` times a region in the types of the file."""
    made = []
    monkeypatch.setattr(region_model, "model_of", lambda region, inner=region_model.model_of: made.append(inner(region)) or made[-1])
    model = residual_net(np.random.default_rng(6))
    session = make_session(model, {"policy": "measure", "measure_budget_ms": "200"})
    assert made
    assert {value.type.tensor_type.elem_type for graph in made for value in (*graph.graph.input, *graph.graph.output)} == {
        TensorProto.FLOAT16
    }
    assert {tensor.data_type for graph in made for tensor in graph.graph.initializer} == {TensorProto.FLOAT16}
    assert {provider for provider, _ in assignment(session)}
