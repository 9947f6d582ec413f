"""Products and activations that ONNX Runtime's optimizer fuses, as in the files it saves, against the CPU provider."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from onnxruntime_ep_sparse.diagnostics.step_times import step_times
from support.making import model_of, noise, pruned
from support.promises import assert_close, cpu_session, owned_session, reasons

MICROSOFT = {"domain": "com.microsoft"}
ACTIVATIONS = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": (0.2,),
    "Clip": (-0.5, 0.75),
    "HardSigmoid": (0.3, 0.4),
}


def check(node, shapes, weights, options=None):
    """Every node is ours, and results are the CPU provider's."""
    model = model_of([node], shapes, ["y"], weights, domains=["com.microsoft"])
    feeds = {name: noise(np.random.default_rng(i), *shape) for i, (name, shape) in enumerate(shapes.items())}
    (y,), (expected,) = (session.run(None, feeds) for session in (owned_session(model, options), cpu_session(model)))
    assert_close(y, expected)


@pytest.mark.parametrize("with_addend", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_fused_conv(name, with_addend):
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (12, 6, 3, 3), 0.8), "b": noise(rng, 12)}
    inputs = ["x", "w", "b", *(["z"] if with_addend else [])]
    node = helper.make_node(
        "FusedConv", inputs, ["y"], pads=[1] * 4, activation=name, activation_params=[*ACTIVATIONS[name]] or None, **MICROSOFT
    )
    check(node, {"x": [2, 6, 9, 7], **({"z": [2, 12, 9, 7]} if with_addend else {})}, weights)


@pytest.mark.parametrize("c", [None, [20], [5, 1]])
@pytest.mark.parametrize("name", ["Relu", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Tanh"])
def test_fused_gemm(name, c):
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (20, 30), 0.8), **({} if c is None else {"c": noise(rng, *c)})}
    numbers = {"LeakyRelu": {"activation_alpha": 0.3}, "Elu": {"activation_alpha": 0.7}}.get(name, {})
    if name == "HardSigmoid":
        numbers = {"activation_alpha": 0.3, "activation_beta": 0.4}
    node = helper.make_node("FusedGemm", ["x", *weights], ["y"], transB=1, alpha=0.5, activation=name, **numbers, **MICROSOFT)
    check(node, {"x": [5, 30]}, weights)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("batch", [[], [3]])
def test_fused_matmul(right, transposed, batch):
    rng = np.random.default_rng(0)
    weight = pruned(rng, (4 * 5 * 3, 7), 0.5).reshape(3, 20, 7)[0 if not batch else slice(None)]
    weight = np.ascontiguousarray(weight.swapaxes(-1, -2) if right != bool(transposed) else weight)
    attributes = {"transB" if right else "transA": transposed, "alpha": -1.5}
    node = helper.make_node("FusedMatMul", ["x", "w"] if right else ["w", "x"], ["y"], **attributes, **MICROSOFT)
    check(node, {"x": [*batch, 4, 7] if right else [*batch, 7, 4]}, {"w": weight})


def test_declines_a_transposed_activation():
    node = helper.make_node("FusedMatMul", ["x", "w"], ["y"], transA=1, **MICROSOFT)
    model = model_of([node], {"x": [7, 4]}, ["y"], {"w": np.ones((7, 3), np.float32)}, domains=["com.microsoft"])
    assert reasons(model) == {"transA=1 is not supported"}


@pytest.mark.parametrize("name", ["BiasGelu", "FastGelu"])
@pytest.mark.parametrize("first", ["MatMul", "Mul"])
def test_biased(name, first):
    """The bias becomes a part of a product before it, or is added in a step of its own."""
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (8, 8), 0.5) + np.eye(8, dtype=np.float32), "b": noise(rng, 8)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"])]
    nodes += [helper.make_node("Mul", ["t", "t"], ["u"])] if first == "Mul" else []
    nodes.append(helper.make_node(name, [nodes[-1].output[0], "b"], ["y"], **MICROSOFT))
    model = model_of(nodes, {"x": [3, 5, 8]}, ["y"], weights, domains=["com.microsoft"])
    feeds = {"x": noise(rng, 3, 5, 8)}
    (y,), (expected,) = (session.run(None, feeds) for session in (owned_session(model), cpu_session(model)))
    assert_close(y, expected)


def test_dead_outputs_of_fused_products():
    """Channels that are constants of the activation are followed through the next product."""
    rng = np.random.default_rng(0)
    first, second = pruned(rng, (16, 8, 1, 1), 0.5), pruned(rng, (8, 16, 3, 3), 0.5)
    first[::2] = 0
    weights = {"w": first, "b": noise(rng, 16), "v": second}
    nodes = [
        helper.make_node("FusedConv", ["x", "w", "b"], ["t"], activation="Sigmoid", **MICROSOFT),
        helper.make_node("FusedConv", ["t", "v"], ["y"], activation="LeakyRelu", activation_params=[0.1], **MICROSOFT),
    ]
    model = model_of(nodes, {"x": [1, 8, 6, 6]}, ["y"], weights, domains=["com.microsoft"])
    feeds = {"x": noise(rng, 1, 8, 6, 6)}
    (y,), (expected,) = (session.run(None, feeds) for session in (owned_session(model, regions=1), cpu_session(model)))
    assert_close(y, expected)


def channels_left(model):
    """How many inputs and outputs the 3x3 convolution has after dead channels are removed; results stay."""
    feeds = {value.name: noise(np.random.default_rng(i), 1, 8, 6, 6) for i, value in enumerate(model.graph.input)}
    session = owned_session(model, {"profile": "1"}, regions=1)
    (y,), (expected,) = session.run(None, feeds), cpu_session(model).run(None, feeds)
    assert_close(y, expected)
    return next(step.description.partition(" ")[0] for step in step_times(session) if "3x3" in step.description)


@pytest.mark.parametrize("activation", [None, "Sigmoid"])
@pytest.mark.parametrize(("z", "left"), [("x", "5->8"), ("t", "8->8"), ("u", "5->4")])
def test_dead_channels_where_something_is_added(z, left, activation):
    """Those that a product reads become one. Those of its result go if they are dead in what is added too, unless that is its operand."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": pruned(rng, (8, 8, 3, 3) if i == 1 else (8, 8, 1, 1), 0.2) for i in range(4)}
    for name in ("w0", "w1", "w2"):
        weights[name][::2] = 0
    weights |= {f"b{i}": noise(rng, 8) for i in range(3)}
    nodes = [
        helper.make_node("FusedConv", ["x", "w0", "b0"], ["t"], activation="Relu", **MICROSOFT),
        *([helper.make_node("FusedConv", ["x", "w2", "b2"], ["u"], activation="Relu", **MICROSOFT)] if z == "u" else []),
        helper.make_node("FusedConv", ["t", "w1", "b1", z], ["v"], activation=activation, pads=[1] * 4, **MICROSOFT),
        helper.make_node("Conv", ["v", "w3"], ["y"]),
    ]
    model = model_of(nodes, {"x": [1, 8, 6, 6]}, ["y"], weights, domains=["com.microsoft"])
    assert channels_left(model) == left


def saved(model, level, folder):
    """Return the model as ONNX Runtime saves it at a level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.optimized_model_filepath = str(folder / "saved.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "saved.onnx")


def conv_net():
    """Two pruned convolutions with an addition and activations, in channels that the blocked layout takes."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="first"),
        helper.make_node("LeakyRelu", ["t"], ["u"], alpha=0.1),
        helper.make_node("Conv", ["u", "v"], ["a"], pads=[1] * 4, name="second"),
        helper.make_node("Add", ["a", "u"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    weights = {"w": pruned(rng, (32, 32, 1, 1), 0.9), "v": pruned(rng, (32, 32, 3, 3), 0.9)}
    return model_of(nodes, {"x": [1, 32, 14, 14]}, ["y"], weights)


def test_a_file_saved_at_extended_is_one_region(tmp_path):
    model = saved(conv_net(), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, tmp_path)
    assert "FusedConv" in {node.op_type for node in model.graph.node}
    feeds = {"x": noise(np.random.default_rng(1), 1, 32, 14, 14)}
    (y,), (expected,) = (session.run(None, feeds) for session in (owned_session(model, regions=1), cpu_session(model)))
    assert_close(y, expected)
