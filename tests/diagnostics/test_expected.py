"""The expected times of a model, from the decisions about its nodes."""

import numpy as np
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.diagnostics.explain import expected, explain
from support.making import model_of, pruned
from support.promises import make_session


def decisions(options, zeros=0.95):
    """The decisions about a Conv, a Relu and a Sin, which is left in any case."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        helper.make_node("Asinh", ["r"], ["y"], name="y"),
    ]
    model = model_of(nodes, {"x": [1, 64, 28, 28]}, ["y"], {"w": pruned(rng, (64, 64, 3, 3), zeros)})
    return explain(make_session(model, options))


def test_sums():
    """What is left takes as long as before; what is taken less."""
    made = decisions({"policy": "auto", "threads": "1"})
    assert [decision.taken for decision in made] == [True, True, False]
    times = expected(made)
    assert times.cpu_ms == pytest.approx(sum(decision.cpu_ms for decision in made))
    assert times.ms == pytest.approx(sum(decision.ms for decision in made))
    assert times.speedup == times.cpu_ms / times.ms > 1  # by the table of rates: nothing is timed
    assert made[2].cpu_ms == made[2].ms > 0
    assert times.to_dict() == {"cpu_ms": times.cpu_ms, "ms": times.ms, "speedup": times.speedup}


@pytest.mark.parametrize("options", [{"policy": "never"}, {"policy": "always"}])
def test_nothing_is_expected_of_other_policies(options):
    """What the user decides is not estimated."""
    made = decisions(options)
    assert {(decision.cpu_ms, decision.ms) for decision in made} == {(None, None)}
    assert expected(made) is None


def test_nothing_is_expected_where_nothing_is_taken():
    """A dense model."""
    assert expected(decisions({}, zeros=0.0)) is None
    assert expected([]) is None


def test_decisions_can_be_made_of_dicts():
    """As explain() does with what the provider answers."""
    made = decisions({})
    assert [sparse.NodeDecision(**decision.to_dict()) for decision in made] == made
