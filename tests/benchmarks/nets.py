"""A table of all nets in a folder: who has their nodes, in how many regions, how close results are, and how fast, on one thread.

    python tests/benchmarks/nets.py FOLDER [--threads 1] [--pairs 30] [--no-times] [--reasons] [--json FILE] [NET ...]

A net is an ONNX file of the folder. If NET.npz lies beside it, that holds its inputs; else they are random. Nets are measured one after
another, by the protocol of `measure`. `--no-times` only asks who has the nodes, and `--reasons` lists why the
others were left. Rows of other nets that the document FILE has stay.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import report
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models.inputs import inputs_for

COLUMNS = [
    ("net", "{net}"),
    ("nodes owned", "{owned} of {nodes}"),
    ("regions", "{regions}"),
    ("error", "{error:.0e}"),
    ("speed-up [95 %]", "**{speed_up:.2f}** [{low:.2f}, {high:.2f}]"),
    ("A/A", "{control:.3f}"),
]


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


def row(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of one net; with `--reasons` it prints why nodes were left."""
    session = session_of(path, arguments.threads)
    graphs = session.get_provider_graph_assignment_info()
    ours = [graph for graph in graphs if graph.ep_name == sparse.EP_NAME]
    owned, nodes = (sum(len(graph.get_nodes()) for graph in some) for some in (ours, graphs))
    found: dict[str, Any] = {"net": path.stem, "owned": owned, "nodes": nodes, "regions": len(ours)}
    try:
        if not arguments.no_times:
            found |= figures(path, session, arguments)
    except (ValueError, RuntimeError, Fail, InvalidArgument) as problem:  # random inputs do not fit every net
        print(f"{path.stem} is not measured: {problem}")
    if arguments.reasons:
        left = Counter((d.op_type, d.reason) for d in sparse.explain(session) if not d.taken)
        for (op_type, reason), count in left.most_common():
            print(f"    {count:4} {op_type}: {reason}")
    return found


def figures(path: Path, session: onnxruntime.InferenceSession, arguments: argparse.Namespace) -> dict[str, Any]:
    """The error and the speed-up of one net."""
    measured = measure.measure(str(path), feeds_of(path, session), threads=arguments.threads, pairs=arguments.pairs, memory=False)
    found: dict[str, Any] = {"error": max((a.max_relative for a in measured.agreement), default=0.0)}
    if measured.speed_up is not None:
        speed_up, control = measured.speed_up, measured.control
        found |= {"speed_up": speed_up.median, "low": speed_up.low, "high": speed_up.high}
        found["control"] = None if control is None else control.median
    return found


def kept(path: Path | None) -> dict[str, dict[str, Any]]:
    """The rows of a document, by net, if it is there."""
    return {row["net"]: row for row in report.read(path)[""]["rows"]} if path is not None and path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("nets", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--reasons", action="store_true")
    report.add_json(parser)
    arguments = parser.parse_args()
    sparse.register()
    rows = kept(arguments.json)
    for path in sorted(arguments.folder.glob("*.onnx")):
        if not arguments.nets or path.stem in arguments.nets:
            rows[path.stem] = row(path, arguments)
    with report.Report(arguments.json) as written:
        written.table("", COLUMNS)
        written.rows([rows[net] for net in sorted(rows)])


if __name__ == "__main__":
    main()
