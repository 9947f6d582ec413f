"""What each of ten processes costs in memory that have a session of the same model, and how long creating it takes.

    python tests/benchmarks/workers.py [--workers 10] [--threads 1] [--repeats 1] [--json FILE] [MODEL ...]

Models at 90 % zeros. For each way of giving the model to the workers, `--workers` fresh processes are started one after the other. Each
creates its session, runs it three times and waits. When all of them wait, the proportional set size (PSS) of each is read from
/proc/PID/smaps_rollup: a page that n processes share counts as 1/n. The PSS of workers that have loaded ONNX Runtime and the provider but
have no session is subtracted. Shown are medians of all workers.

    "CPU"            the dense model with the CPU provider
    "CPU, data"      the same with its weights in external data
    "dense"          the dense model with our provider
    "cached"         the same with the option `cache_dir`; the first worker packs
    "compiled"       the compiled model in one file
    "beside"         the compiled model with its weights in files beside it

"shared" is what a worker has of pages that belong to files of the model or the cache, "weights" what it holds of weights and what is made
of them without those, "runs" the memory that waits for the next run. `--repeats` does everything so many times, the ways in turn, for the
times of creation.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from creation import compile_model
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.runtime import _arenas, _weight_store

WAYS = {"CPU": measure.CPU, "CPU, data": measure.CPU, **dict.fromkeys(("dense", "cached", "compiled", "beside"), sparse.EP_NAME)}
"""Way of giving the model to a worker -> provider."""
COLUMNS = (
    ("model", "{model}"),
    ("way", "{way}"),
    ("PSS MB", "{pss_mb:.1f}"),
    ("ratio", "**{ratio:.2f}**"),
    ("shared MB", "{shared_mb:.1f}"),
    ("weights MB", "{weights_mb:.1f}"),
    ("runs MB", "{runs_mb:.1f}"),
    ("creation ms", "{creation_ms:.0f}"),
)


def work(model: str, provider: str, threads: int, cache: str | None) -> None:
    """Create a session of `model`, or none without one, run it, say what it cost, and wait for the end of stdin."""
    sparse.register()
    said: dict[str, float] = {}
    if model:
        start = time.perf_counter()
        session = measure.make_session(model, provider, {"cache_dir": cache} if cache else None, threads)
        said["ms"] = 1e3 * (time.perf_counter() - start)
        feeds = inputs_for(session)
        for _ in range(3):
            session.run(None, feeds)
        said |= {"weights": _weight_store.held()[1] / 2**20, "runs": _arenas.held()[1] / 2**20}
    print(json.dumps(said), flush=True)
    sys.stdin.read()


def pss_mb(pid: int, folder: str) -> tuple[float, float]:
    """Return the proportional set size of a process in MB, and how much of it are pages of files below `folder`."""
    whole = float(re.findall(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[0])
    mapped, inside = 0.0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            inside = folder in line
        elif inside and line.startswith("Pss:"):
            mapped += float(line.split()[1])
    return whole / 1024, mapped / 1024


def together(model: str, provider: str, threads: int, workers: int, cache: Path | None) -> list[dict[str, float]]:
    """Return what so many workers said that were there at the same time, with their PSS (`pss`, `shared`) in MB."""
    command = [sys.executable, __file__, "--threads", str(threads), "--work", provider, model, *(["--cache", str(cache)] if cache else [])]
    with ExitStack() as stack:
        found, processes = [], []
        for _ in range(workers):
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            assert process.stdin is not None
            assert process.stdout is not None
            stack.callback(process.stdin.close)
            processes.append(process)
            found.append(json.loads(process.stdout.readline()))
        for process, said in zip(processes, found, strict=True):
            said["pss"], said["shared"] = pss_mb(process.pid, str(Path(model).parent) if model else "\0")
    return found


def files(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Write a model in every form. Yield way and path."""
    model = BUILDERS[name](sparsity=0.9)
    path = {way: folder / way.replace(", ", "_") / "model.onnx" for way in WAYS}
    for target in path.values():
        target.parent.mkdir()
    for way in ("CPU", "dense", "cached"):
        path[way].write_bytes(model.SerializeToString())
    onnx.save(model, str(path["CPU, data"]), save_as_external_data=True, location="model.data")
    for way in ("compiled", "beside"):
        compile_model(path["dense"], path[way], embed=way == "compiled")
    for way, target in path.items():
        yield way, str(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet50"], metavar="MODEL")
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    add_json(parser)
    parser.add_argument("--work", metavar="PROVIDER", help=argparse.SUPPRESS)
    parser.add_argument("--cache", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        work(given.models[0], given.work, given.threads, given.cache)
        return
    with Report(given.json) as report:
        report.table("", COLUMNS)
        for name in given.models:
            measured(report, name, given.threads, given.workers, given.repeats)


def measured(report: Report, name: str, threads: int, count: int, repeats: int) -> None:
    """Measure `count` workers with a model for each way of giving it to them."""
    with tempfile.TemporaryDirectory() as folder:
        ways = dict(files(name, Path(folder)))
        said: dict[str, list[dict[str, float]]] = {"": [], **{way: [] for way in ways}}
        for _ in range(repeats):
            for way in said:
                cache = Path(ways[way]).parent if way == "cached" else None
                said[way] += together(ways.get(way, ""), WAYS.get(way, ""), threads, count, cache)
    none = float(np.median([worker["pss"] for worker in said.pop("")]))
    least = np.median([worker["pss"] for worker in said["CPU"]]) - none
    for way, workers in said.items():
        median = {key: float(np.median([worker[key] for worker in workers])) for key in workers[0]}
        pss = median["pss"] - none
        report.row(
            model=name,
            way=way,
            ratio=pss / least,
            creation_ms=median["ms"],
            without_mb=none,
            weights_mb=median["weights"],
            runs_mb=median["runs"],
            pss_mb=pss,
            shared_mb=median["shared"],
        )


if __name__ == "__main__":
    main()
