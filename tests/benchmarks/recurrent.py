"""One LSTM or GRU of every size against the CPU provider: as many inputs as hidden units, pruned W and R.

    python tests/benchmarks/recurrent.py [--threads 1] [--sparsity 0.7 0.9] [--hidden 64 128 256 512 1024] [--batches 1 4 16]
                                         [--times 32] [--policy always] [--pairs 15] [--json FILE]

A table for every sparsity: microseconds a time of the CPU provider and of ours (medians), and the median of the paired ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from report import Report, add_json

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models.masks import mask

GATES = {"LSTM": 4, "GRU": 3}


def model(op_type: str, hidden: int, sparsity: float) -> onnx.ModelProto:
    """One node over (times, batch, hidden)."""
    rng = np.random.default_rng(0)
    scale = np.float32(1 / max(hidden * (1 - sparsity), 1) ** 0.5)
    weights = {
        name: mask(rng.standard_normal((1, GATES[op_type] * hidden, hidden)).astype(np.float32) * scale, sparsity, "unstructured", rng)
        for name in ("w", "r")
    }
    node = helper.make_node(op_type, ["x", "w", "r"], ["y"], name="recurrent", hidden_size=hidden)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["times", "batch", hidden])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["times", 1, "batch", hidden])
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph([node], "recurrent", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def points(built: bytes, hidden: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of every batch; they are None where our provider leaves the node alone."""
    cpu = measure.make_session(built, measure.CPU, {}, arguments.threads)
    ours = measure.make_session(built, EP_NAME, {"policy": arguments.policy}, arguments.threads)
    owned = measure.ownership(ours).owned
    for batch in arguments.batches:
        if not owned:
            yield {"batch": batch, "ratio": None}
            continue
        feeds = {"x": np.random.default_rng(1).standard_normal((arguments.times, batch, hidden)).astype(np.float32)}
        y, z = cpu.run(None, feeds)[0], ours.run(None, feeds)[0]
        assert np.abs(y - z).max() <= 1e-4 * np.abs(y).max()
        theirs, mine = measure.alternate(cpu, ours, feeds, pairs=arguments.pairs, budget_s=2)
        times = [1e6 * float(np.median(seconds)) / arguments.times for seconds in (theirs, mine)]
        yield {"batch": batch, "cpu_us": times[0], "ours_us": times[1], "ratio": measure.ratio(theirs, mine).median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.7, 0.9])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--times", type=int, default=32)
    parser.add_argument("--policy", choices=("always", "auto"), default="always")
    parser.add_argument("--pairs", type=int, default=15)
    add_json(parser)
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        for sparsity in arguments.sparsity:
            across = ("batch {batch}", "{cpu_us:.1f} / {ours_us:.1f} = **{ratio:.2f}**")
            report.table(f"{100 * sparsity:g} % zeros", [("", "{op_type}"), ("hidden", "{hidden}")], across, missing="not taken")
            for op_type in GATES:
                for hidden in arguments.hidden:
                    found = points(model(op_type, hidden, sparsity).SerializeToString(), hidden, arguments)
                    report.rows([{"zeros": sparsity, "op_type": op_type, "hidden": hidden, **point} for point in found])


if __name__ == "__main__":
    main()
