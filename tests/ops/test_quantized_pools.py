"""QLinearAveragePool and its QDQ form: equal to ONNX Runtime's in every bit, and what is declined."""

import numpy as np
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from support import quantized
from support.making import MORE
from support.promises import cpu_session, make_session

F32 = np.float32
TYPES = (np.uint8, np.int8)
CASES = 60 * MORE


def pool(rng, dtype):
    """A QLinearAveragePool of random window, scales and zero points: its node, shapes, constants."""
    rank = int(rng.integers(1, 3))
    kernel = [int(rng.integers(1, 5)) for _ in range(rank)]
    pads = [int(rng.integers(0, k)) for k in kernel * 2] if rng.random() < 0.6 else [0] * 2 * rank
    attributes = {
        "kernel_shape": kernel,
        "strides": [int(rng.integers(1, 4)) for _ in kernel],
        "pads": pads,
        "count_include_pad": int(rng.integers(2)),
        "ceil_mode": int(rng.integers(2)),
    }
    shape = (int(rng.integers(1, 3)), int(rng.choice([1, 3, 17])), *(int(rng.integers(k, 4 * k + 20)) for k in kernel))
    scales = {"s": quantized.scales(rng) if rng.random() < 0.7 else F32(1), "z": dtype(quantized.zero_of(rng, dtype))}
    # scales of halves and quarters make ties
    out = {"ys": F32(scales["s"] * rng.choice([0.5, 1, 2])) if rng.random() < 0.5 else quantized.scales(rng)}
    constants = scales | out | {"yz": dtype(quantized.zero_of(rng, dtype))}
    return attributes, shape, constants


def model_of(attributes, shape, constants, dtype, *, grouped, opset=17):
    """A model of a product that changes nothing and the operator, or its QDQ group."""
    channels, rank = shape[1], len(shape) - 2
    eye = np.eye(channels, dtype=np.int8).reshape(channels, channels, *(1,) * rank)
    product = helper.make_node("QLinearConv", ["given", "s", "z", "w", "one", "none", "s", "z"], ["x"])
    constants = constants | {"w": eye, "one": F32(1), "none": np.int8(0)}
    if grouped:
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"]),
            helper.make_node("AveragePool", ["f"], ["p"], **attributes),
            helper.make_node("QuantizeLinear", ["p", "ys", "yz"], ["y"]),
        ]
    else:
        nodes = [helper.make_node("QLinearAveragePool", ["x", "s", "z", "ys", "yz"], ["y"], domain="com.microsoft", **attributes)]
    return quantized.model([product, *nodes], {"given": (dtype, shape)}, {"y": dtype}, constants, opset=opset)


@pytest.mark.parametrize("grouped", [False, True], ids=["QLinearAveragePool", "QDQ"])
@pytest.mark.parametrize("dtype", TYPES)
def test_equals_onnxruntime(dtype, grouped):
    """Ties, odd zero points, padding that counts or does not, sizes rounded up, whole images; every instruction set, several workers."""
    ran = 0
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        attributes, shape, constants = pool(rng, dtype)
        model = model_of(attributes, shape, constants, dtype, grouped=grouped)
        x = quantized.integers(rng, dtype, shape)
        isa = kernels.available_isas()[seed % len(kernels.available_isas())]
        session = make_session(model, {"threads": str(1 + seed % 3), "isa": isa})
        decisions = sparse.explain(session)
        if all(decision.taken for decision in decisions):
            ran += 1
            theirs = cpu_session(model).run(None, {"given": x})[0]
            np.testing.assert_array_equal(session.run(None, {"given": x})[0], theirs, err_msg=f"{seed}: {attributes} {shape} {constants}")
        else:
            assert "pads-cover-window" in {decision.code for decision in decisions}, [decision.reason for decision in decisions]
    assert ran > CASES * 0.8


DECLINED = {
    "size-unknown": {"shape": ("n", 3, "h", 9)},
    "unsupported-attribute": {"changed": {"auto_pad": "SAME_UPPER"}},
    "unsupported-spatial-rank": {"shape": (1, 3, 5, 5, 5), "changed": {"kernel_shape": [2, 2, 2], "strides": [1, 1, 1]}},
}


@pytest.mark.parametrize("code", DECLINED)
def test_declined(code):
    """Where results could not be ONNX Runtime's, with a reason."""
    how = DECLINED[code]
    attributes = {"kernel_shape": [2, 2], "strides": [1, 1], **how.get("changed", {})}
    constants = {"s": F32(0.5), "z": np.uint8(3), "ys": F32(0.25), "yz": np.uint8(7)}
    model = model_of(attributes, how.get("shape", (1, 3, 9, 9)), constants, np.uint8, grouped=False)
    assert code in {decision.code for decision in sparse.explain(make_session(model))}
