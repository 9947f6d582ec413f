"""Normalization: why a node cannot run, and the results of those of rows and of groups of channels, against float64."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.row import MICROSOFT
from support.making import carried, dynamic, model_of, noise, pruned
from support.nodes import C, one_node
from support.promises import assert_close, cpu_session, owned_session

STATISTICS = [(C, 4)] * 4


@pytest.mark.parametrize(
    ("inputs", "attributes", "code"),
    [
        ([(1, 4, 8), *STATISTICS], {}, None),
        ([(1, 4), *STATISTICS], {"epsilon": 1e-3}, None),
        ([(4,), *STATISTICS], {}, "unsupported-rank"),
        ([(1, 4, 8), *STATISTICS], {"training_mode": 1}, "unsupported-attribute"),
        ([(1, 4, 8), *STATISTICS], {"spatial": 0}, "unsupported-attribute"),
        ([(1, 4, 8), *STATISTICS[:2], (4,), (C, 4)], {}, "parameter-not-constant"),
        ([(1, "c", 8), *STATISTICS], {}, "mismatched"),
        ([(1, "c", 8), *[(C, 1)] * 4], {}, "mismatched"),
        ([(1, 1, 8), *STATISTICS], {}, "mismatched"),
    ],
)
def test_batch_normalizations_that_cannot_run(inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node("BatchNormalization", inputs, inputs[0], attributes))
    assert (finding and finding.code) == code


def test_batch_normalization_before_opset_7_trains():
    """Version 6 means something else."""
    assert ops.can_run(*one_node("BatchNormalization", [(1, 4, 8), *STATISTICS], (1, 4, 8), version=6)).code == "opset-too-old"


@pytest.mark.parametrize(
    ("inputs", "attributes", "code"),
    [
        ([(2, 3, 8), (C, 8), (C, 8)], {}, None),
        ([(2, 3, 8), (C, 8)], {"axis": 2}, None),
        ([(2, 3, 8), (C, 8), None], {"axis": -1}, None),
        ([(2, 3, 8), (C, 3, 8)], {"axis": 1}, "unsupported-axes"),
        ([(2, 3, 8), (C, 8)], {"stash_type": 11}, "unsupported-attribute"),
        ([(2, 3, 8), (8,)], {}, "parameter-not-constant"),
        ([(2, 3, 8), (C, 1)], {}, "mismatched"),
        ([(2, 3, 8), (C, 8), (C, 3, 8)], {}, "mismatched"),
        ([(2, 3, 0), (C, 0)], {}, "mismatched"),
        ([(2, 3, "c"), (C, 8)], {}, None),
        ([(2, 3, "c"), (C, 1)], {}, "mismatched"),
        ([(2, 3, "c"), (C, 8), (C, 7)], {}, "mismatched"),
    ],
)
def test_layer_normalizations_that_cannot_run(inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node("LayerNormalization", inputs, inputs[0], attributes))
    assert (finding and finding.code) == code


def normalized(x, axes, epsilon, centred=True):
    """x by its mean and deviation along some axes, in float64."""
    x = x.astype(np.float64)
    x = x - x.mean(axis=axes, keepdims=True) if centred else x
    return x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + epsilon)


def assert_normalized(model, feeds, expected):
    """Every output as float64 has it, up to some roundings of numbers near 1."""
    for y, y64 in zip(owned_session(model, regions=1).run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(y, y64, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (1, 6, 1), (3, 6, 70, 60), (2, 6, 2, 3, 4)])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_groups_of_channels(shape, groups):
    """A scale and a bias a channel. Before opset 21, where there was one a group, ONNX Runtime writes the operator out."""
    rng = np.random.default_rng(0)
    weights = {"scale": noise(rng, 6), "bias": noise(rng, 6)}
    node = helper.make_node("GroupNormalization", ["p", "scale", "bias"], ["y"], num_groups=groups, epsilon=1e-3)
    declared = [*dynamic(shape)[:1], 6, *dynamic(shape)[2:]] if len(shape) > 3 else shape
    x = 3 + noise(rng, *shape)
    scale, bias = (w.reshape(6, *(1,) * (len(shape) - 2)) for w in weights.values())
    y64 = normalized(x.reshape(shape[0], groups, -1), 2, 1e-3).reshape(shape) * scale + bias
    model = carried([node], shape, weights, declared, opset=21)
    model.ir_version = 10
    assert_normalized(model, {"x": x}, [y64])


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 5, 30, 40), (3, 5, 1, 1)])
def test_each_channel(shape):
    """InstanceNormalization of images of any size."""
    rng = np.random.default_rng(0)
    weights = {"scale": noise(rng, 5), "bias": noise(rng, 5)}
    node = helper.make_node("InstanceNormalization", ["p", "scale", "bias"], ["y"])
    x = noise(rng, *shape) - 2
    scale, bias = (w.reshape(5, *(1,) * (len(shape) - 2)) for w in weights.values())
    y64 = normalized(x, tuple(range(2, len(shape))), 1e-5) * scale + bias
    assert_normalized(carried([node], shape, weights, [*dynamic(shape)[:1], 5, *dynamic(shape)[2:]]), {"x": x}, [y64])


def test_rows_of_unknown_length():
    """The weights say how long rows are; those of another length fail as with the CPU provider."""
    rng = np.random.default_rng(0)
    weights = {"scale": noise(rng, 6), "bias": noise(rng, 6), "identity": np.eye(4, dtype=np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "identity"], ["p"]),
        helper.make_node("Transpose", ["p"], ["q"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["q", "scale", "bias"], ["y"], axis=-1),
    ]
    model = model_of(nodes, {"x": ["a", "b", 4]}, ["y"], weights)
    session, theirs = owned_session(model), cpu_session(model)
    fed = {"x": noise(rng, 2, 6, 4)}
    assert_close(session.run(None, fed)[0], theirs.run(None, fed)[0])
    for each in (session, theirs):
        with pytest.raises(Exception, match="Non-zero status code"):
            each.run(None, {"x": noise(rng, 2, 5, 4)})


@pytest.mark.parametrize(("name", "opset"), [("RMSNormalization", 23), ("SimplifiedLayerNormalization", 20)])
def test_root_mean_square(name, opset):
    """Rows that are not centred."""
    rng = np.random.default_rng(0)
    x, scale = 2 + noise(rng, 3, 4, 37), noise(rng, 37)
    model = carried(
        [helper.make_node(name, ["p", "scale"], ["y"], axis=-1, epsilon=1e-4)], x.shape, {"scale": scale}, ["a", "b", 37], opset
    )
    model.ir_version = 10
    assert_normalized(model, {"x": x}, [normalized(x, -1, 1e-4, centred=False) * scale])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("reads_sum", [False, True])
@pytest.mark.parametrize("behind_product", [False, True])
def test_skip(name, bias, reads_sum, behind_product):
    """x + skip, normalized; the sum may be a result too. A product in front takes the addition."""
    rng = np.random.default_rng(0)
    x, skip, rows = noise(rng, 3, 4, 24), noise(rng, 3, 4, 24), ["gamma", "beta"] if name == "SkipLayerNormalization" else ["gamma"]
    weights = {"w": pruned(rng, (24, 24), 0.5), **{row: noise(rng, 24) for row in (*rows, "b")}}
    operands = ["p", "s"] if behind_product else ["s", "s2"]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        *([] if behind_product else [helper.make_node("Neg", ["p"], ["s2"])]),
    ]
    inputs, outputs = [*operands, *rows, *(["b"] if bias else [])], ["y", "", "", *(["t"] if reads_sum else [])]
    nodes.append(helper.make_node(name, inputs, outputs, domain=MICROSOFT[0], epsilon=1e-4))
    shapes = {"x": ["a", "b", 24], "s": ["a", "b", 24]}
    model = model_of(nodes, shapes, ["y", "t"] if reads_sum else ["y"], weights, domains=MICROSOFT)
    session, theirs = owned_session(model, regions=1), cpu_session(model)
    for ours, wanted in zip(session.run(None, {"x": x, "s": skip}), theirs.run(None, {"x": x, "s": skip}), strict=True):
        assert_close(ours, wanted)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "code"),
    [
        ("GroupNormalization", [(1, 6, 8), (C, 6), (C, 6)], {"num_groups": 3}, None),
        ("GroupNormalization", [(1, 6, 8), (C, 6), (C, 6)], {"num_groups": 4}, "mismatched"),
        ("GroupNormalization", [(1, "c", 8), (C, 6), (C, 6)], {"num_groups": 3}, "mismatched"),
        ("GroupNormalization", [(1, 6), (C, 6), (C, 6)], {"num_groups": 3}, "unsupported-rank"),
        ("GroupNormalization", [(1, 6, 8), (6,), (C, 6)], {"num_groups": 3}, "parameter-not-constant"),
        ("GroupNormalization", [(1, 6, 8), (C, 6), (C, 6)], {"num_groups": 3, "stash_type": 10}, "unsupported-attribute"),
        ("InstanceNormalization", [(1, 6, 8), (C, 3), (C, 6)], {}, "mismatched"),
        ("RMSNormalization", [(1, 6, 8), (C, 6, 8)], {"axis": 1}, "unsupported-axes"),
        *(
            (name, [shape, shape, (C, 8)], {}, None if len(shape) in (2, 3) else "unsupported-rank")
            for name in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
            for shape in ((8,), (6, 8), (1, 6, 8), (1, 1, 6, 8))
        ),
    ],
)
def test_others_that_cannot_run(op_type, inputs, attributes, code):
    """Each has its reason."""
    domain = MICROSOFT[0] if op_type.startswith("Skip") else ""
    finding = ops.can_run(*one_node(op_type, inputs, inputs[0], attributes, domain=domain))
    assert (finding and finding.code) == code
