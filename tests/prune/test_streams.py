"""A model that runs piece by piece gives what it gives as a whole, wherever its values are kept meanwhile."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from onnxruntime_ep_sparse.prune.batches import Batches
from onnxruntime_ep_sparse.prune.source import Changes, Source
from onnxruntime_ep_sparse.prune.store import Arrays, Store
from onnxruntime_ep_sparse.prune.streams import Stream
from onnxruntime_ep_sparse.prune.workers import Workers
from support.making import model_of, noise


def batches_of(feeds):
    batches = Batches(feeds[0], Store(10**6))
    for feed in feeds:
        batches.append(feed)
    return batches


def residual_net(rng):
    """Values that live long, and one that nobody reads."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Neg", ["a"], ["unused"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["d"]),
        helper.make_node("Greater", ["d", "zero"], ["positive"]),
        helper.make_node("MatMul", ["d", "w"], ["e"]),
        helper.make_node("Where", ["positive", "e", "a"], ["y"]),
    ]
    return model_of(nodes, {"x": ["n", 9]}, ["y", "b"], {"w": noise(rng, 9, 9), "zero": np.float32([0])})


@pytest.mark.parametrize("limit", [0, 1000, 10**9])
@pytest.mark.parametrize("stops", [[8], [1, 3, 6, 8], list(range(9))])
def test_pieces(limit, stops):
    """In memory, in a file, or some in each."""
    rng = np.random.default_rng(0)
    model = residual_net(rng)
    batches = [{"x": noise(rng, rows, 9)} for rows in (3, 1, 8)]
    store = Store(limit)
    with Workers(2) as workers:
        stream = Stream(Changes(Source(model)), batches_of(batches), (), workers, store)
        for stop in stops:
            stream.advance(stop)
            assert "unused" not in stream.live
        assert set(stream.live) == {"y", "b"}
        session = onnxruntime.InferenceSession(model.SerializeToString())
        for number, batch in enumerate(batches):
            y, b = session.run(None, batch)
            np.testing.assert_allclose(stream.live["y"][number], y, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(stream.live["b"][number], b, rtol=1e-5, atol=1e-6)
    assert store.used <= limit


def test_only_some_batches():
    """After `go_on_with` only those batches run."""
    rng = np.random.default_rng(0)
    with Workers(1) as workers:
        stream = Stream(Changes(Source(residual_net(rng))), batches_of([{"x": noise(rng, 2, 9)}] * 3), (), workers, Store(10**6))
        stream.go_on_with(range(1, 2))
        stream.advance(8)
        assert stream.live["y"][1].shape == (2, 9)
        with pytest.raises(AssertionError):
            stream.live["y"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.float16, object])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_stored_arrays(dtype, shape):
    """Arrays come back as they were, from a file too; texts stay in memory. The memory is given back."""
    array = np.asarray(np.random.default_rng(0).random(shape) * 9, dtype)
    store = Store(0)
    arrays = Arrays(store)
    arrays[7], arrays[2] = array, np.asfortranarray(array)
    for number in (2, 7):
        assert arrays[number].dtype == array.dtype
        np.testing.assert_array_equal(arrays[number], array)
    arrays.drop()
    assert store.used == 0
