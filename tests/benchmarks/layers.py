"""Kernels on real layer shapes, one thread, no ONNX Runtime: effective GFLOP/s and their share of the FMA peak measured in the same run.

    python tests/benchmarks/layers.py [NET ...] [--sparsity 0.9 ...] [--pattern unstructured] [--isa NAME] [--batch 1] [--totals]
                                      [--json FILE]

A layer runs as a program of one step, so gathering, blocking and finishing count; the last line of a net is weighted by time. Only pruned
layers are there; DEPTHWISE has the depthwise ones of MobileNetV1 and EfficientNet-B0, FIRST has first convolutions, all dense.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
from report import Report, add_json

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.measure import best_seconds, peak_gflops
from onnxruntime_ep_sparse.models.masks import mask
from onnxruntime_ep_sparse.program import packing
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.reduce import Reduce
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step, Window
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.elementwise import Op
from onnxruntime_ep_sparse_kernels.isa import Isa, isa_named

BYTES_PER_NONZERO = 6
"""A value and an offset of 16 bits."""
COLUMNS = (
    ("layer", "{layer}"),
    ("zeros", "{zeros:.0%}"),
    ("count", "{count}"),
    ("ms", "{ms:.3f}"),
    ("GFLOP/s", "{gflops:.1f}"),
    ("dense-equivalent", "{dense_gflops:.0f}"),
    ("share of peak", "{of_peak:.0%}"),
    ("FLOP per byte", "{intensity:.1f}"),
)
Layer = tuple[int, int, int, int, int, int]
"""Input channels, outputs, kernel, stride, image size, how often the net has it."""

POOL = Reduce((2, 3), Op.ADD, mean=True)


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


def mobilenet_v1() -> Iterator[Layer]:
    """The pointwise convolutions of MobileNetV1."""
    for channels, outputs, size, count in (
        (32, 64, 112, 1),
        (64, 128, 56, 1),
        (128, 128, 56, 1),
        (128, 256, 28, 1),
        (256, 256, 28, 1),
        (256, 512, 14, 1),
        (512, 512, 14, 5),
        (512, 1024, 7, 1),
        (1024, 1024, 7, 1),
    ):
        yield channels, outputs, 1, 1, size, count


def efficientnet_b0() -> Iterator[Layer]:
    """The expanding and projecting convolutions of EfficientNet-B0."""
    inputs, size = 32, 112
    for expand, outputs, repeats, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 40, 2, 2),
        (6, 80, 3, 2),
        (6, 112, 3, 1),
        (6, 192, 4, 2),
        (6, 320, 1, 1),
    ):
        for repeat in range(repeats):
            wide = expand * inputs
            if expand > 1:
                yield inputs, wide, 1, 1, size, 1
            size //= stride if repeat == 0 else 1
            yield wide, outputs, 1, 1, size, 1
            inputs = outputs
    yield inputs, 4 * inputs, 1, 1, size, 1


def unet() -> Iterator[Layer]:
    """The pruned convolutions of U-Net with 32 channels, on 512x512."""
    yield 32, 32, 3, 1, 512, 2
    for level in range(1, 5):
        channels, size = 32 * 2**level, 512 // 2**level
        yield channels // 2, channels, 3, 1, size, 1
        yield channels, channels, 3, 1, size, 2 if level < 4 else 1
    for level in range(4):
        channels, size = 32 * 2**level, 512 // 2**level
        yield 3 * channels, channels, 3, 1, size, 1


def depthwise() -> Iterator[Layer]:
    """The depthwise convolutions of MobileNetV1 and EfficientNet-B0 of most work; one channel in, so the first number is 0."""
    for channels, kernel, stride, size in (
        (32, 3, 1, 112),
        (64, 3, 2, 112),
        (128, 3, 1, 56),
        (128, 3, 2, 56),
        (256, 3, 1, 28),
        (256, 3, 2, 28),
        (512, 3, 1, 14),
        (1024, 3, 1, 7),
        (240, 5, 1, 28),
        (672, 5, 1, 14),
        (672, 5, 2, 14),
        (1152, 5, 1, 7),
    ):
        yield 0, channels, kernel, stride, size, 1


def first() -> Iterator[Layer]:
    """First convolutions: those of the MobileNets and EfficientNet-B0, of ResNet-50, of U-Net, and of VGG-16."""
    yield 3, 32, 3, 2, 224, 1
    yield 3, 64, 7, 2, 224, 1
    yield 3, 32, 3, 1, 512, 1
    yield 3, 64, 3, 1, 224, 1


NETS = {
    "resnet50": resnet50,
    "mobilenet_v1": mobilenet_v1,
    "efficientnet_b0": efficientnet_b0,
    "unet": unet,
    "depthwise": depthwise,
    "first": first,
}
DENSE = ("depthwise", "first")


def layer_seconds(
    isa: Isa, layer: Layer, sparsity: float, batch: int, rng: np.random.Generator, pattern: str = "unstructured"
) -> tuple[float, int, int]:
    """Return the best time of a layer, its multiply-adds by nonzeros, and the bytes of nonzeros, inputs and results.

    The layer stands between two steps, so that only memory that was used before is measured: fresh pages cost more than many a layer.
    """
    channels, outputs, kernel, stride, size, _ = layer
    weight = rng.standard_normal((outputs, channels or 1, kernel, kernel)).astype(np.float32)
    if channels:
        weight = mask(weight, sparsity, pattern, rng).astype(np.float32)
    pad = kernel // 2
    window = Window((kernel,) * 2, (stride,) * 2, (1, 1), (pad,) * 2, (pad,) * 2)
    kind, packed = StepKind.DEPTHWISE, packing.depthwise(weight, None, outputs, window)
    if channels:
        kind, packed = StepKind.PRODUCT, packing.convolution(weight, None, window, 1, (size, size), isa)
    steps = (Step(kind, 0, 1, spec=packed), Step(StepKind.REDUCE, 1, 2, spec=POOL))
    program = Program(ProgramSpec(3, {"x": 0}, {"y": 2}, {}, steps), kernels.table(isa.name), 1)
    alone = Program(ProgramSpec(2, {"x": 0}, {"y": 1}, {}, (Step(StepKind.REDUCE, 0, 1, spec=POOL),)), kernels.table(isa.name), 1)
    x = rng.standard_normal((batch, channels or outputs, size, size)).astype(np.float32)
    out = (size - 1) // stride + 1
    y = rng.standard_normal((batch, outputs, out, out)).astype(np.float32)
    seconds = best_seconds(lambda: program.run(x)) - best_seconds(lambda: alone.run(y))
    nonzeros = int(np.count_nonzero(weight))
    return seconds, nonzeros * out * out * batch, BYTES_PER_NONZERO * nonzeros + x.nbytes + y.nbytes


def memory_gb_s() -> float:
    """Return how many GB/s one thread reads and writes when it copies 64 MB."""
    source = np.ones(2**24, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: np.copyto(target, source)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", choices=[[], *NETS], default=["resnet50"])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9])
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument("--isa", default=kernels.available_isas()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--totals", action="store_true", help="only the last line of every net")
    add_json(parser)
    arguments = parser.parse_args()
    isa = isa_named(arguments.isa)
    rng = np.random.default_rng(0)
    peak, memory = peak_gflops(isa), memory_gb_s()
    print(
        f"{isa.name}, one thread, FMA peak {peak:.0f} GFLOP/s, copy {memory:.0f} GB/s, {arguments.pattern} zeros, batch {arguments.batch}"
    )
    with Report(arguments.json) as report:
        report.table("", COLUMNS)

        def row(name: str, zeros: float, count: int | None, seconds: float, macs: float, moved: float) -> None:
            figures = {
                "gflops": 2 * macs / seconds / 1e9,
                "ms": seconds * 1e3,
                "intensity": 2 * macs / moved,
                "peak_gflops": peak,
                "memory_gb_s": memory,
            }
            shares = {"dense_gflops": figures["gflops"] / (1 - zeros), "of_peak": figures["gflops"] / peak}
            report.row(layer=name, zeros=zeros, count=count, **figures, **shares)

        for net, sparsity in product(arguments.nets, arguments.sparsity):
            zeros = 0.0 if net in DENSE else sparsity
            total = np.zeros(3)
            for layer in NETS[net]():
                channels, outputs, kernel, stride, size, count = layer
                seconds, macs, moved = layer_seconds(isa, layer, zeros, arguments.batch, rng, arguments.pattern)
                if not arguments.totals:
                    row(f"{channels or outputs}->{outputs} {kernel}x{kernel}/{stride} @{size}", zeros, count, seconds, macs, moved)
                total += count * np.array((seconds, macs, moved))
            row(f"all of {net}", zeros, None, *total.tolist())


if __name__ == "__main__":
    main()
