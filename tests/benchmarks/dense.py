"""What listing the provider costs where it takes nothing: run time and session creation of a dense ResNet-50, with and without it.

python tests/benchmarks/dense.py [--threads 2] [--repeats 15]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnxruntime as ort

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

CPU = "CPUExecutionProvider"


def created_ms(model: bytes, providers: list[str]) -> float:
    """Time to create a session."""
    start = time.perf_counter()
    ort.InferenceSession(model, providers=providers, enable_fallback=0)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    sparse.register()
    model = BUILDERS["resnet50"](sparsity=0.0).SerializeToString()
    times = np.array([[created_ms(model, [CPU]), created_ms(model, [sparse.EP_NAME, CPU])] for _ in range(arguments.repeats)])
    without, listed = np.median(times, axis=0)
    change = f"{listed / without:.3f}x, {listed - without:+.0f} ms"
    print(f"session creation  {without:.0f} ms without, {listed:.0f} ms with the provider listed: {change}")

    plain, other = (measure.make_session(model, name, None, arguments.threads) for name in (CPU, sparse.EP_NAME))
    assert measure.ownership(other).owned == 0
    feeds = inputs_for(plain)
    first, second = measure.alternate(plain, other, feeds, pairs=arguments.repeats * 2)
    without, listed = np.median(first) * 1e3, np.median(second) * 1e3
    print(f"run time          {without:.2f} ms without, {listed:.2f} ms with: median ratio {np.median(first / second):.3f}")


if __name__ == "__main__":
    main()
