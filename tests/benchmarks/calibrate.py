"""Measure the rates by which the provider expects times, and write them to `ops/rates.py`.

    python tests/benchmarks/calibrate.py [--isa NAME] [--threads 1 2] [--only NET ...] [--new] [--renew KIND ...]
                                         [--samples FILE] [--dry] [--worst 10]

Nets run with both providers. Every node of ONNX Runtime and every step of ours is timed where it stands, among the others. What the rows of
`ops` say about their work is fitted to these times: one rate per kind of work, by least squares of relative errors, none negative
(Lawson and Hanson 1974, `scipy.optimize.nnls`). The machine must do nothing else. `--dry` writes nothing; `--worst` lists so many entries
that the rates predict worst. `--samples` names a file that keeps the seconds: a further call measures only what is missing there. The work
is always what the rows say now, so that another kind of work needs no new measurement. With `--new` only kinds of work without a rate get
one, and the others keep theirs. After a change of kernels `--renew` measures our steps alone, for new rates of these kinds of our work, by
every cache, and of those that have none: `--renew depthwise_float depthwise_strip --only mobilenet_v1 mobilenet_v2`.

The rates of an instruction set hold for CPUs that have no better one, so that ONNX Runtime must use it as well: run it on such a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from calibrate_nets import SHARED_CHAIN, SHARED_ROWS, SHARED_SIZE, chain, products, workloads
from scipy.optimize import nnls

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.cpus import cpu_model
from onnxruntime_ep_sparse.diagnostics.step_times import StepTime, step_times
from onnxruntime_ep_sparse.graph.ir import Graph, subgraph
from onnxruntime_ep_sparse.ops import rates, table
from onnxruntime_ep_sparse.ops.costs import ORT_SPLIT_RESULTS, Amounts, Estimate, combined, kinds_of_work, moved, shared
from onnxruntime_ep_sparse.ort import _plugin
from onnxruntime_ep_sparse.partition.cost import DENSE, Density, kernels_work, results_of_products, setting_of
from onnxruntime_ep_sparse.passes.run import run_passes
from onnxruntime_ep_sparse_kernels.isa import Isa, isa_named

OPERATORS = {
    "BiasGelu": "erf",
    "FastGelu": "erf",
    "Gelu": "erf",
    "QuickGelu": "silu",
    "ReorderInput": "reordered",
    "ReorderOutput": "reordered",
    "Softmax": "copied",
    "Upsample": "resized",
}
"""What ONNX Runtime makes of a graph's nodes: the rate per element of the result."""
ORT_FUSES = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
"""Activations that ONNX Runtime computes in the node of the product before them. That costs no less than a node of their own."""
BLOCKS = 8
"""Blocks of runs, of which the median counts."""
SECONDS = 3.0
"""Time of the runs of a net with each provider."""
LEAST, SHORTEST = 4e-6, 2e-7
"""Nodes of less time do not count in full, because ONNX Runtime's profile counts whole microseconds; none takes less than the latter."""
NEAR_WORK = ("few_rows", "few_rows_dense", "few_rows_output", "few_rows_mac", "few_rows_weight", "one_row_weight")
"""What takes half the time when two threads share it: products by weights that a core's own cache holds take too short to be measured
beside the time that threads need to wake."""
SHARED_EVENLY = 0.5
"""Time of renewed work of ours that two threads share, at least, as a share of that on one."""
SHORT_RUN = 1e-4
"""A net with shorter runs is timed as a whole with ONNX Runtime."""
CHAIN = 200
"""Nodes of the chain by which the profile's own time is measured."""
SHARED_REPEATS = 5
"""How often the times of products that two threads share are measured."""
UNKNOWN = "unknown"
"""Names the work of nodes of which the rows tell nothing."""
PER_RUN = frozenset({"node", "step"})
"""Rates that are measured apart, the same for any number of threads."""
ALONE = "alone "
"""Begins the names of work that one of several threads does: the rates of one thread say how long it takes."""


@dataclass
class Seen:
    """What the rows say about the work of one graph, by the names of nodes and of their first results."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    fused: dict[str, Amounts] = field(default_factory=dict)
    """Our work of the activation behind a product."""
    ort: dict[str, tuple[str, Amounts]] = field(default_factory=dict)
    ort_fused: dict[str, Amounts] = field(default_factory=dict)
    """ONNX Runtime's work of the activation behind a product."""
    makers: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """A node or step: its work, its seconds, and what it is."""

    amounts: Amounts
    seconds: float
    about: str


@contextlib.contextmanager
def seen_graphs(isa: Isa, threads: int) -> Iterator[list[Seen]]:
    """Collect what the rows say about every graph that the provider is shown."""
    seen: list[Seen] = []
    select = _plugin.select

    def look(graph: Graph, options: Any) -> Any:
        seen.append(examined(graph, isa, threads))
        return select(graph, options)

    _plugin.select = look
    try:
        yield seen
    finally:
        _plugin.select = select


def shared_work(amounts: Amounts, splits: bool, threads: int) -> Amounts:
    """Return the work of a node or step on so many threads, which share it or not."""
    if threads == 1:
        return amounts
    if splits:
        return shared(amounts)
    return {name if name in PER_RUN else f"{ALONE}{name}": amount for name, amount in amounts.items()}


def our_work(estimate: Estimate, density: Density, threads: int) -> Amounts:
    """Return our work with such a weight."""
    work = combined(estimate.ours, kernels_work(replace(estimate, second=None), density))
    work = shared_work(work, density.left > estimate.alone_to, threads)
    return work if estimate.second is None else combined(work, our_work(estimate.second, density, threads))


def with_waking(works: list[Amounts]) -> list[Amounts]:
    """Return the works of a run in their order, the first one that threads share with waking them."""
    first = next((i for i, work in enumerate(works) if "section" in work), None)
    return [combined(work, {"wake": 1}) if i == first else work for i, work in enumerate(works)]


def examined(graph: Graph, isa: Isa, threads: int) -> Seen:
    """Return the work of the nodes of a graph, for ONNX Runtime as they stand and for us behind the passes."""
    seen = Seen()
    setting = setting_of(graph, isa)
    runnable = {node.index for node in graph.nodes if table.can_run(graph, node) is None}
    for node in graph.nodes:
        seen.makers[node.outputs[0]] = (node.op_type, node.inputs[0] if node.inputs else "")
        row = table.row_for(node)
        if node.index in runnable and row is not None:
            estimate = row.estimate(setting, node)
            work = shared_work(estimate.ort, estimate.ort_splits, threads)
            seen.ort[node.outputs[0]] = seen.ort[node.name] = (node.op_type, work)
            if node.op_type in ORT_FUSES and node.inputs[0] in setting.products:
                seen.ort_fused[node.inputs[0]] = seen.ort_fused[graph.producer[node.inputs[0]].name] = work
    rewritten = run_passes(subgraph(graph, runnable))
    setting = replace(setting, graph=rewritten, products=results_of_products(rewritten))
    for node in rewritten.nodes:
        row = table.row_for(node)
        assert row is not None
        estimate = seen.estimates[node.name or node.outputs[0]] = row.estimate(setting, node)
        if row.role == "activation" and node.inputs[0] in setting.products:
            maker = rewritten.producer[node.inputs[0]]
            seen.fused[maker.name or maker.outputs[0]] = our_work(estimate, DENSE, threads)
    return seen


def ort_amounts(seen: Seen, name: str, op_type: str, elements: float, threads: int) -> Amounts | None:
    """Return the work of a node of ONNX Runtime's optimised graph, None if the rows do not tell."""
    if op_type in OPERATORS:
        return shared_work({"node": 1, **moved(OPERATORS[op_type], elements)}, elements >= ORT_SPLIT_RESULTS, threads)
    if name in seen.ort and seen.ort[name][0] == op_type:
        return seen.ort[name][1]
    if op_type.startswith("Fused") and name.removeprefix("fused ") in seen.ort:
        product = name.removeprefix("fused ")
        return combined(seen.ort[product][1], seen.ort_fused.get(product, {}))
    # a fused node in blocked layout is named after its result, behind its activation and addition
    result = name.removesuffix("_nchwc")
    while result in seen.makers and seen.makers[result][0] != op_type:
        result = seen.makers[result][1]
    return combined(seen.ort[result][1], seen.ort_fused.get(result, {})) if result in seen.ort else None


def profile_overhead(node: float) -> float:
    """Return the seconds that ONNX Runtime's profile adds to every node, from a chain of nodes that take `node` seconds each."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = ort.InferenceSession(chain(CHAIN).SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {"x": np.ones((1, 16), np.float32)}
        for _ in range(200):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    durations = [event["dur"] for event in events if event["name"].endswith("_kernel_time")]
    return float(np.mean(np.sort(durations)[: len(durations) * 3 // 4])) * 1e-6 - node


class Workload:
    """A model with its inputs, and what the rows say about its work."""

    def __init__(self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], isa: Isa, threads: int, pattern: str) -> None:
        self.feeds, self.pattern = feeds, pattern
        self.nodes = len(model.graph.node)
        self._data = model.SerializeToString()
        self._threads = threads
        self._sizes = {
            d.dim_param: size
            for value in model.graph.input
            for d, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape, strict=True)
            if d.dim_param
        }
        choice = {"policy": "always", "isa": isa.name, "threads": str(threads), "profile": "1"}
        with seen_graphs(isa, threads) as graphs:
            self._ours = self._session([(sparse.EP_NAME, choice), "CPUExecutionProvider"])
        self._seen = graphs[0]
        for _ in range(2):
            self._ours.run(None, feeds)
        self._parts = step_parts(step_times(self._ours), self._seen, pattern, threads)

    def _session(self, providers: list, profile: str = "") -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        for name, size in self._sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        return ort.InferenceSession(self._data, options, providers=providers, enable_fallback=0)

    def ours_measured(self) -> dict[str, list]:
        """Return the same as `measured`, without nodes of ONNX Runtime."""
        runs = max(5, min(200, int(SECONDS / median_run(self._ours, self.feeds, 3))))
        return {"ort": [], "ours": our_seconds(self._ours, self.feeds, runs, self._parts)}

    def measured(self, fixed: Mapping[str, float]) -> dict[str, list]:
        """Return seconds: [nodes of ONNX Runtime as (operator, name, shape), seconds] and [step of ours, seconds]."""
        theirs = self._session(["CPUExecutionProvider"])
        seconds = median_run(theirs, self.feeds, 3)
        runs = max(5, min(200, int(SECONDS / seconds)))
        with tempfile.TemporaryDirectory() as folder:
            profiled = self._session(["CPUExecutionProvider"], str(Path(folder, "profile")))
            for _ in range(runs + 1):
                profiled.run(None, self.feeds)
            events = json.loads(Path(profiled.end_profiling()).read_text())
        nodes = ort_nodes(events, fixed["profile"])
        if self.nodes == 1 or seconds < SHORT_RUN:
            # the profile counts whole microseconds, which is much of a small product
            whole = max(median_run(theirs, self.feeds, 10 * runs) - fixed["call"], SHORTEST)
            nodes = [([key for keys, _ in nodes for key in keys], whole)]
        return {"ort": nodes, "ours": our_seconds(self._ours, self.feeds, runs, self._parts)}

    def entries(self, measured: Mapping[str, list], about: str) -> tuple[list[Timed], list[Timed]]:
        """Return what was `measured` with the work of each entry. ValueError if our steps are others by now."""
        nodes, steps = [], []
        works: list[Amounts] = []
        for keys, seconds in measured["ort"]:
            parts = [ort_amounts(self._seen, name, op_type, math.prod(shape), self._threads) for op_type, name, shape in keys]
            # nodes of which the rows tell nothing may wake threads
            works.append(reduce(combined, [{"section": 1, UNKNOWN: 1} if part is None else part for part in parts], {}))
            nodes.append(Timed({}, seconds, f"{about} {' '.join(map(str, keys[0]))}" + (" ..." if keys[1:] else "")))
        nodes = [replace(node, amounts=work) for node, work in zip(nodes, with_waking(works), strict=True) if UNKNOWN not in work]
        whats = [what for _, what, _ in self._parts]
        known = dict(zip(whats, with_waking([amounts for _, _, amounts in self._parts]), strict=True))
        for what, seconds in measured["ours"]:
            if what not in known:
                raise ValueError(f"{about} has no step {what} any more: remove its lines from the samples")
            steps.append(Timed(known[what], seconds, f"{about} {what}"))
        return nodes, steps


def ort_nodes(events: list[dict], profile_s: float) -> list[tuple[list[tuple[str, str, tuple[int, ...]]], float]]:
    """Return ONNX Runtime's nodes from its profile, each in a list, with the mean of the faster three quarters of the runs but the first
    two, without the seconds that the profile adds."""
    durations = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            shape = next(iter(arguments["output_type_shape"][0].values())) if arguments.get("output_type_shape") else ()
            durations[arguments["op_name"], event["name"].removesuffix("_kernel_time"), tuple(shape)].append(event["dur"])
    found = []
    for key, spent in durations.items():
        kept = sorted(spent[2:])[: max(1, len(spent) * 3 // 4)]
        found.append(([key], max(float(np.mean(kept)) * 1e-6 - profile_s, SHORTEST)))
    return found


def step_parts(steps: list[StepTime], seen: Seen, pattern: str, threads: int) -> list[tuple[list[int], str, Amounts]]:
    """Return indices of our steps, what they are, and their work; those of one node are one part."""
    parts: dict[str, tuple[list[int], str, Amounts]] = {}
    for i, step in enumerate(steps):
        names = step.name.split(" + ")
        estimate = seen.estimates.get(names[0])
        if estimate is None or not step.ns:
            continue
        density = Density(step.macs / step.dense_macs if step.dense_macs else 1.0, pattern == "block4")
        indices, what, amounts = parts.get(step.name, ([], f"{step.name} {step.description}", {}))
        if step.name not in parts:  # the first step of a node stands for all of them
            fused = seen.fused.get(names[0], {}) if names[1:] else {}
            amounts = reduce(combined, (our_work(estimate, density, threads), fused), amounts)
        parts[step.name] = ([*indices, i], what, amounts)
    return list(parts.values())


def our_seconds(
    session: Any, feeds: Mapping[str, np.ndarray], runs: int, parts: list[tuple[list[int], str, Amounts]]
) -> list[tuple[str, float]]:
    """Return what each part of our steps is, and its seconds in a run."""
    states = [step_times(session)]
    for _ in range(BLOCKS):
        for _ in range(math.ceil(runs / BLOCKS)):
            session.run(None, feeds)
        states.append(step_times(session))
    # what disturbs the machine meets a few blocks of runs only
    spent = np.median([[b.ns - a.ns for a, b in zip(*pair, strict=True)] for pair in pairwise(states)], axis=0) / math.ceil(runs / BLOCKS)
    return [(what, sum(float(spent[i]) for i in indices) * 1e-9) for indices, what, _ in parts]


def fitted(entries: list[Timed], title: str, worst: int, known: Mapping[str, float]) -> dict[str, float]:
    """Return nanoseconds per unit of every kind of work, of which some are `known` in seconds, and print how well they predict."""
    entries = [entry for entry in entries if not entry.amounts.keys() <= known.keys()]
    if not entries:
        return {name: value * 1e9 for name, value in known.items() if not name.startswith(ALONE)}
    names = sorted({name for entry in entries for name in entry.amounts} - known.keys())
    fixed = np.array([sum(known[name] * amount for name, amount in entry.amounts.items() if name in known) for entry in entries])
    seconds = np.maximum([entry.seconds for entry in entries], fixed + SHORTEST)
    share = np.array([[entry.amounts.get(name, 0.0) for name in names] for entry in entries]) / seconds[:, None]
    rest = 1 - fixed / seconds
    scale = share.max(axis=0)
    weight = np.minimum(1.0, np.sqrt(seconds / LEAST))
    for _ in range(8):  # outliers count less from time to time
        found = nnls(share / scale * weight[:, None], rest * weight)[0] / scale
        error = np.abs(share @ found - rest)
        weight = np.minimum(1.0, np.sqrt(seconds / LEAST)) / (1 + error / 0.2)
    predicted = share @ found + fixed / seconds
    within = np.average(np.abs(np.log(predicted)) < math.log(1.25), weights=seconds)
    print(f"{title}: {len(entries)} entries, {within:.0%} of the time within 25 %, all together {predicted @ seconds / seconds.sum():.3f}")
    for i in np.argsort(-np.abs(np.log(np.maximum(predicted, 1e-3))) * seconds)[:worst]:
        print(f"    {entries[i].about}: {seconds[i] * 1e6:.1f} us, predicted {predicted[i] * seconds[i] * 1e6:.1f}")
    rates = {name: float(found[i] * 1e9) for i, name in enumerate(names)} | {name: value * 1e9 for name, value in known.items()}
    return {name: value for name, value in rates.items() if not name.startswith(ALONE)}


def kept_rates(isa: str, side: str, threads: int) -> dict[str, float]:
    """Return the rates that an instruction set has, in seconds: of ONNX Runtime (`ort`) or of ours, with so many threads."""
    has = getattr(rates.RATES[isa], side)
    alone = {f"{ALONE}{name}": rate[0] * 1e-9 for name, rate in has.items()}
    return alone | {name: rate[threads - 1] * 1e-9 for name, rate in has.items()}


def stem_of(kind: str) -> str:
    """Return a kind of work without the cache that holds its floats and without the threads that do it."""
    return kind.removeprefix(ALONE).removesuffix("_far").removesuffix("_shared")


def of_one_thread(rates: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds per unit that the rates of one thread, in nanoseconds, tell of two: of what stays on one of them, and of halves of
    NEAR_WORK."""
    alone = {f"{ALONE}{name}": value * 1e-9 for name, value in rates.items()}
    return alone | {name: rates[name] * 0.5e-9 for name in NEAR_WORK if name in rates}


def run_seconds(length: int, providers: list) -> float:
    """Return the seconds of a run of that chain."""
    model = chain(length)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers, enable_fallback=0)
    return median_run(session, models.inputs_for(model), 3000)


def sharing_seconds() -> float:
    """Return the seconds that ONNX Runtime takes for a node that two threads share, besides half of the time that one thread takes.

    They are awake behind the first node of a run. The least of several measurements: hosts move threads near to each other and apart.
    """
    data = [products(length).SerializeToString() for length in (1, SHARED_CHAIN)]
    feeds = {"y0": np.ones((SHARED_ROWS, SHARED_SIZE), np.float32)}
    found = []
    for _ in range(SHARED_REPEATS):
        each = []
        for threads in (1, 2):
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.force_spinning_stop", "1")
            sessions = [ort.InferenceSession(chained, options, providers=["CPUExecutionProvider"]) for chained in data]
            first, whole = (median_run(session, feeds, 1000) for session in sessions)
            each.append((whole - first) / (SHARED_CHAIN - 1))
        found.append(each[1] - each[0] / 2)
    return max(0.0, min(found))


def median_run(session: Any, feeds: Mapping[str, np.ndarray], runs: int) -> float:
    """Return the median of the seconds of so many runs."""
    spent = []
    for _ in range(runs):
        begin = time.perf_counter()
        session.run(None, feeds)
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent))


def fixed_seconds(isa: Isa) -> dict[str, float]:
    """Return seconds of what has no size: a node and a call of ONNX Runtime, a step of ours, what a region adds to its steps, and what
    ONNX Runtime's profile adds to a node."""
    ours = [(sparse.EP_NAME, {"policy": "always", "isa": isa.name, "threads": "1"}), "CPUExecutionProvider"]
    theirs = ["CPUExecutionProvider"]
    one, many = run_seconds(1, theirs), run_seconds(CHAIN, theirs)
    node = (many - one) / (CHAIN - 1)
    # the first of our chain is computed with the product
    one_step, steps = run_seconds(1, ours), run_seconds(CHAIN, ours)
    step = (steps - one_step) / (CHAIN - 1)
    region = max(0.0, one_step - one + 2 * node - step)
    return {"node": node, "call": one - 2 * node, "step": step, "region": region, "profile": profile_overhead(node)}


class Samples:
    """Seconds that were measured on an instruction set, in a file of JSON lines if there is one."""

    def __init__(self, path: Path | None, isa: Isa) -> None:
        self.path, self.isa = path, isa
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.kept = {(line["isa"], line["about"], line["threads"]): line for line in map(json.loads, lines)}

    def of(self, about: str, threads: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is kept under this name, else measure it and keep it."""
        line = self.kept.get((self.isa.name, about, threads))
        if line is None:
            line = {"isa": self.isa.name, "about": about, "threads": threads, "date": date.today().isoformat(), **measure()}
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        return line


def completed(found: list[dict[str, float]], names: list[str], least: float = 0.0) -> dict[str, tuple[float, float]]:
    """Return the rates of these names with one and two threads, the latter at least such a share of the former.

    A cache that no net has filled counts as the next one that one has.
    """
    result = {}
    for name in sorted(names):
        stem = name.removesuffix("_far").removesuffix("_shared")
        order = [name, f"{stem}_shared", f"{stem}_far", stem]
        if not all(rate.keys() & set(order) for rate in found):
            raise ValueError(f"no net has work of the kind {name}")
        both = [next(rate[key] for key in order if key in rate) for rate in found]
        result[name] = (float(f"{both[0]:.4g}"), float(f"{max(both[-1], least * both[0]):.4g}"))
    return result


def write(isa: str, found: rates.Rates) -> None:
    """Put the rates of an instruction set into `ops/rates.py`."""
    path = Path(rates.__file__)
    head, mark, _ = path.read_text().partition("RATES: dict[str, Rates] = {")
    lines = [mark]
    for name, rate in (rates.RATES | {isa: found}).items():
        lines += [f'    "{name}": Rates(', f"        cpu={json.dumps(rate.cpu)},", f'        date="{rate.date}",']
        for side in ("ort", "ours"):
            lines += [f"        {side}={{", *(f'            "{key}": {value},' for key, value in getattr(rate, side).items()), "        },"]
        lines.append("    ),")
    path.write_text(head + "\n".join([*lines, "}"]) + "\n")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=kernels.available_isas()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--renew", nargs="+", default=[], metavar="KIND")
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--worst", type=int, default=0)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    isa = isa_named(arguments.isa)
    sparse.register()
    theirs, ours = [], []
    samples = Samples(arguments.samples, isa)
    fixed = samples.of("fixed", 1, lambda: {"seconds": fixed_seconds(isa)})["seconds"]
    section = samples.of("section", 2, lambda: {"seconds": sharing_seconds()})["seconds"]
    for threads in arguments.threads:
        nodes: list[Timed] = []
        steps: list[Timed] = []
        for about, model, feeds, pattern in workloads(arguments.only):
            workload = Workload(model, feeds, isa, threads, pattern)
            measure = workload.ours_measured if arguments.renew else partial(workload.measured, fixed)
            their, our = workload.entries(samples.of(about, threads, measure), about)
            both = [sum(entry.seconds for entry in entries) * 1e3 for entries in (their, our)]
            print(f"{about}, {threads} threads: {both[0]:.2f} ms, ours {both[1]:.2f} ms", flush=True)
            nodes, steps = nodes + their, steps + our
        known = [of_one_thread(found[0]) | {"section": section} if found else {} for found in (theirs, ours)]
        if arguments.new or arguments.renew:
            again = of_one_thread(ours[0]) if ours else {}
            known = [kept_rates(isa.name, side, threads) for side in ("ort", "ours")]
            known[1] = again | {name: rate for name, rate in known[1].items() if stem_of(name) not in arguments.renew}
        theirs.append(fitted(nodes, f"ONNX Runtime, {threads} threads", arguments.worst, {"node": fixed["node"], **known[0]}))
        if "wake" in theirs[-1]:  # both wake the same threads
            known[1]["wake"] = theirs[-1]["wake"] * 1e-9
        ours.append(fitted(steps, f"ours on {isa.name}, {threads} threads", arguments.worst, {"step": fixed["step"], **known[1]}))
    if arguments.new or arguments.renew:
        has, both = rates.RATES[isa.name], []
        for measured, names, kept, again in zip((theirs, ours), kinds_of_work(), (has.ort, has.ours), ([], arguments.renew), strict=True):
            # kinds that these nets have no work of keep their rates
            renewed = {stem for stem in again if all(stem in map(stem_of, rate) for rate in measured)}
            # the other rates of our steps stay: two threads are not expected to gain more than they can (SiLU once came out as 0)
            least = SHARED_EVENLY if again else 0.0
            new = completed(measured, [name for name in names if name not in kept or stem_of(name) in renewed], least)
            print(new)
            both.append({name: new[name] if name in new else kept[name] for name in sorted(names)})
        if not arguments.dry:
            write(isa.name, replace(has, ort=both[0], ours=both[1]))
        return
    for their, our in zip(theirs, ours, strict=True):
        their["call"], our["region"] = fixed["call"] * 1e9, fixed["region"] * 1e9
        for found in (their, our):
            found |= {name: found.get(name, 0.0) for name in ("wake", "section")}
    names = kinds_of_work()
    found = rates.Rates(cpu_model(), date.today().isoformat(), completed(theirs, names[0]), completed(ours, names[1]))
    print(found)
    if not arguments.dry:
        write(isa.name, found)


if __name__ == "__main__":
    main()
