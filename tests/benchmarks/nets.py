"""A table of all nets in a folder: who has their nodes, in how many regions, how close results are, and how fast, on one thread.

    python tests/benchmarks/nets.py FOLDER [--threads 1] [--pairs 30] [--no-times] [--reasons] [NET ...]

A net is an ONNX file of the folder. If NET.npz lies beside it, that holds its inputs; else they are random. Nets are measured one after
another, by the protocol of `measure`. `--no-times` only asks who has the nodes, and `--reasons` lists why the others were left.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models.inputs import inputs_for

HEAD = "| net | nodes owned | regions | error | speed-up [95 %] |\n| --- | --- | --- | --- | --- |"


def session_of(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session with the provider, which records who has which node."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return onnxruntime.InferenceSession(path, options, providers=[sparse.EP_NAME, "CPUExecutionProvider"])


def feeds_of(path: Path, session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """The inputs of a net: those of the file beside it, or random ones."""
    given = path.with_suffix(".npz")
    if not given.exists():
        return inputs_for(session, batch=1, shapes={}, seed=0)
    with np.load(given) as arrays:
        return dict(arrays)


def row(path: Path, arguments: argparse.Namespace) -> str:
    """One line of the table, and the reasons below it."""
    session = session_of(path, arguments.threads)
    graphs = session.get_provider_graph_assignment_info()
    ours = [graph for graph in graphs if graph.ep_name == sparse.EP_NAME]
    owned, nodes = (sum(len(graph.get_nodes()) for graph in some) for some in (ours, graphs))
    error = speed = ""
    if not arguments.no_times:
        found = measure.measure(str(path), feeds_of(path, session), threads=arguments.threads, pairs=arguments.pairs, memory=False)
        error = f"{max((a.max_relative for a in found.agreement), default=0):.0e}"
        if found.speed_up is not None:
            speed = f"**{found.speed_up.median:.2f}** [{found.speed_up.low:.2f}, {found.speed_up.high:.2f}]"
            speed += "" if found.valid else " (not valid: other load)"
    lines = [f"| {path.stem} | {owned} of {nodes} | {len(ours)} | {error} | {speed} |"]
    if arguments.reasons:
        left = Counter((d.op_type, d.reason) for d in sparse.explain(session) if not d.taken)
        lines += [f"    {count:4} {op_type}: {reason}" for (op_type, reason), count in left.most_common()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("nets", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--reasons", action="store_true")
    arguments = parser.parse_args()
    sparse.register()
    print(HEAD)
    for path in sorted(arguments.folder.glob("*.onnx")):
        if not arguments.nets or path.stem in arguments.nets:
            try:
                print(row(path, arguments), flush=True)
            except (ValueError, RuntimeError) as problem:
                print(f"| {path.stem} | failed: {problem} | | | |", flush=True)


if __name__ == "__main__":
    main()
