"""One pruned MatMul of every size against the CPU provider: Y = X[M, K] W[K, N], M given only at run time.

    python tests/benchmarks/products.py [--threads 2] [--sparsity 0.7 0.8 0.9 0.95] [--rows 1 2 3 5 8 13 32 100 384 1000]
                                        [--sizes 256x256 256x768 ...] [--pattern unstructured] [--isa auto] [--policy always] [--pairs 15]
                                        [--json FILE]

A table for every sparsity: median of the paired ratios. Both providers run in turn in one process, without spinning against each other.
The file has the median microseconds of both besides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from report import Report, add_json

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models.masks import mask

SIZES = [f"{k}x{n}" for k, n in product((256, 768, 3072), repeat=2)]


def model(k: int, n: int, sparsity: float, pattern: str) -> onnx.ModelProto:
    """One MatMul by a pruned weight of (K, N)."""
    rng = np.random.default_rng(0)
    weight = mask(rng.standard_normal((k, n)).astype(np.float32), sparsity, pattern, rng, axis=1).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", size]) for name, size in (("x", k), ("y", n))]
    graph = helper.make_graph([node], "matmul", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def points(built: bytes, k: int, rows: list[int], options: dict[str, str], threads: int, pairs: int) -> Iterator[dict[str, float | None]]:
    """The measurement of each M; its ratio is None where our provider leaves the node alone."""
    cpu = measure.make_session(built, measure.CPU, {}, threads)
    ours = measure.make_session(built, EP_NAME, options, threads)
    owned = measure.ownership(ours).owned
    rng = np.random.default_rng(1)
    for m in rows:
        if not owned:
            yield {"m": m, "ratio": None}
            continue
        feeds = {"x": rng.standard_normal((m, k)).astype(np.float32)}
        y, z = cpu.run(None, feeds)[0], ours.run(None, feeds)[0]
        assert np.abs(y - z).max() <= 1e-4 * np.abs(y).max()
        times = measure.alternate(cpu, ours, feeds, pairs=pairs, budget_s=2)
        medians = [float(np.median(side)) * 1e6 for side in times]
        yield {"m": m, "ratio": measure.ratio(*times).median, "cpu_us": medians[0], "ours_us": medians[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.7, 0.8, 0.9, 0.95])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 3, 5, 8, 13, 32, 100, 384, 1000])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="KxN")
    parser.add_argument("--pattern", choices=("unstructured", "block4"), default="unstructured")
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--policy", choices=("always", "auto"), default="always")
    parser.add_argument("--pairs", type=int, default=15)
    add_json(parser)
    arguments = parser.parse_args()
    options = {"policy": arguments.policy, "isa": arguments.isa}
    with Report(arguments.json) as report:
        for sparsity in arguments.sparsity:
            report.table(f"{100 * sparsity:g} % zeros", [("K x N", "{k} x {n}")], ("M={m}", "{ratio:.2f}"), missing="not taken")
            for size in arguments.sizes:
                k, n = map(int, size.split("x"))
                built = model(k, n, sparsity, arguments.pattern).SerializeToString()
                found = points(built, k, arguments.rows, options, arguments.threads, arguments.pairs)
                report.rows([{"zeros": sparsity, "k": k, "n": n, **point} for point in found])


if __name__ == "__main__":
    main()
