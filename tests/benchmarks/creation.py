"""How long creating a session takes and what it costs in memory, ONNX Runtime's CPU provider and ours, each in fresh processes.

    python tests/benchmarks/creation.py [--threads 2] [--repeats 5] [--files] [--json FILE] [MODEL ...]

Models at 90 % zeros, read from a file. Time is the best of the processes; memory is the least, in MB more than before: the peak, and what
is resident after three runs. `--files`: our provider on the compressed and the compiled model as well, and the sizes of all these files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.formats import compressed_model
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.ort import registration

MODELS = ("resnet50", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "unet", "bert_base", "lstm")
COLUMNS = (
    ("model", "{model}"),
    ("CPU ms", "{cpu_ms:.0f}"),
    ("ours ms", "{ours_ms:.0f}"),
    ("ratio", "**{ratio:.2f}**"),
    ("CPU peak MB", "{cpu_peak_mb:.0f}"),
    ("ours", "{ours_peak_mb:.0f}"),
    ("CPU MB after 3 runs", "{cpu_mb:.0f}"),
    ("ours", "{ours_mb:.0f}"),
)
COLUMNS_OF_FILES = (
    ("model", "{model}"),
    ("dense MB", "{dense_mb:.1f}"),
    ("compressed", "{compressed_mb:.1f} ({compressed_share:.1%})"),
    ("compiled", "{compiled_mb:.1f} ({compiled_share:.1%})"),
    ("CPU ms", "{cpu_ms:.0f}"),
    ("ours ms", "{ours_ms:.0f}"),
    ("compressed", "{compressed_ms:.0f}"),
    ("compiled", "{compiled_ms:.0f}"),
    ("in one file", "{one_ms:.0f}"),
    ("compressed / CPU", "**{compressed_ratio:.2f}**"),
    ("compiled / CPU", "**{compiled_ratio:.2f}**"),
    ("one / CPU", "**{one_ratio:.2f}**"),
)


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


def table(report: Report, models: Sequence[str], threads: int, repeats: int) -> None:
    """Measure both providers on dense files."""
    report.table("", COLUMNS)
    for name, path in written(models):
        cpu, ours = (best(str(path), provider, threads, repeats) for provider in (measure.CPU, sparse.EP_NAME))
        sides = {f"{side}_{what}": of[n] for side, of in (("cpu", cpu), ("ours", ours)) for n, what in enumerate(("ms", "peak_mb", "mb"))}
        report.row(model=name, ratio=ours[0] / cpu[0], **sides)


def table_of_files(report: Report, models: Sequence[str], threads: int, repeats: int) -> None:
    """Measure our provider on the dense, the compressed and the compiled model in two files and one, and the CPU provider on the dense."""
    report.table("", COLUMNS_OF_FILES)
    for name, path in written(models):
        packed, two, one = (path.parent / form / "model.onnx" for form in ("packed", "two", "one"))
        for target in (packed, two, one):
            target.parent.mkdir(exist_ok=True)
        compressed_model.pack(path, packed)
        for target in (two, one):
            compile_model(path, target, embed=target == one)
        dense, compressed, compiled = (sum(file.stat().st_size for file in p.parent.glob("*.*")) / 1e6 for p in (path, packed, two))
        cpu = best(str(path), measure.CPU, threads, repeats)[0]
        ours = [best(str(p), sparse.EP_NAME, threads, repeats)[0] for p in (path, packed, two, one)]
        sizes = {"dense_mb": dense, "compressed_mb": compressed, "compiled_mb": compiled}
        shares = {"compressed_share": compressed / dense, "compiled_share": compiled / dense}
        forms = ("ours", "compressed", "compiled", "one")
        times = {f"{form}_ms": ms for form, ms in zip(forms, ours, strict=True)}
        ratios = {f"{form}_ratio": ms / cpu for form, ms in zip(forms, ours, strict=True) if form != "ours"}
        report.row(model=name, cpu_ms=cpu, **sizes, **shares, **times, **ratios)


def compile_model(source: Path, target: Path, *, embed: bool) -> None:
    """With ONNX Runtime's usual optimisations."""
    ort = registration.runtime()
    every = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options = registration.session_options()
    ort.ModelCompiler(options, str(source), embed_compiled_data_into_model=embed, graph_optimization_level=every).compile_to_file(
        str(target)
    )


def written(models: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name and file of each model, in a folder of its own."""
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(BUILDERS[name](sparsity=0.9).SerializeToString())
            yield name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", action="store_true")
    add_json(parser)
    parser.add_argument("--in-this-process", metavar="PROVIDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        print(json.dumps(created(arguments.models[0], arguments.in_this_process, arguments.threads)))
        return
    with Report(arguments.json) as report:
        (table_of_files if arguments.files else table)(report, arguments.models, arguments.threads, arguments.repeats)


if __name__ == "__main__":
    main()
