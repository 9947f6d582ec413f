"""One layer from 0 to 99 % zeros against the CPU provider, and the break-even that `policy=auto` expects for it.

    python tests/benchmarks/sparsities.py [--threads 1] [--pairs 15] [--json FILE] [LAYER ...]

Sizes are fixed. The layer is taken at every sparsity (`policy=always`); `auto` takes it from its break-even on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

import numpy as np
import onnx
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models import inputs_for, single_conv, single_gemm

ZEROS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LAYERS: dict[str, Callable[[float], onnx.ModelProto]] = {
    "768 to 3072, 1 row": lambda zeros: single_gemm(3072, 768, sparsity=zeros, rows=1),
    "768 to 3072, 128 rows": lambda zeros: single_gemm(3072, 768, sparsity=zeros, rows=128),
    "1x1, 512 to 512, 14 x 14": lambda zeros: single_conv(512, 512, (1, 1), sparsity=zeros, batch=1),
    "3x3, 128 to 128, 28 x 28": lambda zeros: single_conv(128, 128, sparsity=zeros, pads=(1,) * 4, image=(28, 28), batch=1),
}
COLUMNS = (("layer", "{layer}"), ("break-even", "{break_even:.0%}"))


def break_even(model: bytes, threads: int) -> float | None:
    """Return the share of zeros from which `auto` takes the only product of a model; None if it takes it at none."""
    session = measure.make_session(model, EP_NAME, {}, threads)
    (reason,) = (decision.reason for decision in sparse.explain(session) if decision.sparsity is not None)
    found = re.search(r"break-even ([\d.]+)%", reason)
    return float(found[1]) / 100 if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    add_json(parser)
    parser.add_argument("layers", nargs="*", default=LAYERS, metavar="LAYER")
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        report.table("", COLUMNS, ("{zeros:.0%} zeros", "{ratio:.2f}"))
        for layer in arguments.layers:
            limit = break_even(LAYERS[layer](0.9).SerializeToString(), arguments.threads)
            rows = []
            for zeros in ZEROS:
                built = LAYERS[layer](zeros).SerializeToString()
                cpu = measure.make_session(built, measure.CPU, {}, arguments.threads)
                ours = measure.make_session(built, EP_NAME, {"policy": "always"}, arguments.threads)
                assert measure.ownership(ours).owned
                feeds = inputs_for(cpu)
                y, z = cpu.run(None, feeds)[0], ours.run(None, feeds)[0]
                assert np.abs(y - z).max() <= measure.TOLERANCE * np.abs(y).max()
                ratio = measure.ratio(*measure.alternate(cpu, ours, feeds, pairs=arguments.pairs, budget_s=2))
                figures = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
                rows.append({"layer": layer, "break_even": limit, "zeros": zeros, **figures})
            report.rows(rows)


if __name__ == "__main__":
    main()
