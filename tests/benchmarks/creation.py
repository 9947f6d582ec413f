"""How long creating a session takes and what it costs in memory, ONNX Runtime's CPU provider and ours, each in fresh processes.

    python tests/benchmarks/creation.py [--threads 2] [--repeats 5] [MODEL ...]

Models at 90 % zeros, read from a file. Time is the best of the processes; memory is the least, in MB more than before: the peak, and what
is resident after three runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

MODELS = ("resnet50", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "unet", "bert_base", "lstm")


def created(model: str, provider: str, threads: int) -> tuple[float, float, float]:
    """Milliseconds to create a session, its peak in MB, MB resident after three runs: what a fresh process measures."""
    if provider == sparse.EP_NAME:
        sparse.register()
    before = measure.resident_mb("VmRSS")
    start = time.perf_counter()
    session = measure.make_session(model, provider, None, threads)
    seconds = time.perf_counter() - start
    feeds = inputs_for(session)
    for _ in range(3):
        session.run(None, feeds)
    return seconds * 1e3, measure.resident_mb("VmHWM") - before, measure.resident_mb("VmRSS") - before


def best(model: str, provider: str, threads: int, repeats: int) -> tuple[float, ...]:
    """The least of each of these, of `repeats` processes."""
    command = [sys.executable, __file__, "--threads", str(threads), "--in-this-process", provider, model]
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repeats)]
    return tuple(np.min(runs, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--in-this-process", metavar="PROVIDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        print(json.dumps(created(arguments.models[0], arguments.in_this_process, arguments.threads)))
        return
    columns = ("model", "CPU ms", "ours ms", "ratio", "CPU peak MB", "ours", "CPU MB after 3 runs", "ours")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            path = Path(folder, "model.onnx")
            path.write_bytes(BUILDERS[name](sparsity=0.9).SerializeToString())
            cpu, ours = (best(str(path), provider, arguments.threads, arguments.repeats) for provider in (measure.CPU, sparse.EP_NAME))
            print(
                f"| {name} | {cpu[0]:.0f} | {ours[0]:.0f} | **{ours[0] / cpu[0]:.2f}** "
                f"| {cpu[1]:.0f} | {ours[1]:.0f} | {cpu[2]:.0f} | {ours[2]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
