"""How time grows with the batch, and time and memory with the image.

    python tests/benchmarks/sizes.py [--threads 2] [--json FILE] batches [--seconds 30] [MODEL ...]
    python tests/benchmarks/sizes.py [--threads 2] [--json FILE] images [--pairs 6]

`batches`: our best time per image at every batch, of rounds over all batches, and the worst of them against its better neighbour.
`images`: U-Net and MobileNetV1's features on large images, both providers in turn (see `measure.alternate`), and what a session costs in
memory.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from report import Report, add_json

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models import BUILDERS
from onnxruntime_ep_sparse.models.images import mobilenet_v1, unet

BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33)
IMAGES = (("unet", 512, 512), ("unet", 1024, 1024), ("unet", 2048, 2048), ("mobilenet_v1 features", 2160, 3840))

COLUMNS_OF_BATCHES = (("model", "{model}"), ("worst to its better neighbour", "{worst:.2f}"))
COLUMNS_OF_IMAGES = (
    ("model", "{model}"),
    ("image", "{width}x{height}"),
    ("CPU ms", "{cpu_ms:.0f}"),
    ("ours ms", "{ours_ms:.0f}"),
    ("speed-up", "**{speedup:.2f}**"),
    ("ours ns per pixel", "{ours_ns:.0f}"),
    ("CPU MB", "{cpu_mb:.0f}"),
    ("ours MB", "{ours_mb:.0f}"),
)


def owned_session(model: bytes, provider: str, threads: int):
    """A session in which the provider has every node."""
    session = measure.make_session(model, provider, None, threads)
    owned = measure.ownership(session)
    assert provider != EP_NAME or owned.owned == owned.nodes, f"{owned.owned} of {owned.nodes} nodes"
    return session


def batches(report: Report, name: str, threads: int, seconds: float) -> None:
    """Measure the best time per image of every batch."""
    session = owned_session(BUILDERS[name](sparsity=0.9).SerializeToString(), EP_NAME, threads)
    x = np.random.default_rng(0).standard_normal((max(BATCHES), 3, 224, 224)).astype(np.float32)
    feed = session.get_inputs()[0].name
    for batch in BATCHES:
        session.run(None, {feed: x[:batch]})
    best = dict.fromkeys(BATCHES, np.inf)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for batch in BATCHES:
            start = time.perf_counter()
            session.run(None, {feed: x[:batch]})
            best[batch] = min(best[batch], (time.perf_counter() - start) * 1e3 / batch)
    times = list(best.values())
    worst = max(ms / min(times[max(i - 1, 0) : i] + times[i + 1 : i + 2]) for i, ms in enumerate(times))
    report.rows([{"model": name, "worst": worst, "batch": batch, "ms": ms} for batch, ms in best.items()])


def images(report: Report, threads: int, pairs: int) -> None:
    """Measure both providers on large images."""
    models = {"unet": unet(0.9).SerializeToString(), "mobilenet_v1 features": mobilenet_v1(0.9, classes=0).SerializeToString()}
    for name, height, width in IMAGES:
        model = models[name]
        cpu, ours = (owned_session(model, provider, threads) for provider in (measure.CPU, EP_NAME))
        feed = ours.get_inputs()[0]
        feeds = {feed.name: np.random.default_rng(0).standard_normal((1, feed.shape[1], height, width)).astype(np.float32)}
        (agreement,) = measure.agree(["y"], ours.run(None, feeds), cpu.run(None, feeds))
        assert agreement.within(1e-4), agreement
        theirs, mine = measure.alternate(cpu, ours, feeds, pairs=pairs)
        memory = [measure.memory_of(model, provider, feeds, None, threads) or np.nan for provider in (measure.CPU, EP_NAME)]
        report.row(
            model=name,
            width=width,
            height=height,
            cpu_ms=float(np.median(theirs)) * 1e3,
            ours_ms=float(np.median(mine)) * 1e3,
            speedup=measure.ratio(theirs, mine).median,
            ours_ns=float(np.median(mine)) * 1e9 / (height * width),
            cpu_mb=memory[0],
            ours_mb=memory[1],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    add_json(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    over_batches = commands.add_parser("batches")
    over_batches.add_argument("models", nargs="*", default=["resnet50", "mobilenet_v1"])
    over_batches.add_argument("--seconds", type=float, default=30)
    commands.add_parser("images").add_argument("--pairs", type=int, default=6)
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        if arguments.command == "images":
            report.table("", COLUMNS_OF_IMAGES)
            images(report, arguments.threads, arguments.pairs)
        else:
            report.table("", COLUMNS_OF_BATCHES, ("batch {batch}", "{ms:.2f}"))
            for name in arguments.models:
                batches(report, name, arguments.threads, arguments.seconds)


if __name__ == "__main__":
    main()
