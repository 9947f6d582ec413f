"""Shows that two builds give the same bits: writes a hash of the outputs of every net of `onnxruntime_ep_sparse.models`.

    python tests/benchmarks/outputs.py > new.txt          # in one build
    python tests/benchmarks/outputs.py > old.txt          # in the other, on the same machine
    diff old.txt new.txt

A line has the net, its zeros, batch, number of threads, instruction set, the nodes that the provider owns of all, and the SHA-256 of all
outputs; inputs and weights have fixed seeds. `--decisions` writes the decision about every node instead, as JSON, one line per net.
"""

from __future__ import annotations

import argparse
import hashlib
import json

import onnxruntime

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

ZEROS = (0.8, 0.95)
BATCHES = (1, 3)


def session_of(model: bytes, isa: str, threads: int) -> onnxruntime.InferenceSession:
    """A session that has the provider, and keeps the record of who owns which node."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [(sparse.EP_NAME, {"isa": isa, "threads": str(threads)}), "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)


def digest(session: onnxruntime.InferenceSession, feeds: dict) -> str:
    """SHA-256 of all outputs."""
    found = hashlib.sha256()
    for output in session.run(None, feeds):
        found.update(str(output.shape).encode())
        found.update(output.tobytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=sorted(BUILDERS))
    parser.add_argument("--zeros", type=float, nargs="*", default=ZEROS)
    parser.add_argument("--decisions", action="store_true")
    arguments = parser.parse_args()
    sparse.register()
    for name in arguments.nets:
        for zeros in arguments.zeros:
            model = BUILDERS[name](zeros).SerializeToString()
            if arguments.decisions:
                print(json.dumps([name, zeros, [[d.name, d.op_type, d.taken, d.region] for d in sparse.explain(model)]]), flush=True)
                continue
            for isa in kernels.available_isas():
                session = session_of(model, isa, 2)
                owned = sum(len(g.get_nodes()) for g in session.get_provider_graph_assignment_info() if g.ep_name == sparse.EP_NAME)
                nodes = sum(len(g.get_nodes()) for g in session.get_provider_graph_assignment_info())
                if not owned:
                    print(name, zeros, "-", 2, isa, f"0/{nodes}", "nothing taken", flush=True)
                    continue
                for batch in BATCHES:
                    feeds = inputs_for(session.get_inputs(), batch=batch)
                    print(name, zeros, batch, 2, isa, f"{owned}/{nodes}", digest(session, feeds), flush=True)


if __name__ == "__main__":
    main()
