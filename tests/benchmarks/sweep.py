"""The sweep of docs/benchmarks.md: nets x zeros x batch x threads with `policy=auto`. No point may be slower than the CPU provider.

    python tests/benchmarks/sweep.py [--results sweep.jsonl] [--quick] [--limit-seconds S]
    python tests/benchmarks/sweep.py --report [--json docs/data/sweep.json]

    python tests/benchmarks/sweep.py --formats int8,int8-s8s8,int8-dynamic,fp16 --only resnet50
    python tests/benchmarks/sweep.py --files FOLDER [--only NET,...]

`--formats` sweeps the nets in other formats, NET:FORMAT, against the CPU provider on the same file. `--files` sweeps the ONNX files of a
folder, with the inputs of NAME.npz beside each where that is there. The zeros of their pruned weights get random numbers of the same
size, then so many zeros as the point asks for.

A point is screened with 8 pairs. One below 1.0 is measured three times with 30 pairs, and fails if the upper end of its interval is under
0.97 in all three, or if results differ by more than `measure.spread` allows.
Where our provider owns no node, both sessions are the same: that is noted, and nothing is timed.

A point is a line of the results file. A further call does what is missing for this build and machine: the commit of the sources, the CPU,
the instruction set, the version of onnxruntime. Each net has a process of its own; one that dies costs the point that it was at. A point
with one thread runs on one core. `--report` prints the table; `--json` writes the points for it and for the pictures of docs/pictures.py.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from report import add_json, written

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.diagnostics.explain import expected, explain
from onnxruntime_ep_sparse.measure.agreement import agree_by_name
from onnxruntime_ep_sparse.measure.machine import environment
from onnxruntime_ep_sparse.measure.protocol import named_outputs
from onnxruntime_ep_sparse.measure.spread import judged
from onnxruntime_ep_sparse.models import BUILDERS, FORMATS, inputs_for
from onnxruntime_ep_sparse.models.masks import mask
from onnxruntime_ep_sparse.records import counted

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("provider", "kernels", "setup.py")
"""What a build is made of: other commits of these are other builds."""
ZEROS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
THREADS = (1, 2)
SCREENING_PAIRS, LEAST_PAIRS, SCREENING_S = 8, 4, 20.0
REPEATS, REPEAT_PAIRS, REPEAT_S = 3, 30, 30.0
CONTROL_S = 10.0
SLOWER, FAILS = 1.0, 0.97
TABLE = {
    "name": "",
    "columns": [["net", "{model}"], ["threads", "{threads}"], ["batch", "{batch}"]],
    "across": ["{zeros:.0%} zeros", "{speedup:.2f}"],
    "missing": "-",
}
"""The table of the document."""
CLOSE = 0.25
"""How far a predicted speed-up may be from the measured one, as a share of it."""


@dataclass(frozen=True)
class Net:
    """A net of the sweep: its batches, the sizes of inputs for a batch, and roughly the seconds of a screening of one item."""

    batches: tuple[int, ...]
    seconds: float
    shapes: Callable[[int], dict[str, tuple[int, ...]]] = lambda batch: {}


IMAGES, SEQUENCES = (1, 3, 8), (1, 3, 8, 17)
NETS = {
    "resnet50": Net(IMAGES, 1.3),
    "mobilenet_v1": Net(IMAGES, 0.3),
    "mobilenet_v2": Net(IMAGES, 0.2),
    "mobilenet_v3": Net(IMAGES, 0.15),
    "efficientnet_b0": Net(IMAGES, 0.5),
    "unet": Net(IMAGES, 6.0, lambda batch: {"input": (batch, 1, 512, 512)}),
    "convnext_tiny": Net(IMAGES, 2.0),
    "nasnet_mobile": Net(IMAGES, 0.8),
    "deeplab_v3": Net(IMAGES, 3.0),
    "bert_base": Net(SEQUENCES, 5.0),
    "lstm": Net(SEQUENCES, 1.5),
    "gru": Net(SEQUENCES, 1.2),
    "streaming_lstm": Net(SEQUENCES, 0.1),
    "mlp_policy": Net(SEQUENCES, 0.1),
}
FILE = Net((1,), 1.0)
"""A file has the sizes that it declares, and 1 where they are open."""
FILE_ZEROS = (0.0, 0.5, 0.7, 0.9)
QUICK_ZEROS, QUICK_BATCHES, QUICK_THREADS = (0.0, 0.6, 0.9), (1, 3), (1,)


@dataclass(frozen=True, order=True)
class Point:
    """One measurement: a net, its share of zeros, the batch and the number of threads.

    `model` is a name of NETS, NAME:FORMAT, or the path of an ONNX file.
    """

    model: str
    zeros: float
    threads: int
    batch: int

    @property
    def net(self) -> Net:
        """What is known of the net."""
        return NETS.get(self.model.partition(":")[0], FILE)

    @property
    def seconds(self) -> float:
        """Roughly the time of it, for the estimate of the time left."""
        net = self.net
        return 0.2 + max(min(net.seconds * self.batch / self.threads, SCREENING_S), net.seconds * self.batch / self.threads / 2)


def predicted(model: bytes, inputs: Sequence[Any], feeds: measure.Feeds, threads: int) -> float:
    """The speed-up that the provider expects where the sizes of these inputs are known; 1 where it would then take nothing."""
    sizes = {d: size for i in inputs for d, size in zip(i.shape, feeds[i.name].shape, strict=True) if isinstance(d, str)}
    times = expected(explain(measure.make_session(model, EP_NAME, {"policy": "auto"}, threads, sizes)))
    return 1.0 if times is None else times.speedup


# one point


@contextmanager
def cores(threads: int) -> Iterator[None]:
    """This thread alone on one core, if it is the only one."""
    before = os.sched_getaffinity(0)
    if threads == 1:
        os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def screened(cpu: Any, ours: Any, feeds: measure.Feeds) -> measure.Ratio:
    """The speed-up of LEAST_PAIRS pairs, and of more up to SCREENING_PAIRS while SCREENING_S allows it."""
    ratios: list[float] = []
    began = time.perf_counter()
    while len(ratios) < SCREENING_PAIRS and (not ratios or 2 * (time.perf_counter() - began) < SCREENING_S):
        theirs, mine = measure.alternate(cpu, ours, feeds, pairs=LEAST_PAIRS)
        ratios += list(theirs.sum(axis=1) / mine.sum(axis=1))
    return measure.Ratio.of(ratios)


def measured(cpu: Any, control: Callable[[], Any], ours: Any, feeds: measure.Feeds) -> dict[str, Any]:
    """Screening, and if that is below SLOWER the repeats; with the CPU provider against itself, another session of `control`."""
    screening = screened(cpu, ours, feeds)
    repeats = []
    against_itself = None
    if screening.median < SLOWER:
        against_itself = measure.ratio(*measure.alternate(control(), cpu, feeds, pairs=REPEAT_PAIRS, budget_s=CONTROL_S)).to_dict()
        for _ in range(REPEATS):
            repeats.append(measure.ratio(*measure.alternate(cpu, ours, feeds, pairs=REPEAT_PAIRS, budget_s=REPEAT_S)).to_dict())
    return {"screening": screening.to_dict(), "repeats": repeats, "control": against_itself}


def of_sessions(model: bytes, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """Measure points that differ in the batch alone: their sessions are the same. A number of threads needs sessions of its own."""
    threads = points[0].threads
    ours = measure.make_session(model, EP_NAME, {"policy": "auto"}, threads)
    owned = measure.ownership(ours)
    cpu = measure.make_session(model, measure.CPU, None, threads) if owned.owned else None
    for point in points:
        began = time.perf_counter()
        line: dict[str, Any] = {"point": asdict(point), "owned": owned.owned, "nodes": owned.nodes}
        if cpu is not None:
            feeds = feeds_of(point, ours)
            both = [named_outputs(session, feeds) for session in (ours, cpu)]
            agreements = judged(agree_by_name(*both), *both, model, feeds, threads)
            with cores(threads):
                line |= measured(cpu, lambda: measure.make_session(model, measure.CPU, None, threads), ours, feeds)
            error, agrees = max(a.max_relative for a in agreements), all(a.within() for a in agreements)
            line |= {"error": error, "agrees": agrees, "predicted": predicted(model, ours.get_inputs(), feeds, threads)}
        yield line | {"seconds": round(time.perf_counter() - began, 2)}


PR_SET_PDEATHSIG = 1


def work(points: Sequence[Point]) -> None:
    """Measure points of one net in this process: a line of standard output before each, and one with its results.

    It ends with the process that started it, which may be killed while this one measures.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for (name, zeros, _), group in groupby(points, lambda point: (point.model, point.zeros, point.threads)):
        same = list(group)
        print(json.dumps({"begins": asdict(same[0])}), flush=True)
        model = built(name, zeros)
        for i, line in enumerate(of_sessions(model, same)):
            print(json.dumps(line), flush=True)
            if i + 1 < len(same):
                print(json.dumps({"begins": asdict(same[i + 1])}), flush=True)


def built(model: str, zeros: float) -> bytes:
    """The net with this share of zeros, in its format."""
    if model.endswith(".onnx"):
        return pruned_file(Path(model), zeros)
    name, _, stored = model.partition(":")
    made = BUILDERS[name](zeros)
    return (FORMATS[stored](made) if stored else made).SerializeToString()


def pruned_file(path: Path, zeros: float) -> bytes:
    """A file whose pruned weights have this share of zeros. All other weights stay."""
    model, rng = onnx.load(path), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        weight = onnx.numpy_helper.to_array(tensor).copy()
        empty = weight == 0
        if not 0.5 < empty.mean() < 1:
            continue
        weight[empty] = rng.standard_normal(np.count_nonzero(empty)) * weight[~empty].std()
        # as large as before, so that activations stay where they were
        weight *= np.float32(np.sqrt((1 - empty.mean()) / max(1 - zeros, 1e-6)))
        tensor.CopyFrom(onnx.numpy_helper.from_array(mask(weight, zeros, rng=rng), tensor.name))
    return model.SerializeToString()


def feeds_of(point: Point, session: Any) -> dict[str, np.ndarray]:
    """The inputs of a point: those of the file beside it, or random ones."""
    given = Path(point.model).with_suffix(".npz")
    if not point.model.endswith(".onnx") or not given.exists():
        return inputs_for(session, batch=point.batch, shapes=point.net.shapes(point.batch))
    with np.load(given) as arrays:
        return dict(arrays)


# all points


def machine() -> dict[str, Any]:
    """What results depend on besides the point."""
    known = environment()
    return {"version": known["version"], "commit": commit(), **{key: known[key] for key in ("cpu", "cores", "isa", "onnxruntime")}}


def commit() -> str:
    """The last commit that changed the sources, with a "+" if they have been edited since; "" outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments, "--", *SOURCES], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def points_of(nets: Sequence[str], zeros: Sequence[float], batches: Sequence[int], threads: Sequence[int]) -> list[Point]:
    """All points of these nets, in the order in which they are measured."""
    batches_of = {net: [b for b in NETS.get(net.partition(":")[0], FILE).batches if b in batches] for net in nets}
    return [Point(net, z, t, b) for net in nets for z in zeros for t in threads for b in batches_of[net]]


def read(path: Path, key: dict[str, Any]) -> dict[Point, dict[str, Any]]:
    """The results of this build and machine by point, the last line of each. A line that was cut off when it was written does not count."""
    found = {}
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["machine"] == key:
            found[Point(**line["point"])] = line
    return found


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line in one write, so that it is there as a whole or, where the machine stops, cut off by itself."""
    with path.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        ends = file.tell() == 0
        if not ends:
            file.seek(-1, os.SEEK_END)
            ends = file.read(1) == b"\n"
        os.write(file.fileno(), (b"" if ends else b"\n") + json.dumps(line).encode() + b"\n")
        os.fsync(file.fileno())


def in_processes(points: Sequence[Point], worker: Callable[[Sequence[Point]], list[str]], until: float) -> Iterator[dict[str, Any]]:
    """Lines of all points: a process per net of the command that `worker` makes, another one behind a point that kills it.

    Such a point has a line {"point", "died": exit status}. No point begins after the time `until` of the monotonic clock.
    """
    for _, group in groupby(points, lambda point: point.model):
        left = list(group)
        while left and time.monotonic() < until:
            at = left[0]
            with subprocess.Popen(worker(left), stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                for text in process.stdout:
                    line = json.loads(text)
                    if "begins" in line:
                        at = Point(**line["begins"])
                        if time.monotonic() >= until:
                            process.kill()
                            process.wait()
                            return
                        continue
                    left.remove(Point(**line["point"]))
                    yield line
            if left:
                left.remove(at)
                yield {"point": asdict(at), "died": process.returncode}


def ratio_of(line: dict[str, Any]) -> dict[str, Any] | None:
    """The ratio that counts: the middle one of the repeats, else that of the screening; None where nothing was timed."""
    if repeats := line.get("repeats"):
        return sorted(repeats, key=lambda repeat: repeat["median"])[len(repeats) // 2]
    return line.get("screening")


def speed_up(line: dict[str, Any]) -> float | None:
    """The measured speed-up; None where nothing was timed."""
    ratio = ratio_of(line)
    return None if ratio is None else ratio["median"]


def failure(line: dict[str, Any]) -> str:
    """Why a point fails, or ""."""
    if "died" in line:
        return f"the process died, exit status {line['died']}"
    if not line.get("agrees", True):
        return f"results differ by {line['error']:.0e}"
    repeats = line.get("repeats")
    if repeats and all(repeat["high"] < FAILS for repeat in repeats):
        ends = ", ".join(f"{repeat['high']:.3f}" for repeat in repeats)
        return f"slower: {speed_up(line):.3f}, the intervals end at {ends}"
    return ""


def outcome(line: dict[str, Any]) -> str:
    """The result of a point in a few words."""
    if reason := failure(line):
        return f"FAILS: {reason}"
    value = speed_up(line)
    if value is None:
        return "nothing taken"
    return f"{value:.2f}{' after repeats' if line['repeats'] else ''}, {line['owned']} of {line['nodes']} nodes"


def cell(line: dict[str, Any] | None) -> str:
    """A cell of the table."""
    if line is None:
        return ""
    value = speed_up(line)
    text = "-" if value is None and "died" not in line else "died" if value is None else f"{value:.2f}"
    return f"**{text}**" if failure(line) else text


def report(found: dict[Point, dict[str, Any]], wanted: Sequence[Point]) -> Iterator[str]:
    """The table in Markdown and what follows from it."""
    zeros = sorted({point.zeros for point in wanted})
    yield f"| net | threads | batch | {' | '.join(f'{z:.0%} zeros' for z in zeros)} |"
    yield f"| --- | --- | --- |{' --- |' * len(zeros)}"
    for model, threads, batch in dict.fromkeys((point.model, point.threads, point.batch) for point in wanted):
        cells = [cell(found.get(Point(model, z, threads, batch))) for z in zeros]
        yield f"| {model} | {threads} | {batch} | {' | '.join(cells)} |"
    lines = [found[point] for point in wanted if point in found]
    timed = [line for line in lines if speed_up(line) is not None]
    failing = [line for line in lines if failure(line)]
    told = [(line["predicted"], speed_up(line)) for line in timed if line.get("predicted") is not None]
    yield ""
    repeated = sum(bool(line["repeats"]) for line in timed)
    yield f"{len(lines)} of {len(wanted)} points; nothing is taken in {sum(line.get('owned') == 0 for line in lines)} of them (-)."
    yield f"{repeated} of {len(timed)} timed points were below {SLOWER} when screened. {len(failing)} points fail."
    if told:
        close = sum(abs(guess / value - 1) <= CLOSE for guess, value in told if value)
        yield f"The predicted speed-up is within {CLOSE:.0%} of the measured one in {close} of {len(told)} ({close / len(told):.0%})."
    else:
        yield "No speed-up was predicted."
    invalid = [line for line in timed if line["control"] and abs(line["control"]["median"] - 1) > measure.CONTROL_TOLERANCE]
    if invalid:
        yield f"In {len(invalid)} repeated points the CPU provider differs from itself by more than {measure.CONTROL_TOLERANCE:.0%}."
    for line in failing:
        yield f"- {named(Point(**line['point']))}: {failure(line)}"


def document(found: dict[Point, dict[str, Any]], wanted: Sequence[Point]) -> dict[str, Any]:
    """Return what was measured, as docs/data/ has it: "speedup", its interval and "predicted" are None where nothing was taken.

    "machine" is the number of an entry of "machines".
    """
    points: list[dict[str, Any]] = []
    machines: list[dict[str, Any]] = []
    for point in (point for point in wanted if point in found):
        line = found[point]
        if line["machine"] not in machines:
            machines.append(line["machine"])
        ratio = ratio_of(line) or {}
        figures = {"speedup": ratio.get("median"), "low": ratio.get("low"), "high": ratio.get("high"), "predicted": line.get("predicted")}
        rounded = {name: None if value is None else round(value, 3) for name, value in figures.items()}
        counts = {"owned": line.get("owned"), "nodes": line.get("nodes"), "machine": machines.index(line["machine"])}
        points.append({**asdict(point), **rounded, **counts})
    about = {"schema": 1, "command": "python tests/benchmarks/sweep.py", "date": date.today().isoformat()}
    return {**about, "machines": machines, "tables": [{**TABLE, "rows": points}]}


def named(point: Point) -> str:
    """A point in words."""
    name = Path(point.model).stem if point.model.endswith(".onnx") else point.model
    return f"{name}, {point.zeros:.0%} zeros, batch {point.batch}, {counted(point.threads, 'thread')}"


def sweep(path: Path, wanted: Sequence[Point], limit_s: float, worker: Callable[[Sequence[Point]], list[str]]) -> None:
    """Measure what the results lack, and say what came of each point and how long the rest will take."""
    key = machine()
    found = read(path, key)
    # a process that died may have been ended by someone
    missing = [point for point in wanted if point not in found or "died" in found[point]]
    print(f"{len(missing)} of {len(wanted)} points to measure; {', '.join(f'{name} {value}' for name, value in key.items())}", flush=True)
    began, expected, total = time.monotonic(), 0.0, sum(point.seconds for point in missing)
    for number, line in enumerate(in_processes(missing, worker, began + limit_s), 1):
        append(path, {"machine": key, **line})
        point = Point(**line["point"])
        expected += point.seconds
        left = (total - expected) * (time.monotonic() - began) / expected
        print(f"{number}/{len(missing)}, {left / 60:.0f} min left: {named(point)}: {outcome(line)}", flush=True)


def numbers(kind: type) -> Callable[[str], list[Any]]:
    """A reader of numbers with commas between them."""
    return lambda text: [kind(part) for part in text.split(",")]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("sweep.jsonl"))
    parser.add_argument("--report", action="store_true", help="print the table in Markdown, measure nothing")
    parser.add_argument("--quick", action="store_true", help="a sample: other zeros, batches and threads only if they are named")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NET,...")
    parser.add_argument("--formats", type=lambda text: text.split(","), metavar="FORMAT,...", help=f"some of {', '.join(FORMATS)}")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="sweep the ONNX files of a folder")
    parser.add_argument("--zeros", type=numbers(float), metavar="SHARE,...", help="from 0 to 1")
    parser.add_argument("--batches", type=numbers(int), metavar="N,...")
    parser.add_argument("--threads", type=numbers(int), metavar="N,...")
    add_json(parser)
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="begin no point after this time")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work([Point(**point) for point in json.loads(arguments.work)])
        return 0
    there = list(NETS) if arguments.files is None else sorted(path.stem for path in arguments.files.glob("*.onnx"))
    only = arguments.only or there
    if unknown := set(only) - set(there):
        parser.error(f"no net {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    if unknown := set(arguments.formats or ()) - FORMATS.keys():
        parser.error(f"no format {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    if arguments.files is not None:
        only = [str((arguments.files / name).with_suffix(".onnx")) for name in only]
    elif arguments.formats:
        only = [f"{name}:{stored}" for name in only for stored in arguments.formats]
    wanted = points_of(
        only,
        arguments.zeros or (QUICK_ZEROS if arguments.quick else ZEROS if arguments.files is None else FILE_ZEROS),
        arguments.batches or (QUICK_BATCHES if arguments.quick else SEQUENCES),
        arguments.threads or (QUICK_THREADS if arguments.quick else THREADS),
    )
    if not wanted:
        parser.error("no net has such a point")
    available = len(os.sched_getaffinity(0))
    if (most := max(point.threads for point in wanted)) > available and not arguments.report:
        parser.error(f"{most} threads need as many cores, and {available} may be used")
    if not arguments.report:

        def worker(points: Sequence[Point]) -> list[str]:
            return [sys.executable, __file__, "--work", json.dumps([asdict(point) for point in points])]

        sweep(arguments.results, wanted, arguments.limit_seconds, worker)
    found = read(arguments.results, machine())
    print("\n".join(report(found, wanted)))
    if arguments.json:
        arguments.json.write_text(written(document(found, wanted)))
    return int(any(failure(found[point]) for point in wanted if point in found))


if __name__ == "__main__":
    sys.exit(main())
