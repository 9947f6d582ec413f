"""The entry `session.disable_cpu_ep_fallback`: ONNX Runtime refuses to create a session if a node stays on the CPU provider."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
from support.making import model_of, noise, pruned
from support.promises import assert_close, cpu_session

LEFT = "nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled"
CONFLICT = "explicitly added the CPU EP to the session, but also disabled fallback"


def net(tail, zeros=0.95):
    """A pruned product and one node behind it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "product"), helper.make_node(tail, ["a"], ["y"], "tail")]
    return model_of(nodes, {"x": ["n", 512]}, ["y"], {"w": pruned(np.random.default_rng(0), (512, 512), zeros)})


def session_of(model, disabled, options, others=()):
    """A session whose providers are ours and others."""
    chosen = onnxruntime.SessionOptions()
    if disabled:
        chosen.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(sparse.EP_NAME, options), *others]
    return onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=providers, enable_fallback=0)


@pytest.mark.parametrize("policy", ["auto", "always"])
def test_a_model_that_is_wholly_ours_runs(policy):
    """The entry changes neither what is taken nor the results."""
    model = net("Relu")
    plain, strict = (session_of(model, disabled, {"policy": policy}) for disabled in (False, True))
    assert sparse.explain(plain) == sparse.explain(strict)
    assert all(decision.taken for decision in sparse.explain(strict))
    feeds = {"x": noise(np.random.default_rng(1), 128, 512)}
    assert plain.run(None, feeds)[0].tobytes() == strict.run(None, feeds)[0].tobytes()
    assert_close(strict.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.mark.parametrize(
    ("tail", "zeros", "policy"),
    [("Atan", 0.95, "always"), ("Atan", 0.95, "auto"), ("Relu", 0.0, "auto"), ("Relu", 0.95, "never")],
)
def test_a_node_that_is_left_fails_the_session(tail, zeros, policy):
    """Because it cannot be run, is not worth it, or is not wanted: nothing more is taken than without the entry."""
    model = net(tail, zeros)
    assert not all(decision.taken for decision in sparse.explain(session_of(model, False, {"policy": policy})))
    with pytest.raises(Exception, match=LEFT):
        session_of(model, True, {"policy": policy})


def test_the_cpu_provider_must_not_be_listed():
    """ONNX Runtime calls that a conflict, for `session_options()` too, which lists it."""
    with pytest.raises(Exception, match=CONFLICT):
        session_of(net("Relu"), True, {"policy": "always"}, ["CPUExecutionProvider"])
    chosen = sparse.session_options({"policy": "always"})
    chosen.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Exception, match=CONFLICT):
        onnxruntime.InferenceSession(net("Relu").SerializeToString(), chosen, enable_fallback=0)
