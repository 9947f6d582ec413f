"""RMSNormalization, Gelu and Mish as exporters write them in several nodes: one step each, with the results of the nodes."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.diagnostics.step_times import step_times
from support.making import model_of, noise
from support.promises import assert_close, cpu_session, owned_session

HIDDEN = 48
ROOT = np.sqrt(2 / np.pi)
IDENTITY = np.eye(HIDDEN, dtype=np.float32)
N = helper.make_node


def kinds(session):
    """The kinds of the steps of a session, in order."""
    return [step.kind for step in step_times(session)]


def checked(nodes, weights, result="y"):
    """The kinds of the steps of a model that reads p, a product of x; results are those of the CPU provider."""
    constants = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    model = model_of([N("MatMul", ["x", "w"], ["p"]), *nodes], {"x": ["b", "t", HIDDEN]}, [result], {"w": IDENTITY, **constants}, opset=17)
    session = owned_session(model, {"profile": "1"})
    feeds = {"x": noise(np.random.default_rng(0), 2, 5, HIDDEN)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
    return kinds(session)


def rms(last, *, square=2.0, axes=(-1,), keepdims=1):
    """The nodes of an RMSNormalization of p, which `last` makes of the root of the mean square r."""
    return [
        N("Pow", ["p", "two"], ["s"]),
        N("ReduceMean", ["s"], ["m"], axes=list(axes), keepdims=keepdims),
        N("Add", ["m", "epsilon"], ["e"]),
        N("Sqrt", ["e"], ["r"]),
        *last,
    ], {"two": square, "epsilon": 1e-6, "scale": np.linspace(0.5, 2, HIDDEN)}


BY_DIVISION = [N("Div", ["p", "r"], ["q"]), N("Mul", ["scale", "q"], ["y"])]
BY_RECIPROCAL = [N("Reciprocal", ["r"], ["i"]), N("Mul", ["i", "p"], ["q"]), N("Mul", ["q", "scale"], ["y"])]


@pytest.mark.parametrize("last", [BY_DIVISION, BY_RECIPROCAL], ids=["division", "reciprocal"])
def test_rms_norms(last):
    """With a quotient, or with a reciprocal and a product in either order."""
    assert checked(*rms(last)) == ["product", "normalize"]


@pytest.mark.parametrize("other", [{"square": 4.0}, {"axes": (1,)}, {"axes": (1, 2)}])
def test_what_is_no_rms_norm(other):
    """Another power, and means over other dimensions."""
    assert "normalize" not in checked(*rms(BY_DIVISION, **other))


def test_a_part_of_a_norm_that_others_read():
    """The root of the mean square is a result as well."""
    nodes, weights = rms(BY_DIVISION)
    assert "normalize" not in checked([*nodes, N("Mul", ["y", "r"], ["z"])], weights, "z")


def tanh_gelu(halves, root=ROOT):
    """The nodes of a Gelu of p by tanh, whose last ones multiply p, t and 1 / 2."""
    nodes = [
        N("Pow", ["p", "three"], ["c"]),
        N("Mul", ["c", "cubic"], ["k"]),
        N("Add", ["p", "k"], ["s"]),
        N("Mul", ["s", "root"], ["a"]),
        N("Tanh", ["a"], ["h"]),
        N("Add", ["h", "one"], ["t"]),
        *halves,
    ]
    return nodes, {"three": 3, "cubic": 0.044715, "root": root, "one": 1, "half": 0.5}


@pytest.mark.parametrize(
    "halves",
    [
        [N("Mul", ["p", "half"], ["f"]), N("Mul", ["f", "t"], ["y"])],
        [N("Mul", ["p", "t"], ["f"]), N("Mul", ["f", "half"], ["y"])],
        [N("Mul", ["t", "half"], ["f"]), N("Mul", ["p", "f"], ["y"])],
    ],
    ids=["first", "last", "between"],
)
def test_gelus_by_tanh(halves):
    """The product computes it, whatever is halved."""
    assert checked(*tanh_gelu(halves)) == ["product"]


def test_what_is_no_gelu():
    """Another root."""
    assert len(checked(*tanh_gelu([N("Mul", ["p", "half"], ["f"]), N("Mul", ["f", "t"], ["y"])], root=0.8))) > 5


def test_a_part_of_a_gelu_that_others_read():
    """The sum is a result as well."""
    nodes, weights = tanh_gelu([N("Mul", ["p", "half"], ["f"]), N("Mul", ["f", "t"], ["g"])])
    assert len(checked([*nodes, N("Add", ["g", "s"], ["y"])], weights)) > 5


MISH = [N("Softplus", ["p"], ["s"]), N("Tanh", ["s"], ["t"])]


@pytest.mark.parametrize("operands", [["p", "t"], ["t", "p"]])
def test_mish(operands):
    """It becomes a part of the product before it."""
    assert checked([*MISH, N("Mul", operands, ["y"])], {}) == ["product"]


@pytest.mark.parametrize(
    "last",
    [
        [N("Mul", ["t", "s"], ["y"])],
        [N("Mul", ["p", "t"], ["m"]), N("Add", ["m", "s"], ["y"])],
        [N("Mul", ["p", "t"], ["m"]), N("Add", ["m", "t"], ["y"])],
    ],
    ids=["of another value", "softplus read twice", "tanh read twice"],
)
def test_what_is_no_mish(last):
    assert len(checked([*MISH, *last], {})) > 2
