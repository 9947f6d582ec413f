"""Kernels on real layer shapes, one thread, no ONNX Runtime: effective GFLOP/s and their share of the FMA peak measured in the same run.

    python tests/benchmarks/layers.py [--sparsity 0.9] [--isa avx2] [--batch 1]

A layer runs as a program of one step, so gathering, blocking and finishing count; the last line is weighted by time over ResNet-50.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import packing
from onnxruntime_ep_sparse._program import Program
from onnxruntime_ep_sparse.models.masks import mask
from onnxruntime_ep_sparse.steps import ProgramSpec, Step, StepKind, Window
from onnxruntime_ep_sparse_kernels import call, variants
from onnxruntime_ep_sparse_kernels.variants import SHARED

Layer = tuple[int, int, int, int, int, int]
"""Input channels, outputs, kernel, stride, image size, how often ResNet-50 has it."""


def resnet50() -> Iterator[Layer]:
    """The pruned convolutions of ResNet-50."""
    channels, size = 64, 56
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        stride = 2 if stage else 1
        out = size // stride
        yield channels, width, 1, 1, size, 1
        yield width, width, 3, stride, size, 1
        yield channels, 4 * width, 1, stride, size, 1
        yield width, 4 * width, 1, 1, out, blocks
        yield 4 * width, width, 1, 1, out, blocks - 1
        yield width, width, 3, 1, out, blocks - 1
        channels, size = 4 * width, out


def best_seconds(run, repeats: int) -> float:
    """Shortest of some runs after a warm-up: what the code can do on a machine that is not quiet."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_gflops(isa: variants.Isa) -> float:
    """FMA peak: the widest kernel for rows that share columns, on one pixel block that stays in L1, dense, with long rows."""
    nv, depth = isa.widest(SHARED), 64
    width = nv * isa.lanes
    tile = np.ones(depth * width + 16, np.float32)
    offset = np.tile(np.arange(depth, dtype=np.uint16) * width, 64)[:, None]
    value = np.full((len(offset), 4), 1e-3, np.float32)
    row_start, row = np.array([0, len(offset)], np.int32), np.arange(4, dtype=np.int32)[None]
    y = np.zeros((4, width), np.float32)
    table = kernels.table(isa.name)
    seconds = best_seconds(lambda: call.spmm(table, SHARED, nv, row_start, row, offset, value, tile, y[:, 0].copy(), y, repeat=200), 20)
    return 2 * value.size * width * 200 / seconds / 1e9


def layer_seconds(isa: variants.Isa, layer: Layer, sparsity: float, batch: int, rng: np.random.Generator) -> tuple[float, int]:
    """Best time of one layer and its multiply-adds by nonzeros."""
    channels, outputs, kernel, stride, size, _ = layer
    weight = rng.standard_normal((outputs, channels, kernel, kernel)).astype(np.float32)
    weight = mask(weight, sparsity, "unstructured", rng).astype(np.float32)
    pad = kernel // 2
    window = Window((kernel,) * 2, (stride,) * 2, (1, 1), (pad,) * 2, (pad,) * 2)
    product = packing.convolution(weight, None, window, 1, (size, size), isa)
    spec = ProgramSpec(2, {"x": 0}, {"y": 1}, {}, (Step(StepKind.PRODUCT, 0, 1, product=product, window=window),))
    program = Program(spec, kernels.table(isa.name), 1)
    x = rng.standard_normal((batch, channels, size, size)).astype(np.float32)
    out = (size - 1) // stride + 1
    return best_seconds(lambda: program.run(x), 7), int(np.count_nonzero(weight)) * out * out * batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--isa", default=kernels.available_isas()[0])
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    isa = next(isa for isa in variants.ISAS if isa.name == arguments.isa)
    rng = np.random.default_rng(0)
    peak = peak_gflops(isa)
    print(f"{isa.name}, one thread, FMA peak {peak:.0f} GFLOP/s, {arguments.sparsity:.0%} zeros, batch {arguments.batch}")
    print("| layer | count | ms | GFLOP/s | dense-equivalent | share of peak |\n| --- | --- | --- | --- | --- | --- |")
    total_seconds, total_macs = 0.0, 0
    for layer in resnet50():
        channels, outputs, kernel, stride, size, count = layer
        seconds, macs = layer_seconds(isa, layer, arguments.sparsity, arguments.batch, rng)
        rate = 2 * macs / seconds / 1e9
        name = f"{channels}->{outputs} {kernel}x{kernel}/{stride} @{size}"
        print(f"| {name} | {count} | {seconds * 1e3:.3f} | {rate:.1f} | {rate / (1 - arguments.sparsity):.0f} | {rate / peak:.0%} |")
        total_seconds += count * seconds
        total_macs += count * macs
    rate = 2 * total_macs / total_seconds / 1e9
    print(f"| all | | {total_seconds * 1e3:.2f} | {rate:.1f} | {rate / (1 - arguments.sparsity):.0f} | {rate / peak:.0%} |")


if __name__ == "__main__":
    main()
