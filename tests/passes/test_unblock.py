"""Files that ONNX Runtime saved at the level ALL, in its blocked layout: what is read of them, and what is taken."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops.table import BLOCKED
from onnxruntime_ep_sparse.passes.unblock import unblocked
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session

ALL, BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.fixture
def saved(tmp_path):
    """Return the model as ONNX Runtime saves it at the level ALL; skips where this CPU has no blocked layout."""

    def run(model):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = ALL, 4
        options.optimized_model_filepath = str(tmp_path / "saved.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(tmp_path / "saved.onnx")
        if not any(node.domain == BLOCKED for node in made.graph.node):
            pytest.skip("ONNX Runtime has no blocked layout on this CPU")
        return made

    return run


class Net:
    """Convolutions of a small net, and what stands between them."""

    def __init__(self):
        self.rng, self.nodes, self.weights = np.random.default_rng(0), [], {}

    def node(self, op_type, inputs, y, **attributes):
        """Add a node."""
        self.nodes.append(helper.make_node(op_type, inputs, [y], **attributes))
        return y

    def conv(self, x, y, c, m, kernel=3, group=1, stride=1, bias=True):
        """Add a convolution."""
        weight = pruned(self.rng, (m, c // group, kernel, kernel), 0.9 if group == 1 else 0.0)
        self.weights[f"{y}_w"] = (weight * (c // group * kernel**2 / 10) ** -0.5).astype(np.float32)
        self.weights |= {f"{y}_b": noise(self.rng, m)} if bias else {}
        names = [x, f"{y}_w", *([f"{y}_b"] if bias else [])]
        return self.node("Conv", names, y, pads=[kernel // 2] * 4, strides=[stride] * 2, group=group)

    def model(self, y, size=(1, 3, 16, 16)):
        """Return the model, with the shapes of all values."""
        made = model_of(self.nodes, {"x": size}, {y: [None] * 4}, self.weights, opset=17)
        return onnx.shape_inference.infer_shapes(made)


def pixels(size=(1, 3, 16, 16)):
    """An image."""
    return {"x": noise(np.random.default_rng(1), *size)}


def wide_net(channels):
    """Every operator in the blocked layout, and elementwise ones between; `channels` may not fill whole blocks."""
    net, c = Net(), channels
    x = net.node("Relu", [net.conv("x", "first", 3, c)], "a")
    x = net.node("MaxPool", [x], "pool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    y = net.node("HardSwish", [net.conv(x, "b", c, c, 1)], "swish")
    y = net.conv(net.conv(y, "c", c, c, group=c), "d", c, c, 1, bias=False)
    x = net.node("Relu", [net.node("Add", [y, x], "sum")], "residual")
    net.weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x = net.node("Resize", [x, "", "scales"], "wide", **how)
    x = net.conv(net.node("AveragePool", [x], "mean", kernel_shape=[2, 2], strides=[2, 2]), "e", c, 2 * c)
    x = net.node("Concat", [net.node("Sigmoid", [x], "gate"), x], "joined", axis=1)
    return net.model(net.node("GlobalAveragePool", [net.conv(x, "f", 4 * c, 2 * c, 1)], "y"))


@pytest.mark.parametrize("channels", [32, 24, 20])
def test_a_whole_net(saved, channels):
    """One region, as of the file before; channels that fill the last block up are gone."""
    plain = wide_net(channels)
    model = saved(plain)
    expected = {"Conv", "MaxPool", "Upsample"} if channels == 32 else {"Conv"}
    assert expected <= {node.op_type for node in model.graph.node if node.domain == BLOCKED}
    session, feeds = owned_session(model, regions=1), pixels()
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
    assert_close(session.run(None, feeds)[0], owned_session(plain).run(None, feeds)[0])


@pytest.mark.parametrize("policy", ["auto", "measure", "never"])
def test_policies(saved, policy):
    """Any decision gives the results of the CPU provider."""
    net = Net()
    x = net.node("Relu", [net.conv("x", "a", 64, 128)], "r")
    model = saved(net.model(net.conv(x, "y", 128, 128), (1, 64, 28, 28)))
    feeds = pixels((1, 64, 28, 28))
    session = make_session(model, {"policy": policy, "measure_budget_ms": "20"} if policy == "measure" else {"policy": policy})
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
    if policy == "auto":
        assert {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}


def test_what_cannot_be_held_whole_is_left(saved):
    """An operator without a row reads a value in the blocked layout: nothing that shares the layout is taken."""
    net = Net()
    x = net.conv("x", "a", 32, 32)
    x = net.node("Relu", [x], "r")
    model = saved(net.model(net.conv(x, "y", 32, 32), (1, 32, 14, 14)))
    # an operator that no provider but ONNX Runtime's has, in the middle of the part in the blocked layout
    (second,) = [node for node in model.graph.node if node.output[0] == "y" or ("y" in node.name and node.op_type == "Conv")][:1]
    between = helper.make_node("Round", [second.input[0]], ["rounded"])
    model.graph.node.insert(list(model.graph.node).index(second), between)
    second.input[0] = "rounded"
    session, feeds = make_session(model), pixels((1, 32, 14, 14))
    assert {provider for provider, _ in assignment(session)} == {"CPUExecutionProvider"}
    decisions = [decision for decision in sparse.explain(session) if decision.op_type == "Conv"]
    assert {decision.code for decision in decisions} == {"blocked-layout"}
    assert all(decision.shape is not None for decision in decisions)
    np.testing.assert_array_equal(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


def test_a_part_of_the_net_outside(saved):
    """A value in ONNX's order, which another operator reads, is a border of the region."""
    net = Net()
    x = net.node("Relu", [net.conv("x", "a", 32, 48)], "r")
    x = net.node("Round", [net.conv(x, "b", 48, 40)], "outside")
    model = saved(net.model(net.conv(x, "y", 40, 32), (2, 32, 14, 14)))
    session, feeds = make_session(model), pixels((2, 32, 14, 14))
    assert ("CPUExecutionProvider", "Round") in assignment(session)
    assert {op for provider, op in assignment(session) if provider == "CPUExecutionProvider"} == {"Round"}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@given(st.integers(1, 3), st.integers(1, 20), st.sampled_from([8, 16]), st.sampled_from([(1, 1), (3, 3), (2, 5)]))
@examples(50)
def test_weights(m_blocks, c, block, kernel):
    """Each element stands where ONNX Runtime's order says; weights of fewer inputs than a block have no blocks of inputs."""
    m, c = m_blocks * block, c if c < block else c // block * block
    weight = np.arange(m * c * kernel[0] * kernel[1], dtype=np.float32).reshape(m, c, *kernel)
    found, rng = unblocked(weight, block), np.random.default_rng(0)
    assert found.shape == weight.shape
    for _ in range(20):
        o, i, y, x = (rng.integers(size) for size in weight.shape)
        tap = y * kernel[1] + x
        taps = kernel[0] * kernel[1]
        if c < block:
            place = ((o // block * c + i) * taps + tap) * block + o % block
        else:
            place = (((o // block * (c // block) + i // block) * taps + tap) * block + i % block) * block + o % block
        assert found[o, i, y, x] == weight.reshape(-1)[place]
