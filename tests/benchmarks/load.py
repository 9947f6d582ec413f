"""Both providers under load: throughput and 99th percentile of the latency, side by side, in the situations of servers.

    python tests/benchmarks/load.py [--seconds 2] [--repeats 3] [--option threads=2] [--cases shapes,...] [--json FILE] [mobilenet bert ...]

Each case of each net is a process of its own with a session (or eight) of each provider. They take turns in blocks of a quarter of a
second, with a pause between, so that no thread of one still spins while the other computes. Callers are threads in C (`callers.py`, which
needs a C compiler as `cc`). A line has calls per second and the 99th percentile in milliseconds of both, and the ratios of ours to the CPU
provider's: above 1 we are better. With `--repeats` each figure is the median of so many processes.

Run it on a machine that does nothing else, and not with real-time priority, by which spinning threads starve those that they wait for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnxruntime as ort
from callers import Api, Load
from numpy.typing import NDArray
from onnx import helper
from report import Report, add_json
from shapes import model as model_of

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

CPU = "CPUExecutionProvider"
BLOCK_S, PAUSE_S = 0.25, 0.05
COLUMNS = (
    ("net", "{net}"),
    ("case", "`{case}`"),
    ("CPU calls/s", "{cpu_calls:.0f}"),
    ("ours", "{our_calls:.0f}"),
    ("ratio", "**{calls:.2f}**"),
    ("CPU p99 ms", "{cpu_p99_ms:.3f}"),
    ("ours", "{our_p99_ms:.3f}"),
    ("ratio", "**{p99:.2f}**"),
)


@dataclass(frozen=True)
class Case:
    """A situation. `threads` 0 leaves their number to ONNX Runtime; `shapes` is how many input shapes take turns."""

    threads: int = 0
    callers: int = 1
    sessions: int = 1
    shapes: int = 1
    spinning: bool = True
    shared_pool: bool = False
    one_cpu: bool = False
    busy_core: bool = False


CASES = {
    "shapes": Case(callers=8, shapes=20),
    "sessions": Case(callers=8, sessions=8),
    **{f"threads{n}": Case(threads=n) for n in range(1, 9)},
    "one_cpu": Case(one_cpu=True),
    "one_cpu_callers": Case(one_cpu=True, callers=8, shapes=20),
    "shared_pool": Case(shared_pool=True, callers=4, sessions=4),
    "no_spinning": Case(spinning=False),
    "no_spinning_callers": Case(spinning=False, callers=8),
    "busy_core": Case(busy_core=True),
    "busy_core_callers": Case(busy_core=True, callers=4),
}


def mlp(sparsity: float) -> bytes:
    """A policy net of three layers, 64-256-256-8."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h0"], transB=1),
        helper.make_node("Tanh", ["h0"], ["a0"]),
        helper.make_node("Gemm", ["a0", "w1"], ["h1"], transB=1),
        helper.make_node("Tanh", ["h1"], ["a1"]),
        helper.make_node("Gemm", ["a1", "w2"], ["y"], transB=1),
    ]
    return model_of(nodes, ["batch", 64], ["batch", 8], {"w0": (256, 64), "w1": (256, 256), "w2": (8, 256)}, sparsity)


def built(name: str, **sizes: object) -> Callable[[float], bytes]:
    """A builder's net, with an open batch."""
    return lambda sparsity: BUILDERS[name](sparsity, **sizes).SerializeToString()


NETS: dict[str, tuple[Callable[[float], bytes], str, Callable[[int], dict[str, tuple[int, ...]]]]] = {
    "resnet": (built("resnet50", image=96), "input", lambda i: {"input": (1 + i, 3, 96, 96)}),
    "mobilenet": (built("mobilenet_v2", image=128), "input", lambda i: {"input": (1 + i, 3, 128, 128)}),
    "bert": (built("bert_base", layers=4), "input_ids", lambda i: {"input_ids": (1, 8 + i), "attention_mask": (1, 8 + i)}),
    "lstm": (built("lstm", layers=1, hidden=512, steps=None), "input", lambda i: {"input": (8 + i, 1, 512)}),
    "mlp": (mlp, "x", lambda i: {"x": (1 + i, 64)}),
}
"""How to build a net, and the shapes of its inputs for number i."""


def sessions_of(api: Api, model: bytes, provider: str, case: Case, options: dict[str, str]) -> list[int]:
    """Sessions as servers make them: ONNX Runtime's own API, no hint besides its own settings."""
    entries = {} if case.spinning else {"session.intra_op.allow_spinning": "0"}
    ours = None if provider == CPU else provider
    if ours:
        entries |= {f"ep.{provider.lower()}.{name}": value for name, value in options.items()}
    return [api.session(model, case.threads, entries, case.shared_pool, ours) for _ in range(case.sessions)]


@contextmanager
def busy(core: int) -> Iterator[None]:
    """Another process computes on that core."""
    command = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", command])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(name: str, case: Case, sparsity: float, seconds: float, options: dict[str, str]) -> dict[str, list[float]]:
    """For each provider: calls per second, 99th percentile in ms."""
    build, _, shapes = NETS[name]
    model = build(sparsity)
    if case.one_cpu:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sparse.register()
    known = ort.InferenceSession(model, providers=[(sparse.EP_NAME, options), CPU], enable_fallback=0)
    assert any(decision.taken for decision in sparse.explain(known))
    feeds = [inputs_for(known, shapes=shapes(i)) for i in range(case.shapes)]
    outputs = [output.name for output in known.get_outputs()]
    del known
    sparse.unregister()
    api = Api(case.shared_pool)
    sides = {provider: Load(api, sessions_of(api, model, provider, case, options), feeds, outputs) for provider in (CPU, sparse.EP_NAME)}
    latencies: dict[str, list[NDArray]] = {provider: [] for provider in sides}
    for load in sides.values():
        load.warm_up()
        load.block(case.callers, BLOCK_S)
    spent = dict.fromkeys(sides, 0.0)
    for turn in range(max(2, round(seconds / BLOCK_S))):
        for provider in (sides, reversed(sides))[turn % 2]:
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            latencies[provider].append(sides[provider].block(case.callers, BLOCK_S))
            spent[provider] += time.perf_counter() - began
    taken = {provider: np.concatenate(blocks) for provider, blocks in latencies.items()}
    return {provider: [len(all_) / spent[provider], float(np.percentile(all_, 99)) * 1e3] for provider, all_ in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each provider in a process")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of our provider")
    parser.add_argument("--cases", default=",".join(CASES))
    add_json(parser)
    parser.add_argument("--child", action="store_true", help="measure one case of one net in this process, and write JSON")
    parser.add_argument("nets", nargs="*", default=list(NETS), metavar="NET", help=f"of {', '.join(NETS)}")
    arguments = parser.parse_args()
    options = dict(option.split("=") for option in arguments.option)
    if arguments.child:
        (net,), case = arguments.nets, CASES[arguments.cases]
        with busy(max(os.sched_getaffinity(0))) if case.busy_core else nullcontext():
            print(json.dumps(measured(net, case, arguments.sparsity, arguments.seconds, options)))
        return
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        for net, name in product(arguments.nets, arguments.cases.split(",")):
            command = [sys.executable, __file__, "--child", "--cases", name, net]
            command += [f"--seconds={arguments.seconds}", f"--sparsity={arguments.sparsity}"]
            command += [f"--option={option}" for option in arguments.option]
            results = [json.loads(subprocess.check_output(command)) for _ in range(arguments.repeats)]
            (cpu, cpu_p99), (ours, our_p99) = (np.median([result[p] for result in results], axis=0) for p in (CPU, sparse.EP_NAME))
            report.row(
                net=net,
                case=name,
                cpu_calls=cpu,
                our_calls=ours,
                calls=np.median([r[sparse.EP_NAME][0] / r[CPU][0] for r in results]),
                cpu_p99_ms=cpu_p99,
                our_p99_ms=our_p99,
                p99=np.median([r[CPU][1] / r[sparse.EP_NAME][1] for r in results]),
            )


if __name__ == "__main__":
    main()
