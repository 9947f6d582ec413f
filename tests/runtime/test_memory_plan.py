"""Places of values: those that are needed at the same time never overlap; sums, activations and Concat use memory that is there."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT32, Graph, Node, Value
from onnxruntime_ep_sparse.program import packing
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.elementwise import Binary
from onnxruntime_ep_sparse.program.kinds.layout import Concat, Reshape
from onnxruntime_ep_sparse.program.steps import Activation, ProgramSpec, Step, Window
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.elementwise import Act, Op
from support.kernel_sets import SETS, table_of
from support.making import examples, noise, pruned
from support.programs import EVERY_SET, graph_of, program_of

ISA = SETS[-2]
"""The one that every CPU has."""
MORE_RESULTS = ("last_h", "last_c")
MORE_OPERANDS = ("lengths", "initial_h", "initial_c")


def numbers(step, names):
    """Those of the values that a step's data name."""
    return {number for name in names if (number := getattr(step.spec, name, -1)) >= 0}


def results(step):
    """The values that a step makes."""
    return {step.y} | numbers(step, MORE_RESULTS)


def operands(step):
    """The values that a step reads."""
    return ({step.x, step.r} - {-1}) | numbers(step, MORE_OPERANDS)


def lifetimes(spec):
    """The first and the last step at which each value must be in memory; results of the program are needed after the last."""
    born, gone = {}, {}
    for s, step in enumerate(spec.steps):
        for value in results(step):
            born.setdefault(value, s)
            gone[value] = s
        for value in operands(step):
            gone[value] = s
    gone |= dict.fromkeys(spec.outputs.values(), len(spec.steps))
    return {value: (born[value], gone[value]) for value in born}


class Plan:
    """The places of a program's values for inputs of some shapes, and what may be said about them."""

    def __init__(self, spec, program, *shapes):
        self.spec = spec
        self.places = program.places(*shapes)
        self.lives = lifetimes(spec)
        self.views = set()
        """(a, b): a shows memory of b."""
        joined = {}
        for step in spec.steps:
            x, y = self.places[step.x], self.places[step.y]
            if step.kind in (StepKind.RESHAPE, StepKind.CONCAT) and x == y:
                self.views |= {(step.x, step.y), (step.y, step.x)}
            if step.kind == StepKind.CONCAT:
                begin = joined.get(step.y, 0)
                joined[step.y] = begin + x.size
                if x[:3] == (*y[:2], y.offset + begin):
                    self.views.add((step.x, step.y))
        for _ in spec.steps:
            self.views |= {(a, d) for a, b in self.views for c, d in self.views if b == c and a != d}

    def overlap(self, a, b):
        """Whether two values share memory."""
        a, b = self.places[a], self.places[b]
        return a[:2] == b[:2] and a.storage != "nowhere" and a.offset < b.offset + b.size and b.offset < a.offset + a.size

    def written_over(self, a, b):
        """Whether the step that makes b reads every element of a where it writes it, and nobody reads a afterwards."""
        step = self.spec.steps[self.lives[b][0]]
        elementwise = step.kind == StepKind.ACTIVATE and step.x == a
        addend = step.kind == StepKind.PRODUCT and step.r == a and not self.overlap(step.x, b)
        last = max(self.lives[v][1] for v in (a, *(w for w, of in self.views if of == a)))
        return step.y == b and (elementwise or addend) and last == self.lives[b][0] and self.places[a][:3] == self.places[b][:3]

    def check(self):
        """Everything that must hold of any plan."""
        for value in self.lives:
            if self.places[value].storage in ("input", "constant"):
                assert any(self.places[of][:2] == self.places[value][:2] for a, of in self.views if a == value), "an input is written to"
        for a, b in combinations(sorted(self.lives, key=lambda value: self.lives[value]), 2):
            (a_born, a_gone), (b_born, b_gone) = self.lives[a], self.lives[b]
            if a_born <= b_gone and b_born <= a_gone and self.overlap(a, b):
                viewed = (a, b) in self.views or (b, a) in self.views
                assert viewed or self.written_over(a, b), f"values {a} and {b} are both needed at {self.places[a]}, {self.places[b]}"
        return self


def random_spec(rng):
    """A program of one input (n, c, h, w): convolutions with residuals, activations, sums, concatenations, reshapes, in any order."""
    n, c, h, w = (int(d) for d in (rng.integers(1, 3), rng.integers(1, 7), rng.integers(2, 6), rng.integers(2, 6)))
    shapes, steps = [(n, c, h, w)], []

    def value(shape):
        shapes.append(shape)
        return len(shapes) - 1

    def like(shape):
        return [v for v, other in enumerate(shapes) if other == shape]

    for _ in range(int(rng.integers(2, 14))):
        x = int(rng.integers(len(shapes)))
        shape = shapes[x]
        match rng.integers(6):
            case 0:
                steps.append(Step(StepKind.ACTIVATE, x, value(shape), activation=Activation(Act.TANH)))
            case 1:
                r = int(rng.choice(like(shape)))
                steps.append(Step(StepKind.BINARY, x, value(shape), r, spec=Binary(Op.ADD)))
            case 2 | 3:
                k = int(rng.integers(1, 3)) * 2 - 1
                window = Window((k, k), (1, 1), (1, 1), (k // 2,) * 2, (k // 2,) * 2)
                m = int(rng.choice([shape[1], rng.integers(1, 7)]))
                weight = pruned(rng, (m, shape[1], k, k), 0.5)
                product = packing.convolution(weight, noise(rng, m), window, 1, shape[2:], ISA)
                addends = like((n, m, *shape[2:]))
                r = int(rng.choice(addends)) if addends and rng.random() < 0.7 else -1
                steps.append(Step(StepKind.PRODUCT, x, value((n, m, *shape[2:])), r, spec=product))
            case 4:
                fitting = [v for v, other in enumerate(shapes) if other[2:] == shape[2:]]
                parts = [x, *(int(v) for v in rng.choice(fitting, rng.integers(0, 3)))]
                y = value((n, sum(shapes[v][1] for v in parts), *shape[2:]))
                steps += [Step(StepKind.CONCAT, v, y, spec=Concat(1, begins=i == 0)) for i, v in enumerate(parts)]
            case 5:
                target = (*shape[:2], math.prod(shape[2:]), 1) if shape[3] > 1 else (n, shape[1], 1, shape[2])
                steps.append(Step(StepKind.RESHAPE, x, value(target), spec=Reshape(target)))
    made = sorted({step.y for step in steps})
    unread = [v for v in made if not any(v in operands(step) for step in steps)]
    outputs = {*unread, *(int(v) for v in rng.choice(made, rng.integers(0, 2)))}
    return ProgramSpec(len(shapes), {"x": 0}, {f"y{v}": v for v in sorted(outputs)}, {}, tuple(steps)), shapes


@examples(300)
@given(seed=st.integers(0, 2**32 - 1))
def test_values_of_random_programs(seed):
    """Values that are needed at the same time overlap only where one shows the other; a program that shares nothing gives the same bits."""
    rng = np.random.default_rng(seed)
    spec, shapes = random_spec(rng)
    program = Program(spec, table_of(ISA), 1, far_floats=0)
    plan = Plan(spec, program, shapes[0]).check()
    assert all(place.size == math.prod(shape) for place, shape in zip(plan.places, shapes, strict=True))
    x = noise(rng, *shapes[0])
    # where every value is given away, none has the memory of another
    given_away = {f"y{v}": v for v in range(1, len(shapes))}
    apart = Program(ProgramSpec(spec.n_values, spec.inputs, given_away, {}, spec.steps), table_of(ISA), 1, far_floats=0)
    expected = dict(zip(given_away, apart.run(x), strict=True))
    for name, y in zip(spec.outputs, program.run(x), strict=True):
        assert y.tobytes() == expected[name].tobytes(), name


def pointwise(rng, channels=4):
    """A product that keeps the shape of images of so many channels."""
    window = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    return packing.convolution(pruned(rng, (channels, channels, 1, 1), 0.5), None, window, 1, (5, 5), ISA)


def chain(*steps, outputs):
    """A program of those steps with the input 0."""
    return ProgramSpec(1 + max(step.y for step in steps), {"x": 0}, {f"y{v}": v for v in outputs}, {}, steps)


def places_of(spec, *shapes):
    """Where the values stand, after the checks of every plan."""
    return Plan(spec, Program(spec, table_of(ISA), 1), *shapes).check().places


TANH = Activation(Act.TANH)


def arena_of(places):
    """Floats up to the end of the last value."""
    return max(place.offset + place.size for place in places if place.storage == "arena")


def test_large_values_come_first():
    """A value in the middle that is smaller than its neighbours cuts the memory in no two holes that are too small for the last one."""
    rng, window = np.random.default_rng(0), Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    channels = (4, 8, 2, 10, 4)
    products = [packing.convolution(pruned(rng, (m, c, 1, 1), 0.5), None, window, 1, (4, 4), ISA) for c, m in pairwise(channels)]
    steps = [Step(StepKind.PRODUCT, i, i + 1, spec=product) for i, product in enumerate(products)]
    places = places_of(chain(*steps, outputs=[4]), (1, 4, 4, 4))
    slack = 2 * 16  # what kernels may read too much, of two values
    assert arena_of(places) <= (10 + 2) * 16 + slack


@pytest.mark.parametrize("count", [20, 1500])
def test_short_and_long_programs(count):
    """Long programs get their places step by step: values never overlap, and the memory of those that are gone is used again."""
    steps = [Step(StepKind.ACTIVATE, 0, 1, activation=TANH)]
    for y in range(2, 2 * count, 2):
        steps += [Step(StepKind.ACTIVATE, 0, y, activation=TANH), Step(StepKind.BINARY, y - 1, y + 1, y, spec=Binary(Op.ADD))]
    spec = chain(*steps, outputs=[2 * count - 1])
    program = Program(spec, table_of(ISA), 1)
    plan = Plan(spec, program, (1, 64)).check()
    assert arena_of(plan.places) <= 3 * (64 + 16)
    x = noise(np.random.default_rng(1), 1, 64)
    np.testing.assert_allclose(program.run(x)[0], count * np.tanh(x), rtol=1e-3)


def test_sum_takes_the_place_of_its_residual():
    """Where that is read for the last time, and the product does not read it whole."""
    product = pointwise(np.random.default_rng(0))
    first = (Step(StepKind.ACTIVATE, 0, 1, activation=TANH), Step(StepKind.PRODUCT, 1, 2, spec=product))
    last = Step(StepKind.BINARY, 3, 4, 3, spec=Binary(Op.ADD))
    shape = (2, 4, 5, 5)
    places = places_of(chain(*first, Step(StepKind.PRODUCT, 2, 3, 1, spec=product), last, outputs=[4]), shape)
    assert places[3] == places[1]
    read_later = Step(StepKind.BINARY, 3, 4, 1, spec=Binary(Op.ADD))
    places = places_of(chain(*first, Step(StepKind.PRODUCT, 2, 3, 1, spec=product), read_later, outputs=[4]), shape)
    assert places[3] != places[1]
    places = places_of(chain(*first, Step(StepKind.PRODUCT, 2, 3, 2, spec=product), last, outputs=[4]), shape)
    assert places[3] != places[2]


def test_activation_takes_the_place_of_its_operand():
    """But never that of an input, or of a value that is read again."""
    steps = [Step(StepKind.ACTIVATE, v, v + 1, activation=TANH) for v in range(4)]
    places = places_of(chain(*steps, outputs=[4]), (3, 5))
    assert (places[1].storage, places[1]) == ("arena", places[2])
    assert (places[0].storage, places[4].storage) == ("input", "output")
    again = (*steps, Step(StepKind.BINARY, 2, 5, 4, spec=Binary(Op.ADD)))
    places = places_of(chain(*again, outputs=[5]), (3, 5))
    assert places[3] != places[2]


@pytest.mark.parametrize(("n", "axis", "copies"), [(1, 1, False), (2, 1, True), (2, 0, False), (1, 2, True)])
def test_concat_without_copies(n, axis, copies):
    """Operands that are one run of the result stand there; others are copied."""
    activations = [Step(StepKind.ACTIVATE, 0, v, activation=TANH) for v in (1, 2)]
    joins = [Step(StepKind.CONCAT, v, 3, spec=Concat(axis, begins=v == 1)) for v in (1, 2)]
    last = Step(StepKind.ACTIVATE, 3, 4, activation=TANH)
    places = places_of(chain(*activations, *joins, last, outputs=[4]), (n, 3, 4, 5))
    inside = [places[v][:3] == (*places[3][:2], places[3].offset + (v - 1) * places[1].size) for v in (1, 2)]
    assert inside == [not copies] * 2


def test_operand_twice_in_a_concat():
    """It can stand in one place only: the other one is a copy."""
    joins = [Step(StepKind.CONCAT, 1, 2, spec=Concat(1, begins=i == 0)) for i in range(2)]
    spec = chain(Step(StepKind.ACTIVATE, 0, 1, activation=TANH), *joins, outputs=[2])
    places = places_of(spec, (1, 3, 4))
    assert places[1] == ("output", 0, 0, 12, False)
    x = noise(np.random.default_rng(0), 1, 3, 4)
    (y,) = Program(spec, table_of(ISA), 1).run(x)
    assert y[:, :3].tobytes() == y[:, 3:].tobytes()


def test_recurrent_states():
    """Initial states are kept until their step, last states have places of their own."""
    rng = np.random.default_rng(1)
    constants = {"w": pruned(rng, (2, 36, 10), 0.5), "r": pruned(rng, (2, 36, 9), 0.5)}
    floats = {"x": (4, 3, 10), "h": (2, 3, 9), "a": (2, 3, 9), "y": (4, 2, 3, 9), "yh": (2, 3, 9), "yc": (2, 3, 9), "z": (2, 3, 9)}
    floats |= {name: array.shape for name, array in constants.items()}
    values = {name: Value(name, FLOAT, shape) for name, shape in floats.items()} | {"lengths": Value("lengths", INT32, (3,))}
    lstm = {"hidden_size": 9, "direction": "bidirectional"}
    nodes = (
        Node(0, "", "Tanh", "", 0, ("h",), ("a",), {}),
        Node(1, "", "LSTM", "", 0, ("x", "w", "r", "", "lengths", "a"), ("y", "yh", "yc"), lstm),
        Node(2, "", "Add", "", 0, ("yh", "yc"), ("z",), {}),
    )
    graph = Graph(nodes, values, frozenset(constants), constants.__getitem__, ("x", "h", "lengths"), ("y", "z"))
    spec = pipeline.lower_to_spec(graph, ISA)
    (step,) = [step for step in spec.steps if step.kind == StepKind.RECURRENT]
    assert len(results(step)) == 3
    assert len(operands(step)) == 3
    Plan(spec, Program(spec, table_of(ISA), 1), (4, 3, 10), (2, 3, 9), (3,)).check()


@EVERY_SET
def test_results_over_their_residual(isa):
    """Blocks that add their own input, as bands and as single steps: nothing that somebody still reads is written over."""
    rng = np.random.default_rng(5)
    c, shape, window = 24, ("n", 24, 30, 23), {"group": 24, "pads": (1, 1, 1, 1)}
    weights = {name: pruned(rng, (c, 1, 3, 3), 0) for name in ("d0", "d1")} | {
        name: pruned(rng, (c, c, 1, 1), 0.8) for name in ("p0", "p1")
    }
    nodes = [("Relu", ("x",), "a0", shape, {})]
    for i in range(2):
        nodes += [
            ("Conv", (f"a{i}", f"d{i}"), f"b{i}", shape, window),
            ("Relu", (f"b{i}",), f"c{i}", shape, {}),
            ("Conv", (f"c{i}", f"p{i}"), f"e{i}", shape, {}),
            ("Add", (f"e{i}", f"a{i}"), f"a{i + 1}", shape, {}),
        ]
    nodes.append(("Sigmoid", ("a2",), "y", shape, {}))
    inputs = {"x": shape}
    x = noise(rng, 2, *shape[1:])
    # where everything is given away, nothing may be written over
    given = ("y", "a0", "b0", "c0", "e0", "a1", "b1", "c1", "e1", "a2")
    expected = program_of(graph_of(nodes, inputs, weights, given), isa).run(x)[0]
    for workers in (1, 2, 3):
        for outputs in (("y",), ("y", "a1"), ("y", "b0", "b1")):
            y = program_of(graph_of(nodes, inputs, weights, outputs), isa, workers).run(x)[0]
            assert y.tobytes() == expected.tobytes()
