"""Creating a session takes time in proportion to the graph: counted in lines of Python that run, because times differ from run to run."""

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from onnxruntime_ep_sparse import options, pipeline
from onnxruntime_ep_sparse.graph.ir import subgraph
from onnxruntime_ep_sparse.partition.measured import choose
from onnxruntime_ep_sparse.partition.regions import grow
from onnxruntime_ep_sparse.partition.select import select
from onnxruntime_ep_sparse.partition.verdict import SizeTimes, UnmeasuredError, Verdict
from support.making import pruned
from support.programs import graph_of

SIZE = 64
SHAPE = ("n", SIZE)
WEIGHTS = {"w": pruned(np.random.default_rng(0), (SIZE, SIZE), 0.95)}


def node(op, inputs, output, **attributes):
    """A node of matrices of one shape."""
    return (op, inputs, output, SHAPE, attributes)


def product(x, y):
    """A pruned product."""
    return node("MatMul", (x, "w"), y)


def after(n):
    """A product, and a long chain that reads it."""
    return [product("x", "c0"), *(node("Tanh", (f"c{i}",), f"c{i + 1}") for i in range(n))]


def before(n):
    """A long chain that a product reads."""
    return [node("Tanh", (f"c{i}" if i else "x",), f"c{i + 1}") for i in range(n)] + [product(f"c{n}", "y")]


def fan(n):
    """A product that many read, and the sum of all."""
    nodes = [product("x", "p"), *(node("Relu", ("p",), f"r{i}") for i in range(n))]
    return nodes + [node("Add", (f"a{i - 1}" if i > 1 else "r0", f"r{i}"), f"a{i}") for i in range(1, n)]


def products(n):
    """Products one after the other."""
    return [made for i in range(n) for made in (product(f"c{i}" if i else "x", f"p{i}"), node("Tanh", (f"p{i}",), f"c{i + 1}"))]


def islands(n):
    """Products with an operator between them that is not ours."""
    return [made for i in range(n) for made in (product(f"c{i}" if i else "x", f"p{i}"), node("Atan", (f"p{i}",), f"c{i + 1}"))]


def residual(n):
    """Blocks that add their own input; every third has an operator in its shortcut that is not ours."""
    nodes, x = [], "x"
    for i in range(n):
        shortcut = x
        if i % 3 == 0:
            nodes.append(node("Atan", (x,), f"s{i}"))
            shortcut = f"s{i}"
        nodes += [product(x, f"p{i}"), node("Relu", (f"p{i}",), f"r{i}"), node("Add", (f"r{i}", shortcut), f"b{i}")]
        x = f"b{i}"
    return nodes


FAMILIES = [after, before, fan, products, islands, residual]
OPTIONS = {"always": {"policy": "always"}, "auto": {"min_sparsity": "0.5"}}


def graph(family, n):
    """A graph of a family; values that nobody reads are its outputs."""
    nodes = family(n)
    read = {name for _, inputs, _, _, _ in nodes for name in inputs}
    made = graph_of(nodes, {"x": SHAPE}, WEIGHTS, tuple(y for _, _, y, _, _ in nodes if y not in read))
    return replace(made, nodes=tuple(replace(each, since_version=14) for each in made.nodes))


def lines(call):
    """How many lines of Python `call` runs."""
    count = Counter()

    def trace(frame, event, argument):
        count[event] += 1
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(old)
    return count["line"]


def assert_linear(family, work, small=60, times=8):
    """Work on graphs of one family grows with the number of their nodes."""
    made = [graph(family, n) for n in (small, small * times)]
    few, many = (lines(lambda made=made: work(made)) for made in made)
    nodes = len(made[1].nodes) / len(made[0].nodes)
    assert many <= 1.3 * nodes * few, f"{nodes:.1f} times the nodes, {many / few:.1f} times the lines ({few}, {many})"


@pytest.mark.slow
@pytest.mark.parametrize("policy", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_choosing_regions(family, policy):
    """All of GetCapability behind the reading of the graph."""

    def work(made):
        assert select(made, options.parse(OPTIONS[policy])).regions

    assert_linear(family, work)


@pytest.mark.slow
@pytest.mark.parametrize("faster", [True, False, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_choosing_measured_regions(family, faster):
    """All of it but the measuring itself, whether regions win, lose, or there is no time for them."""

    def timer(region, sizes, seconds):
        if faster is None:
            raise UnmeasuredError("no time")
        return Verdict((SizeTimes(None, "", 2.0, 1.0, 2.0 if faster else 0.5),))

    def work(made):
        selection = choose(made, options.parse({"policy": "measure"}), timer)
        assert any(decision.code in ("measured-faster", "measured-slower", "not-measured") for decision in selection.decisions)

    assert_linear(family, work)


@pytest.mark.parametrize("wanted", ["first", "last", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_growing_regions(family, wanted):
    """Regions around any of the products."""

    def work(made):
        found = [node.index for node in made.nodes if node.op_type == "MatMul"]
        runnable = {node.index for node in made.nodes if node.op_type != "Atan"}
        grow(made, runnable, set({"first": found[:1], "last": found[-1:], "all": found}[wanted]))

    assert_linear(family, work)


@pytest.mark.parametrize("family", FAMILIES)
def test_lowering(family):
    """All of Compile that is Python, for the largest region."""

    def work(made):
        selection = select(made, options.parse(OPTIONS["always"]))
        region = max(selection.regions, key=len)
        pipeline.lower_to_spec(subgraph(made, set(region)), options.isa_of(options.parse({})))

    assert_linear(family, work)
