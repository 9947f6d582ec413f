"""Random products with one constant operand, for tests of the provider and of custom operators, and the promise for them."""

import numpy as np
from hypothesis import strategies as st
from onnx import helper

from support.making import PATTERNS, model_of, noise, pruned
from support.promises import assert_accurate, cpu_session, exact, magnitude, owned_session

ZEROS = st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.9, 0.97])


@st.composite
def convolutions(draw):
    """(model, inputs of two runs, K) of a Conv whose windows all fit."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    c, m = (draw(st.integers(1, n)) for n in ((24, 24) if groups == 1 else (4, 4)))
    kernel = draw(st.lists(st.integers(1, 5 if rank < 3 else 3), min_size=rank, max_size=rank))
    attributes = {"kernel_shape": kernel, "strides": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)), "group": groups}
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    dilations, pads = [1] * rank, [0] * 2 * rank
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
        if auto_pad != "VALID":
            attributes["strides"] = [min(s, k + 1) for s, k in zip(attributes["strides"], kernel, strict=True)]
    else:
        pads = attributes["pads"] = draw(st.lists(st.integers(0, 3), min_size=2 * rank, max_size=2 * rank))
    if not auto_pad.startswith("SAME"):
        dilations = attributes["dilations"] = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    least = [max(1, (k - 1) * d + 1 - a - b) for k, d, a, b in zip(kernel, dilations, pads[:rank], pads[rank:], strict=True)]
    weight = pruned(rng, (m * groups, c, *kernel), draw(ZEROS), draw(st.sampled_from(PATTERNS)))
    weights = {"w": weight, **({"b": noise(rng, m * groups)} if draw(st.booleans()) else {})}
    spans = st.tuples(*(st.integers(n, n + (40 if rank == 1 else 18 if rank == 2 else 6)) for n in least))
    shapes = [(draw(st.integers(1, 5)), c * groups, *draw(spans)) for _ in range(2)]
    if draw(st.booleans()):
        declared, shapes = list(shapes[0]), shapes[:1]
    else:
        declared = ["n", c * groups, *(f"s{i}" for i in range(rank))]
        # a width that is known chooses the form of the tiles
        if draw(st.booleans()):
            declared[-1] = shapes[0][-1]
            shapes[1] = (*shapes[1][:-1], declared[-1])
    model = model_of([helper.make_node("Conv", ["x", *weights], ["y"], **attributes)], {"x": declared}, ["y"], weights)
    return model, [{"x": noise(rng, *shape)} for shape in shapes], weight[0].size


@st.composite
def gemms(draw):
    """(model, inputs of two runs, K) of a Gemm with one constant operand."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, k = draw(st.integers(1, 70)), draw(st.integers(1, 150))
    right = draw(st.booleans())
    transposed = {"transA": draw(st.booleans()), "transB": draw(st.booleans())}
    weight__mk = pruned(rng, (m, k), draw(ZEROS), draw(st.sampled_from(PATTERNS)))
    weight = weight__mk if transposed["transB" if right else "transA"] == right else weight__mk.T
    scale = draw(st.sampled_from([1.0, 1.0, 0.5, -1.75, 0.0]))
    attributes = {**transposed, "alpha": draw(st.sampled_from([1.0, 1.0, 0.5, -2.5])), "beta": scale}
    counts = [draw(st.integers(1, 40)), draw(st.sampled_from([1, 2, 7, 8, 9, 64]))]
    kind = draw(st.sampled_from(["none", "constant", "constant", "input"]))
    if draw(st.booleans()) or (kind == "constant" and not draw(st.booleans())):
        counts = counts[:1]
    size = counts[0] if len(counts) == 1 else "n"
    axes = (size, m) if right else (m, size)
    inputs, weights, names = {}, {"w": np.ascontiguousarray(weight)}, ["x", "w"] if right else ["w", "x"]
    inputs["x"] = [size, k] if transposed["transA" if right else "transB"] != right else [k, size]
    if kind == "constant":
        shapes = [(), (1,), (1, 1), (m,) if right else (m, 1), (1, m) if right else (m, 1)]
        if size != "n":
            shapes += [axes, (size, 1) if right else (size,)]
        weights["c"] = noise(rng, *draw(st.sampled_from(shapes)))
    elif kind == "input":
        attributes["beta"] = 1.0
        inputs["c"] = list(draw(st.sampled_from([axes, (1, 1), (1,), (1, axes[1]), (axes[0], 1)])))
    names += [] if kind == "none" else ["c"]
    node = helper.make_node("Gemm", names, ["y"], **{name: int(v) if isinstance(v, bool) else v for name, v in attributes.items()})
    runs = [{name: noise(rng, *(count if d == "n" else d for d in shape)) for name, shape in inputs.items()} for count in counts]
    return model_of([node], inputs, ["y"], weights), runs, k + 1


@st.composite
def matmuls(draw):
    """(model, inputs of one run, K) of a MatMul with one constant operand."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, k, n = draw(st.integers(1, 60)), draw(st.integers(1, 130)), draw(st.integers(1, 40))
    right = draw(st.booleans())
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    batches = []
    for _ in range(2):
        own = [d if draw(st.booleans()) else 1 for d in batch]
        batches.append(own[draw(st.integers(0, len(own))) :])
    stack = int(np.prod(batches[0], dtype=int))
    weight = pruned(rng, (stack * m, k), draw(ZEROS), draw(st.sampled_from(PATTERNS))).reshape(*batches[0], m, k)
    if draw(st.integers(0, 5)) == 0:
        weight = weight[(0,) * len(batches[0])][0]
    elif right:
        weight = np.ascontiguousarray(np.swapaxes(weight, -1, -2))
    shape = [k] if draw(st.integers(0, 5)) == 0 else [*batches[1], *((n, k) if right else (k, n))]
    dynamic = draw(st.booleans())
    declared = [f"d{i}" if dynamic and d != k else d for i, d in enumerate(shape)]
    node = helper.make_node("MatMul", ["x", "w"] if right else ["w", "x"], ["y"])
    return model_of([node], {"x": declared}, ["y"], {"w": weight}), [{"x": noise(rng, *shape)}], k


@st.composite
def large(draw):
    """Products deep and wide enough for several blocks, tiles, items and row chunks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    zeros, pattern = draw(ZEROS), draw(st.sampled_from(PATTERNS))
    if draw(st.booleans()):
        m, c, size, kernel = draw(st.sampled_from([(64, 96, 31, 3), (200, 130, 14, 1), (96, 192, 7, 3), (40, 16, 60, 5), (257, 520, 7, 1)]))
        weight = pruned(rng, (m, c, kernel, kernel), zeros, pattern)
        node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[kernel // 2] * 4, strides=[draw(st.integers(1, 2))] * 2)
        shape = (draw(st.integers(1, 3)), c, size, size)
    else:
        m, c, n = draw(st.sampled_from([(512, 1024, 1), (300, 2000, 5), (768, 768, 33), (1000, 512, 1), (33, 3000, 130)]))
        weight = pruned(rng, (m, c), zeros, pattern)
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        shape = (n, c)
    model = model_of([node], {"x": shape}, ["y"], {"w": weight, "b": noise(rng, m)})
    return model, [{"x": noise(rng, *shape)}], weight[0].size


def assert_promise(model, feeds_of_runs, depth, options):
    """One session of ours keeps the promise for all these inputs, one run after the other."""
    ours = owned_session(model, options, threads=int(options["threads"]), regions=1)
    theirs = cpu_session(model, threads=1)
    for feeds in feeds_of_runs:
        (y,), (y_ort,) = ours.run(None, feeds), theirs.run(None, feeds)
        assert_accurate(y, y_ort, exact(model, feeds)[0], magnitude(model, feeds)[0], depth)
