"""RotaryEmbedding of ONNX and com.microsoft, and GroupQueryAttention, which turns its heads so: the CPU provider's results."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

import onnxruntime_ep_sparse as sparse
from support.making import model_of, noise, pruned
from support.promises import assert_close, cpu_session, make_session, owned_session

HEADS, CHANNELS, TABLE = 4, 16, 50
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def with_inputs(made, more):
    """The model with more inputs: names to (type, shape)."""
    for name, (dtype, shape) in more.items():
        made.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
    return made


def rotary(domain, dims, ids, width=CHANNELS, **attributes):
    """x -> MatMul -> RotaryEmbedding; `ids` are the dimensions of the positions, 0 for cosines of each position."""
    rng = np.random.default_rng(0)
    wide = HEADS * CHANNELS if dims == 3 else CHANNELS
    weights, more = {"w": pruned(rng, (wide, wide), 0.5)}, {"ids": (INT64, [None] * ids if ids == 2 else [1])} if ids else {}
    if ids:
        weights |= {name: noise(rng, TABLE, width // 2) for name in ("cos", "sin")}
    else:
        more |= {name: (FLOAT, [None, None, width // 2]) for name in ("cos", "sin")}
    inputs = ["q", "ids", "cos", "sin"] if domain else ["q", "cos", "sin", *(["ids"] if ids else [])]
    if width != CHANNELS:
        attributes |= {"rotary_embedding_dim": width, "num_heads": HEADS}
    elif dims == 3:
        attributes["num_heads"] = HEADS
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"]), helper.make_node("RotaryEmbedding", inputs, ["y"], domain=domain, **attributes)]
    shape = [None, None, wide] if dims == 3 else [None, HEADS, None, CHANNELS]
    return with_inputs(model_of(nodes, {"x": shape}, ["y"], weights, opset=23, domains=["com.microsoft"]), more)


@pytest.mark.parametrize("dims", [3, 4])
@pytest.mark.parametrize(("domain", "ids"), [("", 0), ("", 2), ("com.microsoft", 1), ("com.microsoft", 2)])
@pytest.mark.parametrize(("interleaved", "width"), [(0, CHANNELS), (1, CHANNELS), (0, 8), (1, 8)])
def test_rotations(domain, dims, ids, interleaved, width):
    """Of all channels or some, by positions of each or of the first, or by cosines of each."""
    made = rotary(domain, dims, ids, width, interleaved=interleaved)
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for batch, positions in ((2, 7), (1, 1), (3, 20)):
        rng = np.random.default_rng(positions)
        fed = {"x": noise(rng, *((batch, positions, HEADS * CHANNELS) if dims == 3 else (batch, HEADS, positions, CHANNELS)))}
        if ids:
            fed["ids"] = rng.integers(0, TABLE, (batch, positions)) if ids == 2 else np.array([5])
        else:
            fed |= {name: noise(rng, batch, positions, width // 2) for name in ("cos", "sin")}
        assert_close(ours.run(None, fed)[0], theirs.run(None, fed)[0])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"scale": 2.0}, "unsupported-attribute"),
        ({"is_packed_batching": 1}, "unsupported-attribute"),
        ({"num_heads": 3}, "mismatched"),
    ],
)
def test_rotations_that_are_left(arguments, code):
    """The reason is told."""
    made = rotary("com.microsoft", 3, 2)
    for attribute in helper.make_node("", [], [], **arguments).attribute:
        made.graph.node[1].attribute.append(attribute)
        del made.graph.node[1].attribute[: attribute.name == "num_heads"]
    found = [d for d in sparse.explain(make_session(made)) if d.op_type == "RotaryEmbedding"]
    assert [(d.taken, d.code) for d in found] == [(False, code)]


# GroupQueryAttention


def grouped(*names, kv_heads=2, **attributes):
    """x -> MatMul -> a node; `names` are among "packed" and "past"."""
    rng, packed = np.random.default_rng(0), "packed" in names
    wide, narrow = (HEADS + 2 * kv_heads * packed) * CHANNELS, kv_heads * CHANNELS
    weights = {"w": pruned(rng, (wide, wide), 0.5), "cos": noise(rng, TABLE, CHANNELS // 2), "sin": noise(rng, TABLE, CHANNELS // 2)}
    more = {"lengths": (INT32, [None]), "total": (INT32, [])}
    more |= {} if packed else {name: (FLOAT, [None, None, narrow]) for name in ("k", "v")}
    more |= {name: (FLOAT, [None, kv_heads, None, CHANNELS]) for name in ("pk", "pv") if "past" in names}
    inputs = ["q", *(["", ""] if packed else ["k", "v"]), *(["pk", "pv"] if "past" in names else ["", ""]), "lengths", "total"]
    if attributes.get("do_rotary"):
        inputs += ["cos", "sin"]
    attributes |= {"num_heads": HEADS, "kv_num_heads": kv_heads}
    node = helper.make_node("GroupQueryAttention", inputs, ["y", "nk", "nv"], domain="com.microsoft", **attributes)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"]), node]
    made = model_of(nodes, {"x": [None, None, wide]}, ["y", "nk", "nv"], weights, domains=["com.microsoft"])
    return with_inputs(made, more)


def fed_to(session, batch, new, room, lengths, kv_heads=2):
    """Random inputs: `new` positions, a cache of `room`, and how many positions each sequence has then."""
    rng = np.random.default_rng(new + room)
    found = {"lengths": np.array(lengths, np.int32) - 1, "total": np.array(max(lengths), np.int32)}
    for value in session.get_inputs():
        if value.name in ("x", "k", "v"):
            found[value.name] = noise(rng, batch, new, value.shape[2])
        elif value.name in ("pk", "pv"):
            found[value.name] = noise(rng, batch, kv_heads, room, CHANNELS)
    return found


PROMPTS = [(2, 5, 0, [5, 5]), (1, 1, 0, [1])]
RUNS = [(2, 1, 6, [7, 7]), (1, 3, 4, [7]), (1, 1, 9, [5]), (2, 1, 9, [5, 8]), (2, 4, 9, [4, 4]), (1, 1, 9, [9])]
"""(batch, new positions, positions of the cache, positions of each sequence): some longer, some shorter than others and than the cache."""


@pytest.mark.parametrize(
    ("names", "kv_heads", "attributes"),
    [
        ((), 2, {}),
        (("past",), 4, {"scale": 0.3}),
        (("past",), 1, {"do_rotary": 1}),
        (("past", "packed"), 2, {"do_rotary": 1, "rotary_interleaved": 1}),
        (("packed",), 2, {"do_rotary": 1}),
        (("past",), 2, {"softcap": 0.7}),
        ((), 2, {"local_window_size": 2}),
        (("past",), 2, {"local_window_size": 1}),
        (("past", "packed"), 4, {"local_window_size": 3, "softcap": 2.0, "do_rotary": 1}),
        (("past",), 1, {"local_window_size": 100}),
    ],
)
def test_grouped_queries(names, kv_heads, attributes):
    """Prompts and later runs, of sequences with as many positions or not, with a cache that has room or none."""
    made = grouped(*names, kv_heads=kv_heads, **attributes)
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for case in RUNS if "past" in names else PROMPTS:
        fed = fed_to(theirs, *case, kv_heads=kv_heads)
        for y, y_ort in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
            assert_close(y, y_ort)


def test_lengths_that_do_not_fit():
    """The run fails, and the session still works."""
    made = grouped("past")
    ours, theirs = owned_session(made), cpu_session(made)
    fed = fed_to(theirs, 1, 1, 6, [7])
    with pytest.raises(state.Fail, match="sequence 0 has 39 past positions, at most 6 are expected"):
        ours.run(None, {**fed, "lengths": np.array([39], np.int32)})
    assert_close(ours.run(None, fed)[0], theirs.run(None, fed)[0])


@pytest.mark.parametrize("window", [-1, 1, 3])
@pytest.mark.parametrize("softcap", [0.0, 0.9])
def test_windows_and_caps_in_float64(window, softcap):
    """Scores s become softcap * tanh(s / softcap); a query reads the last `window` positions up to its own."""
    made = grouped("past", local_window_size=window, softcap=softcap)
    session = owned_session(made)
    (batch, new, room, lengths), kv_heads = (2, 3, 9, [8, 8]), 2
    fed = fed_to(session, batch, new, room, lengths)
    weight = numpy_helper.to_array(made.graph.initializer[0]).astype(np.float64)
    q = (fed["x"].astype(np.float64) @ weight).reshape(batch, new, kv_heads, HEADS // kv_heads, CHANNELS)
    k, v = (
        np.concatenate([fed[past][:, :, : lengths[0] - new], fed[x].reshape(batch, new, kv_heads, CHANNELS).swapaxes(1, 2)], 2)
        for past, x in (("pk", "k"), ("pv", "v"))
    )
    scores = np.einsum("bthgc,bhkc->bhgtk", q, k.astype(np.float64)) / np.sqrt(CHANNELS)
    scores = softcap * np.tanh(scores / softcap) if softcap else scores
    before = np.arange(lengths[0] - new, lengths[0])[:, None] - np.arange(lengths[0])
    scores[..., (before < 0) | ((before >= window) & (window > 0))] = -np.inf
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    y64 = np.einsum("bhgtk,bhkc->bthgc", powers / powers.sum(-1, keepdims=True), v.astype(np.float64)).reshape(batch, new, -1)
    np.testing.assert_allclose(session.run(None, fed)[0], y64, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"softcap": -2.0}, {"local_window_size": 0}, {"smooth_softmax": 1}])
def test_grouped_queries_that_are_left(arguments):
    """The reason is told."""
    found = [d for d in sparse.explain(make_session(grouped("past", **arguments))) if d.op_type == "GroupQueryAttention"]
    assert [(d.taken, d.code) for d in found] == [(False, "unsupported-attribute")]
