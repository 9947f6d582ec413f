"""Compares two builds of the project: run time and session creation of the same nets, in processes that alternate.

    python tests/benchmarks/builds.py OLD NEW [--runs 10] [--threads 1] [--json FILE] [NET:ZEROS ...]

OLD and NEW are trees with a build in place (`python setup.py build_ext --inplace`). Processes run under real-time priority where the
system allows it (`chrt -f 1`), one at a time. A line has the medians over all processes of a build, of the median run of a process and
of its session creation, and their ratios: above 1, the new build is faster. OLD against itself shows the noise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from report import Report, add_json

NETS = ("resnet50:0.9", "mobilenet_v2:0.9", "bert_base:0.9")
COLUMNS = (
    ("net:zeros", "{net}"),
    ("run old ms", "{run_old_ms:.3f}"),
    ("run new ms", "{run_new_ms:.3f}"),
    ("ratio", "{run_ratio:.3f}"),
    ("creation old ms", "{creation_old_ms:.3f}"),
    ("creation new ms", "{creation_new_ms:.3f}"),
    ("ratio", "{creation_ratio:.3f}"),
)
WARM_UP_S, MEASURED_S = 0.5, 2.0


def work(net: str, threads: int) -> dict[str, float]:
    """Measure a net in this process: seconds of the median run and of creating the session."""
    import onnxruntime

    import onnxruntime_ep_sparse as sparse
    from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

    name, zeros = net.split(":")
    model = BUILDERS[name](float(zeros)).SerializeToString()
    sparse.register()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = [(sparse.EP_NAME, {"threads": str(threads)}), "CPUExecutionProvider"]
    creations = []
    for _ in range(3):
        session = None
        began = time.perf_counter()
        session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
        creations.append(time.perf_counter() - began)
    assert any(decision.taken for decision in sparse.explain(session)), "the provider owns nothing"
    feeds = inputs_for(session.get_inputs())
    for seconds in (WARM_UP_S, MEASURED_S):
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - began)
    return {"run": median(times), "creation": median(creations)}


def measured(tree: Path, net: str, threads: int) -> dict[str, float]:
    """The same in a process of the build in `tree`."""
    priority = ["chrt", "-f", "1"] if shutil.which("chrt") and os.geteuid() == 0 else []
    command = [*priority, sys.executable, str(Path(__file__).resolve()), "--work", net, "--threads", str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in ("provider", "kernels"))}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, nargs="?")
    parser.add_argument("new", type=Path, nargs="?")
    parser.add_argument("nets", nargs="*", default=NETS)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    add_json(parser)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.threads)))
        return
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        for net in arguments.nets:
            found: dict[Path, list[dict[str, float]]] = {arguments.old: [], arguments.new: []}
            for run in range(arguments.runs):
                trees = (arguments.old, arguments.new)
                for tree in trees if run % 2 else trees[::-1]:
                    found[tree].append(measured(tree, net, arguments.threads))
            row: dict[str, Any] = {"net": net}
            for what in ("run", "creation"):
                old, new = (median(one[what] for one in found[tree]) * 1e3 for tree in (arguments.old, arguments.new))
                row |= {f"{what}_old_ms": old, f"{what}_new_ms": new, f"{what}_ratio": old / new}
            report.row(**row)


if __name__ == "__main__":
    main()
