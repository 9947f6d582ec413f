"""Times of a net's layers as products of bytes and as products of float32, layer by layer, without ONNX Runtime.

    python tests/benchmarks/byte_layers.py [--net resnet50] [--zeros 0.9] [--set NAME] [--block 4] [--layer 3 ...] [--rows 128]

Weights as magnitude pruning leaves them, one image, bytes in and out. Prints milliseconds of the distinct layers, how often the net has
each, multiply-adds of nonzeros per nanosecond, and the sums over the net. Layers run in turn with both kinds of numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import time

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.program import byte_depthwise, byte_packing, packing
from onnxruntime_ep_sparse.program.byte_packing import Quantised
from onnxruntime_ep_sparse.program.enums import ElementType, ShapeRule, StepKind
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step, Window
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for

# outputs, channels of an output, kernel, stride, size of the input, how often; kernel 0: a matrix times rows
NETS = {
    "resnet50": [
        (64, 64, 1, 1, 56, 1), (64, 64, 3, 1, 56, 3), (256, 64, 1, 1, 56, 4), (64, 256, 1, 1, 56, 2),
        (128, 256, 1, 1, 56, 1), (128, 128, 3, 2, 56, 1), (512, 128, 1, 1, 28, 4), (512, 256, 1, 2, 56, 1), (128, 512, 1, 1, 28, 3),
        (128, 128, 3, 1, 28, 3), (256, 512, 1, 1, 28, 1), (256, 256, 3, 2, 28, 1), (1024, 256, 1, 1, 14, 6), (1024, 512, 1, 2, 28, 1),
        (256, 1024, 1, 1, 14, 5), (256, 256, 3, 1, 14, 5), (512, 1024, 1, 1, 14, 1), (512, 512, 3, 2, 14, 1), (2048, 512, 1, 1, 7, 3),
        (2048, 1024, 1, 2, 14, 1), (512, 2048, 1, 1, 7, 2), (512, 512, 3, 1, 7, 2),
    ],
    "mobilenetv2": [
        (16, 32, 1, 1, 112, 1), (96, 16, 1, 1, 112, 1), (24, 96, 1, 1, 56, 1), (144, 24, 1, 1, 56, 2), (24, 144, 1, 1, 56, 1),
        (32, 144, 1, 1, 28, 1), (192, 32, 1, 1, 28, 3), (32, 192, 1, 1, 28, 2), (64, 192, 1, 1, 14, 1), (384, 64, 1, 1, 14, 4),
        (64, 384, 1, 1, 14, 3), (96, 384, 1, 1, 14, 1), (576, 96, 1, 1, 14, 3), (96, 576, 1, 1, 14, 2), (160, 576, 1, 1, 7, 1),
        (960, 160, 1, 1, 7, 3), (160, 960, 1, 1, 7, 2), (320, 960, 1, 1, 7, 1), (1280, 320, 1, 1, 7, 1),
    ],
    "depthwise": [
        (32, 1, 3, 1, 112, 1), (96, 1, 3, 2, 112, 1), (144, 1, 3, 1, 56, 1), (144, 1, 3, 2, 56, 1), (192, 1, 3, 1, 28, 2),
        (384, 1, 3, 1, 14, 4), (576, 1, 3, 1, 14, 2), (576, 1, 3, 2, 14, 1), (960, 1, 3, 1, 7, 3), (144, 1, 5, 2, 56, 1),
        (240, 1, 5, 1, 28, 1), (672, 1, 5, 1, 14, 2), (1152, 1, 5, 1, 7, 3),
    ],
    "bert": [(768, 768, 0, 1, 0, 4), (3072, 768, 0, 1, 0, 1), (768, 3072, 0, 1, 0, 1)],
}  # fmt: skip  # some layers per line


def pruned(rng: np.random.Generator, shape: tuple[int, ...], zeros: float, block: int) -> np.ndarray:
    """Return 8-bit weights as float32; the smallest blocks of channels at a tap are zeros."""
    m, c, *kernel = shape
    dense = rng.standard_normal((m, c // block, block, *kernel))
    size = np.linalg.norm(dense, axis=2, keepdims=True)
    whole = np.clip(np.rint(dense * 127 / 4), -127, 127)
    kept = size >= np.quantile(size, zeros)
    return np.where(kept, np.where(whole == 0, 1, whole), 0).reshape(shape).astype(np.float32)


def seconds(programs, inputs, rounds: int) -> list[float]:
    """Return the least time of a run of each program, which run in turn."""
    best = [float("inf")] * len(programs)
    for _ in range(rounds):
        for i, (program, x) in enumerate(zip(programs, inputs, strict=True)):
            begin = time.perf_counter()
            program.run(x)
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def steps_of(weight: np.ndarray, stride: int, size: int, isa, how: Quantised) -> tuple[Step, Step]:
    """Return the layer as a step on float32 and as a step on bytes. A weight of two dimensions is a matrix; one channel: depthwise."""
    m, c, *kernel = weight.shape
    if not kernel:
        order = {"x_rows": True, "y_rows": True, "isa": isa}
        product = packing.matrices([weight], None, ShapeRule.MATMUL_RIGHT, **order)
        data = byte_packing.matrix(weight, ShapeRule.MATMUL_RIGHT, how, **order)
        return Step(StepKind.PRODUCT, 0, 1, spec=product), Step(StepKind.BYTE_PRODUCT, 0, 1, spec=data)
    pad = (kernel[0] // 2,) * 2
    window = Window(tuple(kernel), (stride, stride), (1, 1), pad, pad, image=(size, size))
    if c == 1:
        ours = Step(StepKind.BYTE_DEPTHWISE, 0, 1, spec=byte_depthwise.depthwise(weight, window, m, how))
        return Step(StepKind.DEPTHWISE, 0, 1, spec=packing.depthwise(weight, None, m, window)), ours
    ours = Step(StepKind.BYTE_PRODUCT, 0, 1, spec=byte_packing.convolution(weight, window, 1, (size, size), isa, how))
    return Step(StepKind.PRODUCT, 0, 1, spec=packing.convolution(weight, None, window, 1, (size, size), isa)), ours


def main() -> None:
    """Print a line for every layer, and the sums."""
    ctypes.CDLL(None).mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: outputs are memory that was used before
    ctypes.CDLL(None).mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--net", choices=NETS, default="resnet50")
    parser.add_argument("--zeros", type=float, default=0.9)
    parser.add_argument("--set", choices=kernels.available_byte_sets(), default=kernels.available_byte_sets()[0], dest="name")
    parser.add_argument("--block", type=int, default=1, help="channels whose weights are zeros together")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rows", type=int, default=128, help="rows that a matrix is multiplied by")
    parser.add_argument("--layer", type=int, nargs="+", help="numbers of layers, from 0")
    parsed = parser.parse_args()
    (row,) = (row for row in byte_sets_for(ISAS) if row.name == parsed.name)
    rng = np.random.default_rng(0)
    total = np.zeros(2)
    for i, (m, c, k, stride, size, often) in enumerate(NETS[parsed.net]):
        if parsed.layer and i not in parsed.layer:
            continue
        weight = pruned(rng, (m, c, k, k) if k else (m, c), 0 if c == 1 else parsed.zeros, 1 if c == 1 else parsed.block)
        how = Quantised(False, 7, np.zeros(m, np.int32), np.full(m, 1e-3, np.float32))
        theirs, step = steps_of(weight, stride, size, row.isa, how)
        table, byte_table = kernels.table(row.isa.name), kernels.byte_table(parsed.name)
        types = dict.fromkeys(range(2), ElementType.UINT8)
        ours = Program(ProgramSpec(2, {"x": 0}, {"y": 1}, steps=(step,), types=types), table, byte_table=byte_table)
        floats = Program(ProgramSpec(2, {"x": 0}, {"y": 1}, steps=(theirs,)), table)
        x = rng.integers(0, 256, (1, m if c == 1 else c, size, size) if k else (parsed.rows, c)).astype(np.uint8)
        times = seconds((floats, ours), (x.astype(np.float32), x), parsed.rounds)
        macs = np.count_nonzero(weight) * ((-(-size // stride)) ** 2 if k else parsed.rows)
        total += np.array(times) * often
        print(
            f"{i:2} {c:4}->{m:4} {k}x{k}/{stride} @{size:3} x{often}: f32 {1e3 * times[0]:6.3f} ms {macs / times[0] * 1e-9:5.1f} MAC/ns,"
            f" bytes {1e3 * times[1]:6.3f} ms {macs / times[1] * 1e-9:5.1f} MAC/ns = {times[0] / times[1]:4.2f}x"
            f"{', blocks of channels' if getattr(step.spec, 'blocks', False) else ''}",
            flush=True,
        )
    print(f"sum: f32 {1e3 * total[0]:.2f} ms, bytes {1e3 * total[1]:.2f} ms = {total[0] / total[1]:.2f}x")


if __name__ == "__main__":
    main()
