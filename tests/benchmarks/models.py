"""The table of docs/benchmarks.md: models x sparsity x batch, our provider against the CPU provider, by the protocol of `measure`.

    python tests/benchmarks/models.py [--threads 1 2] [--pairs 30] [--budget 60] [--json FILE] [CASE ...]

A case is NAME:SPARSITY:BATCH[:PATTERN], with a name of `onnxruntime_ep_sparse.models.BUILDERS` or "volumes", six 3-D convolutions. Or it is
the path of an ONNX file. BATCHxLENGTH stands for sequences of that length, BATCHxHEIGHTxWIDTH for images of a net of open size. Cases run
one after another, each in a process of its own. One whose A/A ratio is not valid is measured once more. A case in which our provider owns
nothing says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from report import Columns, Report, add_json, valid

from onnxruntime_ep_sparse.models.network import Network

CASES = [
    *(f"resnet50:{sparsity}:{batch}" for batch in (1, 16) for sparsity in (0.8, 0.9, 0.95)),
    *(f"resnet50:{sparsity}:1:block4" for sparsity in (0.5, 0.6, 0.8, 0.9)),
    *(f"mobilenet_v1:{sparsity}:{batch}" for batch in (1, 16) for sparsity in (0.8, 0.9, 0.95)),
    *(f"{name}:{sparsity}:1" for name in ("mobilenet_v2", "efficientnet_b0", "vgg16", "volumes") for sparsity in (0.8, 0.9, 0.95)),
    *(f"unet:{sparsity}:1x512x512" for sparsity in (0.8, 0.9, 0.95)),
    "nasnet_mobile:0.9:1",
    *(f"bert_base:0.9:{size}" for size in ("1x16", "1x128")),
    "lstm:0.9:1",
    "lstm:0.9:16",
    "deep_speech:0.9:1",
]
VOLUME = (32, 64, 64)
"""Depth, height and width of the images of "volumes"."""


def columns(threads: Sequence[int]) -> Columns:
    """Return the columns of a table with so many threads: a pair of them for each number."""
    found = [("model:sparsity:batch", "{case}"), ("nodes owned", "{owned} of {nodes}")]
    for count in threads:
        after = f", {count} thread{'s' if count > 1 else ''}"
        found.append((f"CPU, ours p50 ms{after}", f"{{cpu_ms_{count}:.1f}}, {{ours_ms_{count}:.1f}}"))
        found.append((f"speed-up [95 %]{after}", f"**{{speedup_{count}:.2f}}** [{{low_{count}:.2f}}, {{high_{count}:.2f}}]"))
    return [*found, ("A/A", "{control:.3f}"), ("error", "{error:.0e}")]


def volumes(sparsity: float, pattern: str, target: Path) -> None:
    """Write six convolutions 32 -> 32 3x3x3 with ReLU, as segmentation of volumes has them."""
    net = Network("volumes", sparsity, pattern)
    x = net.input("input", ["batch", 32, *VOLUME])
    for i in range(6):
        x = net.node("Relu", [net.conv(x, 32, 3, f"conv.{i}", rank=3)], f"relu.{i}", channels=32)
    net.output(x, ["batch", 32, *VOLUME])
    target.write_bytes(net.model().SerializeToString())


def arguments_of(case: str, folder: Path) -> list[str]:
    """Return the arguments of `ort-sparse bench` for a case; a model that the command line cannot build is written to the folder."""
    if Path(case).exists():
        return [case]
    name, sparsity, size, pattern = (*case.split(":"), "unstructured")[:4]
    batch, *open_sizes = size.split("x")
    if name == "volumes":
        target = folder / "volumes.onnx"
        volumes(float(sparsity), pattern, target)
        return [str(target), "--batch", batch]
    found = [f"model:{name}:{sparsity}:{pattern}", "--batch", batch]
    if len(open_sizes) == 1:
        for tokens in ("input_ids", "attention_mask"):
            found += ["--shape", f"{tokens}={batch}x{open_sizes[0]}"]
    elif open_sizes:
        found += ["--shape", f"input={batch}x1x{'x'.join(open_sizes)}"]
    return found


def run(case: str, threads: int, options: argparse.Namespace) -> dict:
    """Measure one case through the command line's `bench`, which builds the model, checks results and ownership."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "onnxruntime_ep_sparse", "bench", *arguments_of(case, Path(folder))]
        command += ["--threads", str(threads), "--pairs", str(options.pairs), "--budget", str(options.budget), "--no-memory", "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.stdout else {"error": done.stderr.strip().splitlines()[-1:]}


def figures(document: dict, threads: int) -> dict[str, Any]:
    """Return the figures of a case with so many threads; texts where there are none."""
    if "error" in document:
        return {f"cpu_ms_{threads}": f"failed: {document['error']}", f"ours_ms_{threads}": "-"}
    owned = {"owned": document["ownership"]["owned"], "nodes": document["ownership"]["nodes"]}
    speed, control = document.get("speed_up"), document.get("control")
    if speed is None or control is None:
        return {**owned, f"cpu_ms_{threads}": "not taken", f"ours_ms_{threads}": "-"}
    return {
        **owned,
        f"cpu_ms_{threads}": document["cpu"]["latency"]["p50_ms"],
        f"ours_ms_{threads}": document["sparse"]["latency"]["p50_ms"],
        f"speedup_{threads}": speed["median"],
        f"low_{threads}": speed["low"],
        f"high_{threads}": speed["high"],
        "control": control["median"],
        "error": max(a["max_relative"] for a in document["agreement"]),
    }


def row(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a case with every number of threads. The row's A/A ratio is the one furthest from 1, its error the largest."""
    found: dict[str, Any] = {"case": case}
    parts = []
    for threads in options.threads:
        part = figures(run(case, threads, options), threads)
        if not valid(part):
            part = figures(run(case, threads, options), threads)
        parts.append(part)
        found |= part
    if any("control" in part for part in parts):
        found["control"] = max((part["control"] for part in parts if "control" in part), key=lambda control: abs(control - 1))
        found["error"] = max(part["error"] for part in parts if "error" in part)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which a slow model gets fewer pairs")
    add_json(parser)
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        report.table("", columns(arguments.threads))
        for case in arguments.cases:
            report.row(**row(case, arguments))


if __name__ == "__main__":
    main()
