"""What a call of a small net costs besides its steps: an MLP policy 64-256-256-8 on one row, bound inputs and outputs.

python tests/benchmarks/overhead.py [--threads 1] [--sparsity 0.9] [--rounds 15]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from load import mlp

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import EP_NAME, measure

CALLS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    model = mlp(arguments.sparsity)
    cpu = measure.make_session(model, measure.CPU, None, arguments.threads)
    ours = measure.make_session(model, EP_NAME, {"policy": "always"}, arguments.threads)
    profiled = measure.make_session(model, EP_NAME, {"policy": "always", "profile": "1"}, arguments.threads)
    assert measure.ownership(ours).owned == measure.ownership(ours).nodes
    x, y = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32), np.zeros((1, 8), np.float32)

    def microseconds(session) -> float:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        session.run_with_iobinding(binding)
        began = time.perf_counter()
        for _ in range(CALLS):
            session.run_with_iobinding(binding)
        return (time.perf_counter() - began) / CALLS * 1e6

    times = np.array([[microseconds(session) for session in (cpu, ours, profiled)] for _ in range(arguments.rounds)])
    theirs, call, _ = np.median(times, axis=0)
    steps = sum(step.ms for step in sparse.step_times(profiled)) * 1e3
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"CPU provider {theirs:.2f} us, ours {call:.2f} us ({ratio:.2f}x), steps {steps:.2f} us, the rest {call - steps:.2f} us")


if __name__ == "__main__":
    main()
