"""What a call of a small net costs besides its steps: an MLP policy 64-256-256-8 on one row, bound inputs and outputs.

python tests/benchmarks/overhead.py [--threads 1] [--sparsity 0.9] [--rounds 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from load import mlp
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import EP_NAME, measure

CALLS = 2000
COLUMNS = (
    ("threads", "{threads}"),
    ("CPU provider us", "{cpu_us:.2f}"),
    ("ours us", "{ours_us:.2f}"),
    ("speed-up", "**{ratio:.2f}**"),
    ("our steps us", "{steps_us:.2f}"),
    ("the rest us", "{rest_us:.2f}"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=15)
    add_json(parser)
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
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        report.row(threads=arguments.threads, cpu_us=theirs, ours_us=call, ratio=ratio, steps_us=steps, rest_us=call - steps)


if __name__ == "__main__":
    main()
