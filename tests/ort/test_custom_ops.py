"""The compressed operators in sessions: without the provider, with it, and with damaged weights."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.formats.compressed_model import pack
from onnxruntime_ep_sparse.formats.schema import DOMAIN
from onnxruntime_ep_sparse.formats.weight_codec import encode, nonzeros_of
from onnxruntime_ep_sparse.passes import decompress
from support.making import examples, model_of, noise, pruned
from support.products import convolutions, gemms, matmuls
from support.promises import ALWAYS, assert_close, assignment, cpu_session, owned_session, session_options


def compressed(model):
    """The model with every Conv, MatMul and Gemm compressed, however small or dense its weight is."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            tensor = tensors[node.input[1]]
            weight = numpy_helper.to_array(tensor)
            values, index = encode(weight)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            result.graph.initializer.append(numpy_helper.from_array(index, f"{tensor.name}.index"))
            node.domain = DOMAIN
            node.input.insert(2, f"{tensor.name}.index")
            node.attribute.append(helper.make_attribute("weight_shape", weight.shape))
    result.opset_import.add(domain=DOMAIN, version=1)
    return result


def custom_session(model, provider=None, **arguments):
    """A session of a compressed model. `provider`: options of ours; it is not there without."""
    options = session_options(**arguments)
    options.register_custom_ops_library(sparse.get_library_path())
    ours = [] if provider is None else [(sparse.EP_NAME, provider)]
    source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    return onnxruntime.InferenceSession(source, options, providers=[*ours, "CPUExecutionProvider"], enable_fallback=0)


@examples(150)
@given(st.one_of(convolutions(), gemms(), matmuls()))
def test_any_product(case):
    """Every attribute, broadcast and shape: the bits of the uncompressed node in our provider, with the provider and without."""
    model, runs, _ = case
    node = model.graph.node[0]
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    assume(node.input[1] in weights and (node.op_type == "Conv" or len(weights[node.input[1]]) == 2))
    plain, packed = owned_session(model), compressed(model)
    alone, taken = custom_session(packed), custom_session(packed, ALWAYS)
    assert assignment(alone) == [("CPUExecutionProvider", node.op_type)]
    assert {provider for provider, _ in assignment(taken)} == {sparse.EP_NAME}
    for feeds in runs:
        expected = plain.run(None, feeds)[0]
        np.testing.assert_array_equal(alone.run(None, feeds)[0], expected)
        np.testing.assert_array_equal(taken.run(None, feeds)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_nets(tmp_path, name, external):
    """Packed nets: without the provider close to the CPU provider, with it the same bits as the dense file."""
    source, packed = tmp_path / "model.onnx", tmp_path / "packed.onnx"
    onnx.save(models.BUILDERS[name](sparsity=0.9), source, **({"save_as_external_data": True, "location": "weights"} if external else {}))
    pack(source, packed)
    theirs, dense = cpu_session(source), owned_session(str(source))
    feeds = models.inputs_for(theirs)
    taken = custom_session(packed, ALWAYS)
    assert {provider for provider, _ in assignment(taken)} == {sparse.EP_NAME}
    np.testing.assert_array_equal(taken.run(None, feeds)[0], dense.run(None, feeds)[0])
    assert_close(custom_session(packed).run(None, feeds)[0], theirs.run(None, feeds)[0])


def product_model(*, declared=("n", 40), weight=None, op_type="MatMul", **attributes):
    """x @ w."""
    weight = pruned(np.random.default_rng(0), (40, 30)) if weight is None else weight
    nodes = [helper.make_node(op_type, ["x", "w"], ["y"], "product", **attributes)]
    return model_of(nodes, {"x": declared}, ["y"], {"w": weight})


CONV_WEIGHT = pruned(np.random.default_rng(0), (8, 4, 3, 3))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (product_model(declared=("n", "t", 40)), ["n", "t", 30]),
        (product_model(declared=(40,)), [30]),
        (product_model(declared=(40, 7), op_type="Gemm", transA=1), [7, 30]),
        (product_model(declared=("n", 4, 9, 9), weight=CONV_WEIGHT, op_type="Conv"), ["n", 8, 7, 7]),
        (product_model(declared=(2, 4, 9, 8), weight=CONV_WEIGHT, op_type="Conv", auto_pad="SAME_UPPER", strides=[2, 2]), [2, 8, 5, 4]),
        (
            product_model(declared=(2, 4, 9, 8), weight=CONV_WEIGHT, op_type="Conv", pads=[1, 0, 1, 2], dilations=[2, 1], strides=[2, 1]),
            [2, 8, 4, 8],
        ),
    ],
)
def test_shape_inference(model, shape):
    """What follows from the input's shape; ONNX Runtime's own inference says the same."""
    assert cpu_session(model).get_outputs()[0].shape == shape
    assert custom_session(compressed(model)).get_outputs()[0].shape == shape


def test_weights_are_decoded_once(monkeypatch):
    """Compiling takes the nonzeros that choosing has decoded; the next session decodes for itself."""
    rng = np.random.default_rng(0)
    weights = {name: pruned(rng, (64, 64), 0.95) for name in ("a", "b")}
    nodes = [helper.make_node("MatMul", ["x", "a"], ["p"]), helper.make_node("MatMul", ["p", "b"], ["y"])]
    plain = model_of(nodes, {"x": (1, 64)}, ["y"], weights)
    packed = compressed(plain)
    decoded = []
    monkeypatch.setattr(decompress, "nonzeros_of", lambda values, index: decoded.append(len(values)) or nonzeros_of(values, index))
    for times in (1, 2):
        session = custom_session(packed, ALWAYS)
        assert {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}
        assert sorted(decoded) == sorted(times * [np.count_nonzero(weight) for weight in weights.values()])
    feeds = {"x": noise(rng, 1, 64)}
    np.testing.assert_array_equal(session.run(None, feeds)[0], owned_session(plain).run(None, feeds)[0])


def test_sizes_that_are_not_known_have_different_names():
    """ONNX Runtime would take equal names for equal sizes."""
    model = product_model(declared=("n", 4, "h", "w"), weight=CONV_WEIGHT, op_type="Conv")
    shape = custom_session(compressed(model)).get_outputs()[0].shape
    assert shape[:2] == ["n", 8]
    assert len({"n", "h", "w", *shape[2:]}) == 5


@pytest.mark.parametrize("shapes", [[(3, 40), (2, 3, 40)], [(40,), (2, 1, 4, 40)]])
def test_inputs_of_unknown_rank(shapes):
    """Any rank at run time."""
    model = product_model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    session, theirs = custom_session(compressed(model)), cpu_session(model)
    for shape in shapes:
        x = noise(np.random.default_rng(1), *shape)
        assert_close(session.run(None, {"x": x})[0], theirs.run(None, {"x": x})[0])


def test_explained_like_any_other(tmp_path):
    """Decisions, sparsity and the conveniences that make sessions themselves."""
    model = compressed(product_model(weight=pruned(np.random.default_rng(0), (400, 300))))
    (decision,) = sparse.explain(model)
    assert (decision.name, decision.op_type, decision.shape) == ("product", "MatMul", (400, 300))
    assert decision.sparsity == pytest.approx(0.9, abs=0.01)


def test_without_anything_registered(fresh, tmp_path):
    """In a process that has imported onnxruntime and nothing else, which has the library by its path."""
    path = tmp_path / "model.onnx"
    onnx.save(compressed(product_model()), path)
    fresh(
        """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
assert session.run(None, {"x": numpy.ones((2, 40), numpy.float32)})[0].shape == (2, 30)
assert "SparseExecutionProvider" not in onnxruntime.get_available_providers()
""",
        sparse.get_library_path(),
        path,
    )


# batch normalisation, which ONNX Runtime fuses into its own convolutions only


def normalised(*, bias, extra_reader=False):
    """Conv -> BatchNormalization -> Relu."""
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (16, 8, 3, 3)), **({"b": noise(rng, 16)} if bias else {})}
    statistics = {"scale": noise(rng, 16), "offset": noise(rng, 16), "mean": noise(rng, 16), "variance": rng.random(16).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", *weights], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", *statistics], ["d"], "norm", epsilon=1e-3),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Add", ["e", "c"] if extra_reader else ["e", "one"], ["y"]),
    ]
    return model_of(nodes, {"x": ["n", 8, 9, 9]}, ["y"], {**weights, **statistics, "one": np.ones(1, np.float32)})


@pytest.mark.parametrize("bias", [False, True])
def test_batch_normalisation(bias):
    """Folded as ONNX Runtime folds it, to the bit, and then no step of its own."""
    model = normalised(bias=bias)
    x = noise(np.random.default_rng(1), 2, 8, 9, 9)
    packed, plain = custom_session(compressed(model), {**ALWAYS, "profile": "1"}), owned_session(model)
    np.testing.assert_array_equal(packed.run(None, {"x": x})[0], plain.run(None, {"x": x})[0])
    assert [step.name for step in sparse.step_times(packed)] == ["conv + Relu", "y"]


def test_batch_normalisation_that_stays():
    """Where somebody else reads the convolution."""
    model = normalised(bias=True, extra_reader=True)
    x = noise(np.random.default_rng(1), 2, 8, 9, 9)
    packed = custom_session(compressed(model), ALWAYS)
    assert {provider for provider, _ in assignment(packed)} == {sparse.EP_NAME}
    assert_close(packed.run(None, {"x": x})[0], cpu_session(model).run(None, {"x": x})[0])


# damage


def flip(name):
    """Another bit in the middle of a tensor's data."""

    def change(model):
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        data = bytearray(tensor.raw_data)
        data[len(data) // 2] ^= 1
        tensor.raw_data = bytes(data)

    return change


def cut(name, size):
    """A tensor that ends too early."""

    def change(model):
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.raw_data = tensor.raw_data[:size]
        tensor.dims[0] = size // (4 if name == "w" else 1)

    return change


def other_shape(*shape):
    """Another weight_shape."""

    def change(model):
        model.graph.node[0].attribute[-1].ints[:] = shape

    return change


def without_shape(model):
    """No weight_shape."""
    del model.graph.node[0].attribute[-1]


def not_constant(model):
    """The nonzeros come in with each run."""
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [None]))


@pytest.mark.parametrize("provider", [None, ALWAYS])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip("w"), "the checksum does not fit"),
        (flip("w.index"), "the checksum does not fit"),
        (cut("w", 40), "the checksum does not fit"),
        (cut("w.index", 10), "ends in its head"),
        (cut("w.index", 30), "its head says"),
        (other_shape(30, 40), "its weight has shape [40, 30]"),
        (other_shape(40, 30, 1), "for a MatMul"),
        (other_shape(-40, 30), "for a MatMul"),
        (without_shape, "for a MatMul"),
        (not_constant, "its weight is not constant"),
    ],
)
def test_damaged_weights(provider, change, words):
    """No session, and an error that names node and cause."""
    model = compressed(product_model())
    change(model)
    with pytest.raises(Exception, match=r"MatMul|product") as caught:
        custom_session(model, provider)
    assert words in str(caught.value)


def test_unknown_versions():
    """Of the operators, which ONNX Runtime refuses, and of the layout."""
    model = compressed(product_model())
    (index,) = (tensor for tensor in model.graph.initializer if tensor.name == "w.index")
    index.raw_data = index.raw_data[:4] + b"\2" + index.raw_data[5:]
    with pytest.raises(Exception, match="version 2 of the compressed weight is not supported"):
        custom_session(model)


def test_inputs_that_do_not_fit():
    """An error of the run that names the node, and the session goes on."""
    session = custom_session(compressed(product_model(declared=("n", "k"))))
    with pytest.raises(Exception, match="product: MatMul input does not fit weights with K = 40"):
        session.run(None, {"x": np.ones((2, 39), np.float32)})
    assert session.run(None, {"x": np.ones((2, 40), np.float32)})[0].shape == (2, 30)
