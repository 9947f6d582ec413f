"""Files that ONNX Runtime saved at the level ALL, in its blocked layout: what is read of them, and what is taken."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops.table import BLOCKED
from onnxruntime_ep_sparse.passes.unblock import BLOCKS, block_size, unblocked
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session

ALL, BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the model as ONNX Runtime saves it at the level ALL; skips where its blocks are not those of this CPU, or it has none."""
    file = tmp_path_factory.mktemp("saved") / "saved.onnx"

    def run(model):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = ALL, 4
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(file)

    (weight,) = (w for w in run(Chain([1]).model(1)).graph.initializer if len(w.dims) == 4)
    if weight.dims[0] != block_size():
        pytest.skip("this ONNX Runtime does without the widest vectors of this CPU")
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


class Chain:
    """Convolutions one after another, which have so many outputs; each has a bias and a Relu."""

    def __init__(self, channels):
        self.channels, rng = channels, np.random.default_rng(0)
        sizes = list(zip(channels, (3, *channels), strict=False))
        self.layers = [(noise(rng, m, c, 3, 3) * np.float32((9 * c) ** -0.5), noise(rng, m)) for m, c in sizes]

    def model(self, n):
        """Return the first n of them in ONNX's order."""
        net, x = Net(), "x"
        for k, (weight, bias) in enumerate(self.layers[:n]):
            net.weights |= {f"w{k}": weight, f"b{k}": bias}
            x = net.node("Relu", [net.node("Conv", [x, f"w{k}", f"b{k}"], f"c{k}", pads=[1] * 4)], f"r{k}")
        return net.model(x)

    def saved(self, block):
        """Return them as a CPU whose blocks have so many channels saves them."""
        nodes, weights, x, is_blocked = [], {}, "x", False
        for k, (weight, bias) in enumerate(self.layers):
            m, c = weight.shape[:2]
            fill = -m % block, -c % block if c >= block else 0
            if is_blocked and c < block:
                x, is_blocked = self.reordered(nodes, x, f"order{k}", c), False
            weights[f"w{k}"] = blocked(np.pad(weight, ((0, fill[0]), (0, fill[1]), (0, 0), (0, 0))), block)
            weights[f"b{k}"] = np.pad(bias, (0, fill[0]))
            of = {"pads": [1] * 4, "strides": [1] * 2, "dilations": [1] * 2, "kernel_shape": [3, 3], "activation": "Relu"}
            nodes.append(helper.make_node("Conv", [x, f"w{k}", f"b{k}"], [f"r{k}"], name=f"conv{k}", domain=BLOCKED, group=1, **of))
            x, is_blocked = f"r{k}", True
        y = self.reordered(nodes, x, "y", self.channels[-1])
        return model_of(nodes, {"x": (1, 3, 16, 16)}, {y: [None] * 4}, weights, opset=17, domains=(BLOCKED,))

    def reordered(self, nodes, x, y, channels):
        """Add a ReorderOutput."""
        nodes.append(helper.make_node("ReorderOutput", [x], [y], domain=BLOCKED, channels=channels, channels_last=0))
        return y


def blocked(weight, block):
    """Return a weight in the order in which ONNX Runtime's kernels read it; its sizes are filled up already."""
    m, c, *kernel = weight.shape
    outer = weight.reshape(m // block, block, c, *kernel).transpose(0, 2, 3, 4, 1)
    if c >= block:
        outer = outer.reshape(m // block, c // block, block, *kernel, block).transpose(0, 1, 3, 4, 2, 5)
    return np.ascontiguousarray(outer).reshape(weight.shape)


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


@pytest.mark.parametrize("channels", [[32, 32], [24, 20], [16, 12, 64], [8, 8, 32]])
def test_chains_are_as_onnxruntime_saves_them(saved, channels):
    """The tests of files from other CPUs stand on this."""
    made, expected = Chain(channels).saved(block_size()), saved(Chain(channels).model(len(channels)))
    names = [[node.op_type for node in model.graph.node] for model in (made, expected)]
    assert names[0] == names[1]
    weights = [[numpy_helper.to_array(w) for w in model.graph.initializer] for model in (made, expected)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(st.lists(st.integers(1, 48), min_size=1, max_size=4), st.sampled_from(BLOCKS))
@examples(40)
def test_files_of_other_cpus(saved, channels, block):
    """What is taken is what the CPU provider computes as well. The file of this kind of CPU is taken."""
    model, feeds = Chain(channels).saved(block), pixels()
    session = make_session(model, {"policy": "always"})
    taken = {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}
    assert taken or block != block_size()
    if not taken:
        assert {d.code for d in sparse.explain(session) if d.domain == BLOCKED} <= {"other-blocks", "blocked-layout"}
        return
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.fixture
def warnings(monkeypatch, capfd):
    """Return a function that returns what the provider has warned of."""
    monkeypatch.setenv("ORT_SPARSE_LOG", "warning")
    return lambda: capfd.readouterr().err


def other_block():
    """The size of the blocks of another kind of CPU."""
    return next(block for block in BLOCKS if block != block_size())


def test_a_file_of_another_cpu_is_left(saved, warnings):
    """Its channels are filled up to other blocks: the CPU provider fails or is wrong, and a warning says so."""
    session = make_session(Chain([24, 64, 24]).saved(other_block()), {"policy": "always"})
    assert {provider for provider, _ in assignment(session)} == {"CPUExecutionProvider"}
    assert {d.code for d in sparse.explain(session)} == {"other-blocks"}
    assert "saved on another kind of CPU" in warnings()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_file_that_does_not_tell_its_cpu(saved, warnings, block):
    """It is taken with the results of the CPU provider, and a warning says what these depend on."""
    model, feeds = Chain([32, 64]).saved(block), pixels()
    session = make_session(model, {"policy": "always"})
    assert {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}
    assert "which it does not tell" in warnings()
    y, plain = session.run(None, feeds)[0], cpu_session(Chain([32, 64]).model(2)).run(None, feeds)[0]
    assert_close(y, cpu_session(model).run(None, feeds)[0])
    assert np.allclose(y, plain, atol=1e-4) == (block == block_size())


def test_a_file_that_tells_its_cpu_gives_no_warning(saved, warnings):
    """A number of channels that other blocks would fill up otherwise is enough."""
    make_session(Chain([64, 24]).saved(block_size()), {"policy": "always"})
    assert "blocks" not in warnings()
