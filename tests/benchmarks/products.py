"""One pruned MatMul of every size against the CPU provider: Y = X[M, K] W[K, N], M given only at run time.

    python tests/benchmarks/products.py [--threads 2] [--sparsity 0.7 0.8 0.9 0.95] [--rows 1 2 3 5 8 13 32 100 384 1000]
                                        [--sizes 256 768 3072] [--policy always] [--pairs 15] [--json FILE]

A table for every sparsity: median of the paired ratios. Both providers run in turn in one process, without spinning against each other.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models.masks import mask


def model(k: int, n: int, sparsity: float) -> onnx.ModelProto:
    """One MatMul by a pruned weight of (K, N)."""
    rng = np.random.default_rng(0)
    weight = mask(rng.standard_normal((k, n)).astype(np.float32), sparsity, "unstructured", rng).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", size]) for name, size in (("x", k), ("y", n))]
    graph = helper.make_graph([node], "matmul", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ratios(k: int, n: int, sparsity: float, rows: list[int], policy: str, threads: int, pairs: int) -> dict[int, float | None]:
    """Median speed-up for each M; None where our provider leaves the node alone."""
    built = model(k, n, sparsity).SerializeToString()
    cpu = measure.make_session(built, measure.CPU, {}, threads)
    ours = measure.make_session(built, EP_NAME, {"policy": policy}, threads)
    if not measure.ownership(ours).owned:
        return dict.fromkeys(rows)
    rng = np.random.default_rng(1)
    found: dict[int, float | None] = {}
    for m in rows:
        feeds = {"x": rng.standard_normal((m, k)).astype(np.float32)}
        y, z = cpu.run(None, feeds)[0], ours.run(None, feeds)[0]
        assert np.abs(y - z).max() <= 1e-4 * np.abs(y).max()
        found[m] = measure.ratio(*measure.alternate(cpu, ours, feeds, pairs=pairs, budget_s=2)).median
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.7, 0.8, 0.9, 0.95])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 3, 5, 8, 13, 32, 100, 384, 1000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 768, 3072])
    parser.add_argument("--policy", choices=("always", "auto"), default="always")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    points = []
    for sparsity in arguments.sparsity:
        print(f"\n{sparsity:.0%} zeros, policy {arguments.policy}, {arguments.threads} threads\n")
        print("| K x N | " + " | ".join(f"M={m}" for m in arguments.rows) + " |")
        print("| --- |" + " --- |" * len(arguments.rows))
        for k, n in product(arguments.sizes, repeat=2):
            found = ratios(k, n, sparsity, arguments.rows, arguments.policy, arguments.threads, arguments.pairs)
            cells = ["not taken" if ratio is None else f"{ratio:.2f}" for ratio in found.values()]
            print(f"| {k} x {n} | " + " | ".join(cells) + " |", flush=True)
            points += [{"k": k, "n": n, "m": m, "sparsity": sparsity, "ratio": ratio} for m, ratio in found.items()]
    if arguments.json:
        arguments.json.write_text(json.dumps({"schema": 1, "policy": arguments.policy, "points": points}, indent=1))


if __name__ == "__main__":
    main()
