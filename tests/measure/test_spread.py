"""How far runs of the CPU provider are from each other, and what an output may differ by for that."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.measure.spread import judged
from onnxruntime_ep_sparse.ort.sessions import CPU, make_session
from support import quantized

DEPTH, ROWS = 64, 4096


@pytest.fixture(scope="module")
def layers():
    """A QDQ net of three matrices in float32 at its end. So many sums are rounded that some are near a tie."""
    rng = np.random.default_rng(0)
    nodes, constants = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])], {"s": np.float32(0.0173), "z": np.uint8(128)}
    for i in range(3):
        constants |= {f"w{i}": rng.integers(-20, 21, (DEPTH, DEPTH)).astype(np.int8), f"ws{i}": np.float32(0.0071), "wz": np.int8(0)}
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"x{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", f"ws{i}", "wz"], [f"f{i}"]),
            helper.make_node("MatMul", [f"x{i}", f"f{i}"], [f"m{i}"]),
            helper.make_node("QuantizeLinear", [f"m{i}", "s", "z"], [f"q{i + 1}"]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", ["q3", "s", "z"], ["y"]))
    model = quantized.model(nodes, {"x": (np.float32, (ROWS, DEPTH))}, {"y": np.float32}, constants)
    return model.SerializeToString(), {"x": rng.standard_normal((ROWS, DEPTH)).astype(np.float32)}


def outputs(layers, **setting):
    """The outputs of the CPU provider, by name."""
    return {"y": make_session(layers[0], CPU, None, 1, **setting).run(None, layers[1])[0]}


def judge(layers, ours, reference):
    """The agreement of two outputs with those of the net."""
    (found,) = judged(measure.agree(["y"], [ours["y"]], [reference["y"]]), ours, reference, *layers, 1)
    return found


def test_runs_with_other_settings(layers):
    """Without optimizations the net is rounded otherwise: no fault. As far again, and more, is a fault; so is an infinity."""
    reference, ours = outputs(layers), outputs(layers, optimized=False)
    found = judge(layers, ours, reference)
    assert found.max_relative > found.tolerance
    assert found.within()
    assert not found.within(found.tolerance)
    assert found.spread >= found.max_relative
    assert found.nearest == 0
    assert found.verdict.startswith("within 2 x ")
    for wrong in (ours["y"] + 2.5 * found.spread * found.scale, np.where(ours["y"] == ours["y"].max(), np.inf, ours["y"])):
        worse = judge(layers, {"y": wrong}, reference)
        assert not worse.within()
        assert worse.verdict.startswith("DIFFERS, not within 2 x ")


def test_nothing_is_run_within_the_tolerance(layers):
    """Equal outputs need no other run."""
    reference = outputs(layers)
    found = judge((b"no model", {}), reference, reference)
    assert found.spread is None
    assert found.verdict == "within 1e-04"
