"""The table of docs/benchmarks.md: models x sparsity x batch, our provider against the CPU provider, by the protocol of `measure`.

    python tests/benchmarks/models.py [--threads 2] [--pairs 30] [--json FILE] [CASE ...]

A case is NAME:SPARSITY:BATCH or, of a model of sequences, NAME:SPARSITY:BATCHxLENGTH, with a name of
`onnxruntime_ep_sparse.models.BUILDERS`; or a path to an ONNX file. Cases run one after
another, each in a process of its own; a case in which our provider owns nothing says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from report import Report, add_json

COLUMNS = (
    ("model:sparsity:batch", "{case}"),
    ("nodes owned", "{owned} of {nodes}"),
    ("CPU p50 ms", "{cpu_ms:.2f}"),
    ("ours p50 ms", "{ours_ms:.2f}"),
    ("speed-up [95 %]", "**{speedup:.2f}** [{low:.2f}, {high:.2f}]"),
    ("A/A", "{control:.3f}"),
    ("error", "{error:.0e}"),
)
CASES = [
    *(f"resnet50:{sparsity}:{batch}" for batch in (1, 16) for sparsity in (0.8, 0.9, 0.95)),
    "resnet50:0:1",
    *(f"mobilenet_v1:{sparsity}:{batch}" for batch in (1, 16) for sparsity in (0.8, 0.9, 0.95)),
    *(f"{name}:{sparsity}:1" for name in ("mobilenet_v2", "efficientnet_b0", "unet", "bert_base") for sparsity in (0.8, 0.9, 0.95)),
    *(f"bert_base:{sparsity}:{size}" for size in ("1x16", "1x512", "8x128") for sparsity in (0.8, 0.9, 0.95)),
    *(f"{name}:{sparsity}:{batch}" for name in ("lstm", "deep_speech") for batch in (1, 16) for sparsity in (0.8, 0.9, 0.95)),
]


def run(case: str, threads: int, pairs: int) -> dict:
    """Measure one case through the command line's `bench`, which builds the model, checks results and ownership."""
    if Path(case).exists():
        arguments = [case]
    else:
        name, sparsity, size = case.split(":")
        batch, _, length = size.partition("x")
        arguments = [f"model:{name}:{sparsity}", "--batch", batch]
        for tokens in ("input_ids", "attention_mask") if length else ():
            arguments += ["--shape", f"{tokens}={batch}x{length}"]
    command = [sys.executable, "-m", "onnxruntime_ep_sparse", "bench", *arguments]
    command += ["--threads", str(threads), "--pairs", str(pairs), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    return json.loads(done.stdout) if done.stdout else {"error": done.stderr.strip().splitlines()[-1:]}


def row(document: dict) -> dict[str, Any]:
    """Return the figures of a line of the table; texts where there are none."""
    if "error" in document:
        return {"cpu_ms": f"failed: {document['error']}"}
    owned = {"owned": document["ownership"]["owned"], "nodes": document["ownership"]["nodes"]}
    speed, control = document.get("speed_up"), document.get("control")
    if speed is None or control is None:
        return {**owned, "cpu_ms": "not taken"}
    return {
        **owned,
        "cpu_ms": document["cpu"]["latency"]["p50_ms"],
        "ours_ms": document["sparse"]["latency"]["p50_ms"],
        "speedup": speed["median"],
        "low": speed["low"],
        "high": speed["high"],
        "control": control["median"],
        "error": max(a["max_relative"] for a in document["agreement"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=30)
    add_json(parser)
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        for case in arguments.cases:
            report.row(case=case, **row(run(case, arguments.threads, arguments.pairs)))


if __name__ == "__main__":
    main()
