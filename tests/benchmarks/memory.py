"""What one and ten sessions of a model cost in memory, resident and at the peak while they are made, the CPU provider's and ours.

    python tests/benchmarks/memory.py [--threads 2] [--sessions 10] [--json FILE] [MODEL ...]

Models at 90 % zeros, read from a file; every number is of a fresh process, in MB more than before. Each session has run once. "weights" is
what our sessions hold of weights and what is made of them, "runs" the memory that waits for their next runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.runtime import _arenas
from onnxruntime_ep_sparse.runtime import _weight_store as _shared

MODELS = ("resnet50", "bert_base")
COLUMNS = (
    ("model", "{model}"),
    ("sessions", "{sessions}"),
    ("CPU MB", "{cpu_mb:.0f}"),
    ("ours", "{ours_mb:.0f}"),
    ("ratio", "**{ratio:.2f}**"),
    ("CPU peak MB", "{cpu_peak_mb:.0f}"),
    ("ours", "{ours_peak_mb:.0f}"),
    ("our weights MB", "{weights_mb:.1f}"),
    ("our runs MB", "{runs_mb:.1f}"),
)


def held(model: str, provider: str, threads: int, sessions: int) -> dict[str, float]:
    """What so many sessions hold once they have run, and the peak on the way."""
    if provider == sparse.EP_NAME:
        sparse.register()
    before = measure.resident_mb("VmRSS")
    kept = []
    for _ in range(sessions):
        kept.append(measure.make_session(model, provider, None, threads))
        kept[-1].run(None, inputs_for(kept[-1]))
    return {
        "resident": measure.resident_mb("VmRSS") - before,
        "peak": measure.resident_mb("VmHWM") - before,
        "weights": _shared.held()[1] / 2**20,
        "runs": _arenas.held()[1] / 2**20,
    }


def in_fresh_process(model: str, provider: str, threads: int, sessions: int) -> dict[str, float]:
    """`held` there."""
    command = [sys.executable, __file__, "--threads", str(threads), "--sessions", str(sessions), "--in-this-process", provider, model]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=10)
    add_json(parser)
    parser.add_argument("--in-this-process", metavar="PROVIDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        print(json.dumps(held(arguments.models[0], arguments.in_this_process, arguments.threads, arguments.sessions)))
        return
    with tempfile.TemporaryDirectory() as folder, Report(arguments.json) as report:
        report.table("", COLUMNS)
        for name in arguments.models:
            path = Path(folder, "model.onnx")
            path.write_bytes(BUILDERS[name](sparsity=0.9).SerializeToString())
            for sessions in (1, arguments.sessions):
                cpu, ours = (in_fresh_process(str(path), p, arguments.threads, sessions) for p in (measure.CPU, sparse.EP_NAME))
                report.row(
                    model=name,
                    sessions=sessions,
                    cpu_mb=cpu["resident"],
                    ours_mb=ours["resident"],
                    ratio=ours["resident"] / cpu["resident"],
                    cpu_peak_mb=cpu["peak"],
                    ours_peak_mb=ours["peak"],
                    weights_mb=ours["weights"],
                    runs_mb=ours["runs"],
                )


if __name__ == "__main__":
    main()
