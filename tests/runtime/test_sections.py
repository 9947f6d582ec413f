"""Runs that are active at the same time share the threads; what they compute does not depend on it."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse import options, pipeline
from onnxruntime_ep_sparse.runtime import _sections
from support.making import model_of, noise, pruned
from support.programs import Conv
from support.promises import owned_session


def test_share():
    """All threads alone; together never more than there are, but at least the caller's, and none is left over that each could have."""
    for threads in range(1, 20):
        assert _sections.share_of(threads, 1) == threads
        for runs in range(1, 25):
            share = _sections.share_of(threads, runs)
            assert share >= 1
            assert share * runs <= max(threads, runs)
            assert (share + 1) * runs > threads


def test_every_run_ends():
    """Neither runs that fail nor others count as active afterwards."""
    conv = Conv(6, 8, (3, 3))
    program = pipeline.lower(conv.graph, options.parse({"threads": "2"}))
    assert _sections.active_runs() == 0
    program.run(np.zeros((1, 8, 5, 5), np.float32))
    with pytest.raises(RuntimeError, match="channels"):
        program.run(np.zeros((1, 7, 5, 5), np.float32))
    assert _sections.active_runs() == 0


@pytest.mark.parametrize("callers", [2, 3, 8])
def test_shared_threads_compute_the_same_bits(callers):
    """Sections cut for six threads, of products and of a recurrent node, run on six, three, two or one."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("LSTM", ["a", "p", "r"], ["b"], hidden_size=192, direction="bidirectional"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    weights = {"w": pruned(rng, (96, 160), 0.8), "p": pruned(rng, (2, 768, 160), 0.8), "r": pruned(rng, (2, 768, 192), 0.8)}
    model = model_of(nodes, {"x": ["t", "b", 96]}, ["y"], weights)
    session = owned_session(model, {"threads": "6"}, threads=3)
    inputs = [noise(rng, 12, batch, 96) for batch in (1, 3, 40)]
    alone = [session.run(None, {"x": x})[0].tobytes() for x in inputs]

    def work(caller):
        return all(session.run(None, {"x": inputs[i % 3]})[0].tobytes() == alone[i % 3] for i in range(caller, caller + 12))

    with ThreadPoolExecutor(callers) as pool:
        assert all(pool.map(work, range(callers)))
    assert _sections.active_runs() == 0


@pytest.mark.parametrize("small", [0, 3, 40])
def test_few_or_many_small_steps_between_large_ones(small):
    """Workers stay in their section over few steps that one of them does, and leave it for many; the bits are the same."""
    rng = np.random.default_rng(6)
    sizes = [512, 8, *[8] * small, 512, 8]
    weights = {f"w{i}": pruned(rng, pair, 0.5) for i, pair in enumerate(pairwise(sizes))}
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"]) for i in range(len(weights))]
    model = model_of(nodes, {"x": ["n", 512]}, [nodes[-1].output[0]], weights)
    x = noise(rng, 90, 512)
    outputs = [owned_session(model, {"threads": str(n)}, threads=n).run(None, {"x": x})[0].tobytes() for n in (1, 2, 3)]
    assert len(set(outputs)) == 1
