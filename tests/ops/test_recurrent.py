"""LSTM, GRU and RNN: against ONNX Runtime's CPU provider and a float64 implementation, over everything that ONNX lets them be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import pipeline as lower
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT32, Graph, Node, Value
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.activations import RECURRENT
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import SETS, table_of
from support.making import examples, model_of, noise, pruned
from support.promises import EPS, assert_close, cpu_session, make_session, owned_session

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUTS = ("x", "w", "r", "b", "lengths", "h", "c", "p")
OUTPUTS = ("y", "last_h", "last_c")
FUNCTIONS = {
    "Sigmoid": lambda x, alpha, beta: (1 + np.tanh(x / 2)) / 2,
    "Tanh": lambda x, alpha, beta: np.tanh(x),
    "Relu": lambda x, alpha, beta: np.maximum(x, 0),
    "LeakyRelu": lambda x, alpha, beta: np.where(x < 0, alpha * x, x),
    "HardSigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "Elu": lambda x, alpha, beta: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "Softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "Softplus": lambda x, alpha, beta: np.logaddexp(0, x),
    "ThresholdedRelu": lambda x, alpha, beta: np.where(x > alpha, x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "Affine": lambda x, alpha, beta: alpha * x + beta,
}
ALPHA, BETA = {"LeakyRelu": 0.01, "HardSigmoid": 0.2, "Elu": 1.0}, {"HardSigmoid": 0.5}
"""Defaults."""
TAKES_BETA = ("HardSigmoid", "ScaledTanh", "Affine")
TAKES_ALPHA = ("LeakyRelu", "Elu", "ThresholdedRelu", *TAKES_BETA)
BOUNDED = ["Sigmoid", "HardSigmoid", "Tanh", "Softsign"]
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


class Recurrent:
    """A node with pruned weights, made at random, and what it computes. `optional` names the inputs it has besides X, W and R."""

    def __init__(self, op_type, inputs, hidden, *, direction="forward", optional=("b",), zeros=0.8, seed=0, constant=(), **attributes):
        rng = np.random.default_rng(seed)
        self.op_type, self.hidden, self.attributes = op_type, hidden, {"direction": direction, "hidden_size": hidden, **attributes}
        self.directions = 2 if direction == "bidirectional" else 1
        self.reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        gates = GATES[op_type]
        self.weights = {
            "w": np.stack([pruned(rng, (gates * hidden, inputs), zeros) for _ in self.reverse])
            / np.float32(max(1, inputs * (1 - zeros)) ** 0.5),
            "r": np.stack([pruned(rng, (gates * hidden, hidden), zeros) for _ in self.reverse])
            / np.float32(max(1, hidden * (1 - zeros)) ** 0.5),
        }
        if "b" in optional:
            self.weights["b"] = noise(rng, self.directions, 2 * gates * hidden)
        if "p" in optional:
            self.weights["p"] = noise(rng, self.directions, 3 * hidden)
        self.rng, self.inputs, self.constant = rng, inputs, constant
        self.names = ["x", "w", "r", *(name for name in INPUTS[3:] if name in optional)]

    @property
    def outputs(self):
        """Names of all results."""
        return OUTPUTS[: 3 if self.op_type == "LSTM" else 2]

    def feeds(self, times, batch):
        """Random inputs that are not weights."""
        size = (self.directions, batch, self.hidden)
        made = {"x": noise(self.rng, times, batch, self.inputs), "lengths": self.rng.integers(0, times + 1, batch).astype(np.int32)}
        made |= {"h": noise(self.rng, *size), "c": noise(self.rng, *size)}
        return {name: made[name] for name in made if name in self.names}

    def model(self, fixed=None):
        """The node alone in a model; `fixed` maps names of inputs to constants."""
        fixed = {**self.weights, **(fixed or {})}
        ranks = {"x": 3, "lengths": 1, "h": 3, "c": 3}
        infos = [
            helper.make_tensor_value_info(n, TensorProto.INT32 if n == "lengths" else TensorProto.FLOAT, [f"{n}{i}" for i in range(rank)])
            for n, rank in ranks.items()
            if n in self.names and n not in fixed
        ]
        infos[0].type.tensor_type.shape.dim[2].dim_value = self.inputs
        names = [name if name in self.names else "" for name in INPUTS]
        node = helper.make_node(self.op_type, names[: max(map(names.index, self.names)) + 1], list(self.outputs), **self.attributes)
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        graph = helper.make_graph([node], "recurrent", infos, results, [numpy_helper.from_array(a, n) for n, a in fixed.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    def functions(self):
        """f, g, h of every direction, with their numbers."""
        names = self.attributes.get("activations") or DEFAULTS[self.op_type] * self.directions
        alphas, betas = iter(self.attributes.get("activation_alpha", ())), iter(self.attributes.get("activation_beta", ()))
        made = []
        for name in names:
            alpha = next(alphas, ALPHA.get(name)) if name in TAKES_ALPHA else 0
            beta = next(betas, BETA.get(name)) if name in TAKES_BETA else 0
            made.append(lambda x, name=name, alpha=alpha, beta=beta: FUNCTIONS[name](x, alpha, beta))
        each = len(names) // self.directions
        return [made[i : i + each] for i in range(0, len(made), each)]

    def exact(self, feeds):
        """All results in float64."""
        gates, hidden, clip = GATES[self.op_type], self.hidden, self.attributes.get("clip", np.inf)
        x = feeds["x"].astype(np.float64)
        times, batch = x.shape[:2]
        lengths = feeds.get("lengths", np.full(batch, times))
        y = np.zeros((times, self.directions, batch, hidden))
        last = np.zeros((2, self.directions, batch, hidden))
        for d, (reverse, functions) in enumerate(zip(self.reverse, self.functions(), strict=True)):
            w, r = (self.weights[name][d].astype(np.float64).reshape(gates, hidden, -1) for name in "wr")
            bias = self.weights.get("b", np.zeros((self.directions, 2 * gates * hidden)))[d].astype(np.float64).reshape(2, gates, hidden)
            peep = self.weights.get("p", np.zeros((self.directions, 3 * hidden)))[d].astype(np.float64).reshape(3, hidden)
            for n in range(batch):
                h, c = (feeds[name][d, n].astype(np.float64) if name in feeds else np.zeros(hidden) for name in "hc")
                order = range(lengths[n])[::-1] if reverse else range(lengths[n])
                for t in order:
                    p = w @ x[t, n] + bias[0]
                    h, c = self.cell(p, r, bias[1], peep, h, c, functions, lambda v: np.clip(v, -clip, clip))
                    y[t, d, n] = h
                # ONNX does not say what is left of an empty sequence: ONNX Runtime leaves zeros
                last[:, d, n] = (h, c) if lengths[n] else 0
        return [y, *last][: len(self.outputs)]

    def cell(self, p, r, rb, peep, h, c, functions, clip):
        """h and c after one time, ONNX's formulas."""
        f = functions[0]
        if self.op_type == "RNN":
            return f(clip(p[0] + r[0] @ h + rb[0])), c
        if self.op_type == "GRU":
            z, reset = (f(clip(p[i] + r[i] @ h + rb[i])) for i in range(2))
            inner = reset * (r[2] @ h + rb[2]) if self.attributes.get("linear_before_reset") else r[2] @ (reset * h) + rb[2]
            return (1 - z) * functions[1](clip(p[2] + inner)) + z * h, c
        s = p + np.einsum("gij,j->gi", r, h) + rb
        i = f(clip(s[0] + peep[0] * c))
        forget = 1 - i if self.attributes.get("input_forget") else f(clip(s[2] + peep[2] * c))
        c = forget * c + i * functions[1](clip(s[3]))
        return f(clip(s[1] + peep[1] * c)) * functions[2](c), c


def assert_promise(case, feeds, ours, theirs=None):
    """Twice the CPU provider's error, or what float32 sums of the same length cost."""
    for name, y, y64, other in zip(case.outputs, ours, case.exact(feeds), theirs or ours, strict=True):
        assert y.dtype == np.float32
        assert y.shape == y64.shape
        if y.size:
            most = 2 * np.abs(other - y64).max() if theirs else 0
            allowed = max(most, 16 * EPS * (case.hidden + case.inputs) ** 0.5 * max(1, np.abs(y64).max()) * max(1, len(feeds["x"])) ** 0.5)
            assert np.abs(y - y64).max() <= allowed, name


@st.composite
def recurrent(draw):
    """(case, inputs of two runs): sizes, direction, optional inputs, attributes."""
    op_type = draw(st.sampled_from(list(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    optional = [name for name in ("b", "lengths", "h", *(("c", "p") if op_type == "LSTM" else ())) if draw(st.booleans())]
    attributes = {}
    if draw(st.booleans()):
        # gates without a bound would make numbers that float32 ends before
        names = [BOUNDED, *[[*BOUNDED, "Relu", "Elu", "Softplus"]] * (len(DEFAULTS[op_type]) - 1)]
        attributes["activations"] = [draw(st.sampled_from(each)) for each in names * (2 if direction == "bidirectional" else 1)]
    if draw(st.integers(0, 3)) == 0:
        attributes["clip"] = 0.75
    if op_type == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if op_type == "LSTM" and draw(st.integers(0, 3)) == 0:
        attributes["input_forget"] = 1
    zeros = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    sizes = draw(st.integers(1, 50)), draw(st.sampled_from([1, 3, 8, 31, 32, 33, 64, 100]))
    case = Recurrent(op_type, *sizes, direction=direction, optional=optional, zeros=zeros, seed=draw(st.integers(0, 2**32)), **attributes)
    runs = [(draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 2, 3, 7, 8, 9, 16, 17, 40]))) for _ in range(2)]
    return case, [case.feeds(*run) for run in runs]


OPTIONS = st.fixed_dictionaries({"isa": st.sampled_from(kernels.available_isas()), "threads": st.sampled_from(["1", "2", "3"])})


@examples(200)
@given(recurrent(), OPTIONS)
def test_like_the_cpu_provider(case, options):
    """Every combination keeps the promise; one session runs two shapes."""
    case, runs = case
    ours, theirs = owned_session(case.model(), options, threads=int(options["threads"]), regions=1), cpu_session(case.model(), threads=1)
    for feeds in runs:
        if "clip" in case.attributes or "input_forget" in case.attributes:
            # the CPU provider has its own reading of these
            assert_promise(case, feeds, ours.run(None, feeds))
        else:
            assert_promise(case, feeds, ours.run(None, feeds), theirs.run(None, feeds))


@pytest.mark.parametrize(("batch", "zeros"), [(11, 0.8), (5, 0.2)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("op_type", GATES)
def test_batch_first(op_type, direction, batch, zeros):
    """layout=1 (which the CPU provider does not have) is layout=0 with times and sequences exchanged."""
    case = Recurrent(op_type, 20, 40, direction=direction, optional=("b", "lengths", "h"), zeros=zeros)
    feeds = case.feeds(5, batch)
    expected = cpu_session(case.model()).run(None, feeds)
    case.attributes["layout"] = 1
    swapped = {name: x if name == "lengths" else np.ascontiguousarray(x.swapaxes(0, 1)) for name, x in feeds.items()}
    y, *last = owned_session(case.model()).run(None, swapped)
    assert_close(y, np.ascontiguousarray(expected[0].transpose(2, 0, 1, 3)))
    for ours, theirs in zip(last, expected[1:], strict=True):
        assert_close(ours, np.ascontiguousarray(theirs.swapaxes(0, 1)))


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize(("inputs", "zeros"), [(48, 0.2), (600, 0.5), (48, 0.9)])
@pytest.mark.parametrize("op_type", GATES)
def test_bits_do_not_depend_on_threads_or_batch(op_type, inputs, zeros, direction):
    """A sequence computes the same alone and among others, on one thread and on several, whichever step does its input projection."""
    case = Recurrent(op_type, inputs, 160, optional=("b", "h"), direction=direction, zeros=zeros)
    feeds = case.feeds(7, 19)
    expected = owned_session(case.model(), {"threads": "1"}, threads=1).run(None, feeds)
    several = owned_session(case.model(), {"threads": "4"}, threads=4)
    for _ in range(20):
        for a, b in zip(several.run(None, feeds), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    for first, last in ((0, 1), (1, 3), (1, 4), (4, 9), (4, 12), (2, 18), (0, 16), (2, 19)):
        part = {name: np.ascontiguousarray(x[:, first:last]) for name, x in feeds.items()}
        y, *states = several.run(None, part)
        np.testing.assert_array_equal(y, expected[0][:, :, first:last])
        for a, b in zip(states, expected[1:], strict=True):
            np.testing.assert_array_equal(a, b[:, first:last])


def test_fewer_threads_than_it_was_cut_for():
    """Work cut for more workers than ONNX Runtime's pool has is done all the same: nobody waits for who never comes."""
    case = Recurrent("LSTM", 64, 256)
    feeds = case.feeds(30, 3)
    expected = owned_session(case.model(), {"threads": "1"}, threads=1).run(None, feeds)
    for threads in (1, 2):
        for a, b in zip(owned_session(case.model(), {"threads": "7"}, threads=threads).run(None, feeds), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("zeros", [0.2, 0.7])
@pytest.mark.parametrize("batch", [1, 3, 5, 13, 16, 21])
@pytest.mark.parametrize("op_type", GATES)
def test_every_set(op_type, batch, zeros, isa):
    """Every set of kernels, without ONNX Runtime, with few zeros and with many. With 16 sequences, recurrent steps multiply by W too."""
    hidden, times, optional = (96, 23, ("b", "h")) if batch == 16 else (70, 4, ("b", "h", "lengths"))
    case = Recurrent(op_type, 30, hidden, optional=optional, zeros=zeros)
    feeds = case.feeds(times, batch)
    shapes = {"x": ("t", "n", 30), "h": (1, "n", hidden), "lengths": ("n",)}
    shapes = {name: shapes[name] for name in feeds}
    values = {name: Value(name, INT32 if name == "lengths" else FLOAT, shape) for name, shape in shapes.items()}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in case.weights.items()}
    values |= {"y": Value("y", FLOAT, (None,) * 4), **{name: Value(name, FLOAT, (None,) * 3) for name in case.outputs[1:]}}
    names = tuple(name if name in case.names else "" for name in INPUTS[:6])
    node = Node(0, "", op_type, "", 14, names, case.outputs, case.attributes)
    graph = Graph((node,), values, frozenset(case.weights), case.weights.__getitem__, tuple(shapes), case.outputs)
    program = Program(lower.lower_to_spec(graph, isa), table_of(isa), 3)
    assert_promise(case, feeds, program.run(*(feeds[name] for name in shapes)))


def test_constant_states_and_lengths():
    """Initial states and lengths that are initializers."""
    case = Recurrent("LSTM", 16, 32, optional=("b", "lengths", "h", "c"))
    feeds = case.feeds(4, 3)
    fixed = {name: feeds[name] for name in ("lengths", "h", "c")}
    assert_promise(case, feeds, owned_session(case.model(fixed)).run(None, {"x": feeds["x"]}))


@pytest.mark.parametrize("wanted", [("y",), ("last_h",), ("last_c",), ("last_h", "last_c"), ("y", "last_c")])
def test_outputs_left_out(wanted):
    """Each output may be missing."""
    case = Recurrent("LSTM", 16, 40)
    feeds = case.feeds(5, 3)
    model = case.model()
    for i, name in enumerate(OUTPUTS):
        if name not in wanted:
            model.graph.node[0].output[i] = ""
    kept = [value for value in model.graph.output if value.name in wanted]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    expected = dict(zip(OUTPUTS, cpu_session(case.model()).run(None, feeds), strict=True))
    for name, y in zip(wanted, owned_session(model).run(None, feeds), strict=True):
        assert_close(y, expected[name])


def stacked(layers, hidden, zeros=0.9, op_type="GRU"):
    """Layers of one net as exporters write them: Squeeze between, a pruned Gemm behind the last state."""
    rng = np.random.default_rng(3)
    nodes, weights, x = [], {"axis": np.array([1], np.int64)}, "x"
    for layer in range(layers):
        made = Recurrent(op_type, hidden, hidden, zeros=zeros, seed=layer)
        weights |= {f"{name}{layer}": array for name, array in made.weights.items()}
        nodes.append(helper.make_node(op_type, [x, f"w{layer}", f"r{layer}", f"b{layer}"], [f"y{layer}", f"h{layer}"], hidden_size=hidden))
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "axis"], [f"x{layer}"]))
        x = f"x{layer}"
    nodes.append(helper.make_node("MatMul", [x, "head"], ["z"]))
    weights["head"] = pruned(rng, (hidden, 24), zeros)
    shapes = {"x": ["t", "n", hidden]}, {"z": ["t", "n", 24], f"h{layers - 1}": [1, "n", hidden]}
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values.items()] for values in shapes]
    graph = helper.make_graph(nodes, "stacked", *infos, [numpy_helper.from_array(a, n) for n, a in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("op_type", GATES)
def test_layers_of_a_net(op_type):
    """A whole stack is one region."""
    model = stacked(3, 64, op_type=op_type)
    x = noise(np.random.default_rng(0), 6, 4, 64)
    ours = owned_session(model, regions=1).run(None, {"x": x})
    for a, b in zip(ours, cpu_session(model).run(None, {"x": x}), strict=True):
        assert_close(a, b)


def test_every_function_has_a_formula():
    """Those of the table are those above."""
    assert {name.lower() for name in FUNCTIONS} == set(RECURRENT)
    assert set(GATES) == {row.op_type for row in ops.OPS.values() if row.role == "recurrent"}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("op_type", GATES)
def test_activations(op_type, name):
    """Each, with numbers of its own, for one time: some grow without bound, one jumps."""
    functions = {"LSTM": ["Sigmoid", name, name], "GRU": ["Sigmoid", name], "RNN": [name]}[op_type]
    count = functions.count(name)
    numbers = {"activation_alpha": [0.7, 0.4][:count], "activation_beta": [0.6, 0.3][:count]}
    case = Recurrent(op_type, 12, 40, optional=("b", "h"), activations=functions, **numbers)
    feeds = case.feeds(1, 3)
    ours, theirs = (make(case.model()).run(None, feeds) for make in (owned_session, cpu_session))
    assert_promise(case, feeds, ours, theirs)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activations": ["Swish", "Tanh", "Tanh"]}, "activations=Swish is not supported"),
        ({"activations": ["Affine", "Tanh", "Tanh"]}, "activation Affine without its numbers is not supported"),
        (
            {"activations": ["ScaledTanh"] * 2 + ["Tanh"], "activation_alpha": [1.0, 1.0], "activation_beta": [1.0]},
            "activation ScaledTanh without its numbers is not supported",
        ),
        ({"activations": ["Tanh", "ThresholdedRelu", "Tanh"]}, "activation ThresholdedRelu without its numbers is not supported"),
        ({"activations": ["Tanh", "Tanh"]}, "the number of activations, 2, does not fit the direction"),
        ({"direction": "sideways"}, "direction=sideways is not supported"),
        ({"layout": 2}, "layout=2 is not supported"),
    ],
)
def test_declined(changes, reason):
    """What cannot be run says why."""
    case = Recurrent("LSTM", 8, 8)
    values = {"x": Value("x", FLOAT, (None, None, 8)), "y": Value("y", FLOAT, (None,) * 4)}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in case.weights.items()}
    node = Node(
        0, "", "LSTM", "", 14, ("x", "w", "r", "b"), ("y",), {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
    )
    graph = Graph((node,), values, frozenset(case.weights), case.weights.__getitem__, ("x",), ("y",))
    assert str(ops.can_run(graph, node)) == reason


@pytest.mark.parametrize("clip", [0.0, -0.5, float("nan")])
@pytest.mark.parametrize("op_type", list(GATES))
def test_clips_that_are_not_positive_are_declined(op_type, clip):
    """The CPU provider refuses them or, of an RNN, gives 0 where clip is 0 and clips nothing below."""
    nodes = [helper.make_node("MatMul", ["x", "e"], ["p"]), helper.make_node(op_type, ["p", "w", "r"], ["y"], hidden_size=8, clip=clip)]
    weights = {name: noise(np.random.default_rng(0), 1, 8 * GATES[op_type], 8) / 4 for name in "wr"}
    model = model_of(nodes, {"x": [3, 2, 8]}, ["y"], {**weights, "e": np.eye(8, dtype=np.float32)})
    try:
        (expected,) = cpu_session(model).run(None, {"x": np.ones((3, 2, 8), np.float32)})
    except Fail:
        with pytest.raises(Fail):
            make_session(model)
        return
    session = make_session(model)
    assert [decision.code for decision in sparse.explain(session) if not decision.taken] == ["unsupported-attribute"]
    assert_close(session.run(None, {"x": np.ones((3, 2, 8), np.float32)})[0], expected)


def test_weights_that_vary_are_declined():
    """W as an input of the graph."""
    model = Recurrent("GRU", 8, 8).model()
    w = next(t for t in model.graph.initializer if t.name == "w")
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, list(w.dims)))
    model.graph.initializer.remove(w)
    (decision,) = sparse.explain(make_session(model))
    assert (decision.taken, decision.reason) == (False, "the weight is not constant")


def test_bad_inputs():
    """Lengths and states that do not fit are errors that say so."""
    case = Recurrent("LSTM", 8, 16, optional=("lengths", "h"))
    session, feeds = owned_session(case.model()), case.feeds(4, 3)
    for name, bad, message in (
        ("lengths", np.array([1, 5, 2], np.int32), "sequence_lens"),
        ("lengths", np.array([1, -1, 2], np.int32), "sequence_lens"),
        ("lengths", np.array([1, 2], np.int32), "sequence_lens"),
        ("h", np.zeros((1, 2, 16), np.float32), "initial_h"),
    ):
        with pytest.raises(Exception, match=message):
            session.run(None, {**feeds, name: bad})
    assert_promise(case, feeds, session.run(None, feeds))


@pytest.mark.parametrize(("times", "batch"), [(0, 3), (4, 0)])
def test_nothing_to_do(times, batch):
    """No times, or no sequences (where the CPU provider ends the process): empty outputs."""
    case = Recurrent("LSTM", 8, 16, optional=("h", "c"))
    feeds = case.feeds(times, batch)
    y, h, c = owned_session(case.model()).run(None, feeds)
    assert y.shape == (times, 1, batch, 16)
    for last in (h, c):
        np.testing.assert_array_equal(last, np.zeros((1, batch, 16), np.float32))


@pytest.mark.parametrize("zeros", [0.0, 0.9])
@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_batches_first_are_taken_whatever_the_sparsity(operator, zeros):
    """The CPU provider has no kernel for layout=1: without us there would be no session."""
    rng, gates = np.random.default_rng(0), GATES[operator]
    weights = {name: pruned(rng, (gates * 96, 96), zeros)[None] for name in "wr"}
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=96, layout=1)
    model = model_of([node], {"x": [2, 5, 96]}, ["y"], weights)
    session = make_session(model, {"policy": "auto"})
    (decision,) = sparse.explain(session)
    assert (decision.taken, decision.code) == (True, "only-here")
    plain = model_of([helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=96)], {"x": [5, 2, 96]}, ["y"], weights)
    x = noise(rng, 2, 5, 96)
    (y,), (expected,) = session.run(None, {"x": x}), cpu_session(plain).run(None, {"x": x.swapaxes(0, 1)})
    assert_close(y, np.ascontiguousarray(expected.transpose(2, 0, 1, 3)))
