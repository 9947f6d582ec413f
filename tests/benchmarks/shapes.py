"""Ever new input shapes against repeated ones: what a program pays where more shapes come in turn than it keeps plans.

    python tests/benchmarks/shapes.py [--threads 1] [--sparsity 0.9] [--rounds 5] [--json FILE] [text recurrent image]

A line per net: milliseconds a call of 20 shapes in turn, the same of shapes that were used just before, and the ratio of both (best of all
rounds). At 1 a new shape costs nothing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from report import Report, add_json

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models.masks import mask

SHAPES = 20
"""More than the plans that a program keeps."""
COLUMNS = (("net", "{net}"), ("new shapes ms", "{new_ms:.2f}"), ("repeated ones ms", "{repeated_ms:.2f}"), ("ratio", "{ratio:.2f}"))


def model(nodes: list[onnx.NodeProto], x: list, y: list, weights: dict[str, tuple[int, ...]], sparsity: float) -> bytes:
    """A model of these nodes from `x` to `y`, with random pruned weights of these shapes."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) / 32 for name, shape in weights.items()}
    arrays = {name: mask(array, sparsity, "unstructured", rng).astype(np.float32) for name, array in arrays.items()}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, "shapes", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def text(sparsity: float) -> tuple[bytes, list[tuple[int, ...]]]:
    """Twelve products over a sequence, whose length changes."""
    layers = 12
    nodes = [helper.make_node("MatMul", [f"h{i}" if i else "x", f"w{i}"], [f"h{i + 1}" if i < layers - 1 else "y"]) for i in range(layers)]
    weights = {f"w{i}": (768, 768) for i in range(layers)}
    return model(nodes, ["n", 768], ["n", 768], weights, sparsity), [(8 + i, 768) for i in range(SHAPES)]


def recurrent(sparsity: float) -> tuple[bytes, list[tuple[int, ...]]]:
    """An LSTM, whose number of times changes."""
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=512)]
    weights = {"w": (1, 2048, 512), "r": (1, 2048, 512)}
    return model(nodes, ["t", "b", 512], ["t", 1, "b", 512], weights, sparsity), [(8 + i, 1, 512) for i in range(SHAPES)]


def image(sparsity: float) -> tuple[bytes, list[tuple[int, ...]]]:
    """Convolutions of 3x3 with strides, over images of other heights and widths."""
    channels = (3, 64, 64, 128, 128, 256, 256, 512, 512)
    nodes = [
        helper.make_node(
            "Conv",
            [f"h{i}" if i else "x", f"w{i}"],
            [f"h{i + 1}" if i < len(channels) - 2 else "y"],
            pads=[1] * 4,
            strides=[1 + (i + 1) % 2] * 2,
        )
        for i in range(len(channels) - 1)
    ]
    weights = {f"w{i}": (channels[i + 1], channels[i], 3, 3) for i in range(len(channels) - 1)}
    shapes = [(1, 3, 128 + 8 * i, 160 + 8 * i) for i in range(SHAPES)]
    return model(nodes, ["n", 3, "h", "w"], ["n", 512, "p", "q"], weights, sparsity), shapes


NETS = {"text": text, "recurrent": recurrent, "image": image}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    parser.add_argument("nets", nargs="*", default=list(NETS), metavar="NET", help=f"of {', '.join(NETS)}")
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    rows = []
    for name in arguments.nets:
        built, shapes = NETS[name](arguments.sparsity)
        session = measure.make_session(built, EP_NAME, {"policy": "always"}, arguments.threads)
        inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

        def seconds(x: np.ndarray, session=session) -> float:
            begin = time.perf_counter()
            session.run(None, {"x": x})
            return time.perf_counter() - begin

        new, repeated = [], []
        for _ in range(arguments.rounds):
            new.append(sum(seconds(x) for x in inputs))
            repeated.append(sum((seconds(x), seconds(x))[1] for x in inputs))
        times = [1e3 * min(times) / SHAPES for times in (new, repeated)]
        rows.append({"net": name, "new_ms": times[0], "repeated_ms": times[1], "ratio": times[0] / times[1]})
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        report.rows(rows)


if __name__ == "__main__":
    main()
