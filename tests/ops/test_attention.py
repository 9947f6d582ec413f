"""com.microsoft.Attention: the products of Q, K and V by one pruned weight, and the core."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from support.making import model_of, noise, pruned
from support.promises import assert_close, cpu_session, make_session, owned_session

DEPTH, HEADS, HIDDEN = 40, 4, 48
NAMES = ("x", "w", "b", "mask", "past", "added")


def model(*names, v_hidden=HIDDEN, mask=(None, None), present=False, **attributes):
    """A node with these inputs besides x and w; sizes of batch and sequence are open."""
    rng = np.random.default_rng(0)
    outputs = 2 * HIDDEN + v_hidden
    weights = {"w": (pruned(rng, (DEPTH, outputs), 0.8) * (0.2 * DEPTH) ** -0.5).astype(np.float32)}
    weights |= {"b": noise(rng, outputs)} if "b" in names else {}
    inputs = [name if name in ("x", "w", *names) else "" for name in NAMES]
    while not inputs[-1]:
        del inputs[-1]
    if v_hidden != HIDDEN:
        attributes["qkv_hidden_sizes"] = [HIDDEN, HIDDEN, v_hidden]
    results = ["y", "present"] if present else ["y"]
    node = helper.make_node("Attention", inputs, results, "attention", domain="com.microsoft", num_heads=HEADS, **attributes)
    made = model_of([node], {"x": (None, None, DEPTH)}, results, weights, domains=["com.microsoft"])
    if "mask" in names:
        made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT32, mask))
    if "past" in names:
        made.graph.input.append(helper.make_tensor_value_info("past", TensorProto.FLOAT, [2, None, HEADS, None, HIDDEN // HEADS]))
    if "added" in names:
        made.graph.input.append(helper.make_tensor_value_info("added", TensorProto.FLOAT, [None] * 4))
    return made


def feeds(session, batch, positions):
    """Random inputs; masks are integers from -1 to 2, of which those above 0 count."""
    rng = np.random.default_rng(batch + positions)
    found = {"x": noise(rng, batch, positions, DEPTH)}
    names = [value.name for value in session.get_inputs()]
    if "mask" in names:
        found["mask"] = rng.integers(-1, 3, (batch, positions)).astype(np.int32)
    if "added" in names:
        found["added"] = noise(rng, batch, HEADS, positions, positions)
    return found


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        ((), {}),
        (("b",), {"v_hidden": 96}),
        (("b", "mask"), {"scale": 0.3}),
        (("mask",), {"mask_filter_value": -3.0}),
        (("b", "added"), {}),
        (("b", "mask", "added"), {"v_hidden": 24}),
    ],
)
def test_results(names, arguments):
    """One region for any sizes at run time, with the CPU provider's results."""
    made = model(*names, **arguments)
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for batch, positions in ((2, 17), (1, 1), (3, 64), (1, 130)):
        given = feeds(theirs, batch, positions)
        assert_close(ours.run(None, given)[0], theirs.run(None, given)[0])


@pytest.mark.parametrize(
    ("names", "arguments"),
    [(("b",), {}), (("added",), {"scale": 0.3}), (("b", "mask"), {}), (("b", "past"), {}), (("past",), {"unidirectional": 0}), ((), {})],
)
@pytest.mark.parametrize("present", [False, True])
def test_of_decoders(names, arguments, present):
    """A query reads no later key; keys and values of earlier positions come in, and all of them leave."""
    if "past" in names and not present:
        return  # the CPU provider asks for both
    made = model(*names, present=present, **{"unidirectional": 1, **arguments})
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for batch, positions in ((2, 17), (1, 1), (3, 5)):
        given, rng = feeds(theirs, batch, positions), np.random.default_rng(positions)
        if "mask" in names:
            given["mask"] = (np.arange(positions) < positions - rng.integers(0, positions, (batch, 1))).astype(np.int32)
        if "past" in names:
            given["past"] = noise(rng, 2, batch, HEADS, 9 * positions, HIDDEN // HEADS)
        for y, y_ort in zip(ours.run(None, given), theirs.run(None, given), strict=True):
            assert_close(y, y_ort)


def test_a_sequence_that_is_masked_whole():
    """Every position counts as much as without a mask."""
    made = model("b", "mask")
    given = {"x": noise(np.random.default_rng(0), 2, 9, DEPTH), "mask": np.zeros((2, 9), np.int32)}
    assert_close(owned_session(made).run(None, given)[0], cpu_session(made).run(None, given)[0])


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: model("b", do_rotary=1), "unsupported-attribute"),
        (lambda: model("b", "mask", "past"), "unsupported-mask"),
        (lambda: model("past", v_hidden=24), "mismatched"),
        (lambda: model("b", "mask", mask=(None,)), "unsupported-mask"),
        (lambda: model("b", "mask", mask=(None, None, None)), "unsupported-mask"),
    ],
)
def test_what_is_left(made, code):
    """The reason is told, and the zeros of the weight are counted."""
    session = make_session(made())
    (decision,) = sparse.explain(session)
    assert (decision.taken, decision.code) == (False, code)
    assert decision.sparsity == pytest.approx(0.8, abs=0.02)


# ONNX's


def onnx_model(dims, mask=None, *, v_channels=12, **attributes):
    """Attention of version 23 between pruned products; `dims` of Q, K and V."""
    rng, channels = np.random.default_rng(0), HIDDEN // HEADS
    sizes = {"q": HIDDEN, "k": HIDDEN, "v": HEADS * v_channels}
    weights = {f"w{n}": (pruned(rng, (DEPTH, size), 0.8) * (0.2 * DEPTH) ** -0.5).astype(np.float32) for n, size in sizes.items()}
    nodes = [helper.make_node("MatMul", ["x" if n == "q" else "keys", f"w{n}"], [n if dims == 3 else f"{n}_flat"]) for n in sizes]
    if dims == 4:
        for n, each in (("q", channels), ("k", channels), ("v", v_channels)):
            weights[f"{n}_shape"] = np.array([0, 0, HEADS, each], np.int64)
            nodes.append(helper.make_node("Reshape", [f"{n}_flat", f"{n}_shape"], [f"{n}_heads"]))
            nodes.append(helper.make_node("Transpose", [f"{n}_heads"], [n], perm=[0, 2, 1, 3]))
    else:
        attributes |= {"q_num_heads": HEADS, "kv_num_heads": attributes.pop("kv_num_heads", HEADS)}
    nodes.append(helper.make_node("Attention", ["q", "k", "v", *(["mask"] if mask else [])], ["y"], "attention", **attributes))
    made = model_of(nodes, {"x": (None, None, DEPTH), "keys": (None, None, DEPTH)}, ["y"], weights, opset=23)
    if mask:
        made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [None] * mask))
    return made


@pytest.mark.parametrize("dims", [3, 4])
@pytest.mark.parametrize(("mask", "arguments"), [(None, {}), (2, {"v_channels": 24}), (4, {"scale": 0.4}), (None, {"softcap": 0.8})])
def test_attention_of_onnx(dims, mask, arguments):
    """One region with the products around it, for any sizes at run time; masks hold -Inf too, for all keys of some positions."""
    made = onnx_model(dims, mask, **arguments)
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for batch, positions, keys in ((2, 17, 9), (1, 1, 40), (3, 64, 64)):
        rng = np.random.default_rng(positions)
        given = {"x": noise(rng, batch, positions, DEPTH), "keys": noise(rng, batch, keys, DEPTH)}
        if mask:
            scores = noise(rng, *((positions, keys) if mask == 2 else (batch, 1, positions, keys)))
            scores[..., 1:][rng.random(scores[..., 1:].shape) < 0.3] = -np.inf
            scores[..., : positions // 3, :] = -np.inf
            given["mask"] = scores
        assert_close(ours.run(None, given)[0], theirs.run(None, given)[0])


@pytest.mark.parametrize("dims", [3, 4])
def test_masks_after_caps(dims):
    """Scores are capped before a mask is added, as ONNX defines it; ONNX Runtime 1.25 caps their sum."""
    made, rng = onnx_model(dims, 2, softcap=0.8), np.random.default_rng(0)
    given = {"x": noise(rng, 2, 7, DEPTH), "keys": noise(rng, 2, 9, DEPTH), "mask": noise(rng, 7, 9)}
    given["mask"][:, 1:][rng.random((7, 8)) < 0.3] = -np.inf
    weights = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in made.graph.initializer}
    q, k, v = (
        (given[x].astype(np.float64) @ weights[w]).reshape(2, -1, HEADS, HIDDEN // HEADS)
        for x, w in (("x", "wq"), ("keys", "wk"), ("keys", "wv"))
    )
    scores = 0.8 * np.tanh(np.einsum("bthc,bkhc->bhtk", q, k) / np.sqrt(HIDDEN // HEADS) / 0.8) + given["mask"]
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    y64 = np.einsum("bhtk,bkhc->bhtc" if dims == 4 else "bhtk,bkhc->bthc", powers / powers.sum(-1, keepdims=True), v)
    y = owned_session(made).run(None, given)[0]
    np.testing.assert_allclose(y, y64.reshape(y.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [3, 4])
@pytest.mark.parametrize(("kv_heads", "causal", "mask"), [(4, 1, None), (2, 0, None), (2, 1, TensorProto.BOOL), (1, 0, TensorProto.FLOAT)])
@pytest.mark.parametrize("past", [False, True])
def test_decoders_of_onnx(dims, kv_heads, causal, mask, past):
    """Heads that share keys, causal scores, masks of truths, and keys and values of earlier positions that come in and leave."""
    channels, v_channels, heads = 8, 12, 4
    inputs = ["q", "k", "v", "mask" if mask else "", *(["pk", "pv"] if past else [])]
    given = {"q_num_heads": heads, "kv_num_heads": kv_heads} if dims == 3 else {}
    node = helper.make_node("Attention", inputs[: 4 if mask and not past else None], ["y", "nk", "nv"], is_causal=causal, **given)
    wide, rng = heads * channels if dims == 3 else channels, np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"]), node]
    made = model_of(nodes, {}, ["y", "nk", "nv"], {"w": pruned(rng, (wide, wide), 0.5)}, opset=23)
    sizes = {"x": (heads, channels), "k": (kv_heads, channels), "v": (kv_heads, v_channels)}
    for name, (n, each) in sizes.items():
        shape = [None, None, n * each] if dims == 3 else [None, n, None, each]
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for name, each in (("pk", channels), ("pv", v_channels)) if past else ():
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, kv_heads, None, each]))
    if mask:
        made.graph.input.append(helper.make_tensor_value_info("mask", mask, [None] * 4))
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for batch, positions, keys, before in ((2, 7, 7, 5), (1, 1, 1, 30), (3, 4, 9, 1)):
        fed = {
            name: noise(rng, *((batch, t, n * each) if dims == 3 else (batch, n, t, each)))
            for (name, (n, each)), t in zip(sizes.items(), (positions, keys, keys), strict=True)
        }
        if past:
            fed |= {name: noise(rng, batch, kv_heads, before, each) for name, each in (("pk", channels), ("pv", v_channels))}
        if mask:
            scores = noise(rng, batch, 1, positions, keys + before * past)
            fed["mask"] = scores > -0.5 if mask == TensorProto.BOOL else scores
        for y, y_ort in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
            assert_close(y, y_ort)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: onnx_model(4, qk_matmul_output_mode=1), "unsupported-attribute"),
        (lambda: onnx_model(3, kv_num_heads=3), "mismatched"),
    ],
)
def test_what_is_left_of_onnx(made, code):
    """The reason is told."""
    found = [decision for decision in sparse.explain(make_session(made())) if decision.op_type == "Attention"]
    assert [(decision.taken, decision.code) for decision in found] == [(False, code)]
