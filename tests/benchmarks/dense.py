"""What listing the provider costs where it takes nothing: run time and session creation of a dense ResNet-50, with and without it.

python tests/benchmarks/dense.py [--threads 2] [--repeats 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnxruntime as ort
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

CPU = "CPUExecutionProvider"
COLUMNS = (("", "{what}"), ("without the provider ms", "{without_ms:.2f}"), ("listed ms", "{listed_ms:.2f}"), ("ratio", "{ratio:.3f}"))


def created_ms(model: bytes, providers: list[str]) -> float:
    """Time to create a session."""
    start = time.perf_counter()
    ort.InferenceSession(model, providers=providers, enable_fallback=0)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    add_json(parser)
    arguments = parser.parse_args()
    sparse.register()
    model = BUILDERS["resnet50"](sparsity=0.0).SerializeToString()
    times = np.array([[created_ms(model, [CPU]), created_ms(model, [sparse.EP_NAME, CPU])] for _ in range(arguments.repeats)])
    without, listed = np.median(times, axis=0)
    rows = [{"what": "session creation", "without_ms": without, "listed_ms": listed, "ratio": np.median(times[:, 0] / times[:, 1])}]
    plain, other = (measure.make_session(model, name, None, arguments.threads) for name in (CPU, sparse.EP_NAME))
    assert measure.ownership(other).owned == 0
    feeds = inputs_for(plain)
    first, second = measure.alternate(plain, other, feeds, pairs=arguments.repeats * 2)
    without, listed = np.median(first) * 1e3, np.median(second) * 1e3
    rows.append({"what": "run", "without_ms": without, "listed_ms": listed, "ratio": np.median(first / second)})
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        report.rows(rows)


if __name__ == "__main__":
    main()
