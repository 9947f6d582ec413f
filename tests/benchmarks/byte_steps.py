"""Bytes per nanosecond of the kernels for bytes that are no products, with all operands in a cache: every set.

    python tests/benchmarks/byte_steps.py [--set NAME] [--bytes 784 16384 ...]

Bytes count those of the result, or of the operand where that is larger. Pools are `SIZExSIZE KERNEL/STRIDE` and pad half a kernel.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import call_bytes

ROUNDS = 15
POOLS = ((112, 3, 2), (64, 2, 2), (512, 2, 2), (35, 3, 1), (20, 5, 1), (14, 2, 2))
"""Size, kernel and stride: the first is that of ResNet."""


def rate(run: Callable[[int], object], size: int) -> float:
    """Return the bytes per nanosecond of the fastest round of `run`, whose argument is how often the kernel runs."""
    times, best = max(1, 2_000_000 // size), float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        run(times)
        best = min(best, (time.perf_counter_ns() - begin) / times)
    return size / best


def elementwise(table: object, size: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the rates of kernels that read so many elements one by one."""
    a, b = (rng.integers(0, 256, size).astype(np.uint8) for _ in range(2))
    floats, one = rng.standard_normal(size).astype(np.float32) * 40, np.ones(1, np.float32)
    sum_of = {"a_scale": 0.7, "b_scale": 0.6, "shift": -20.0, "y_zero": 10.0}
    product = {"multiplies": True, "a_zero": 3.0, "b_zero": 4.0, "a_scale": 0.003, "y_zero": 10.0}
    runs: dict[str, Callable[[int], object]] = {
        "add": lambda n: call_bytes.combine(table, a, b, np.uint8, repeat=n, **sum_of),
        "multiply": lambda n: call_bytes.combine(table, a, b, np.uint8, repeat=n, **product),
        "look up": lambda n: call_bytes.look_up(table, a, b[:256].copy() if size >= 256 else np.arange(256, dtype=np.uint8), n),
        "sum": lambda n: call_bytes.sum(table, a, n),
        "quantise": lambda n: call_bytes.quantize(table, floats, one, one, np.uint8, n),
        "dequantise": lambda n: call_bytes.dequantize(table, a, one, one, n),
    }
    return {name: rate(run, size) for name, run in runs.items()}


def pool_rate(table: object, size: int, kernel: int, stride: int, rng: np.random.Generator) -> float:
    """Return the rate of maximum pooling over a plane."""
    x, pad = rng.integers(0, 256, (size, size)).astype(np.uint8), (kernel - 1) // 2
    return rate(lambda n: call_bytes.max_pool(table, x, (kernel,) * 2, (stride,) * 2, (pad,) * 2, repeat=n), size * size)


def main() -> None:
    """Print two lines for every set: functions of elements, then pools."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", action="append", choices=kernels.available_byte_sets(), dest="sets")
    parser.add_argument("--bytes", nargs="+", type=int, default=[16384])
    parsed = parser.parse_args()
    rng = np.random.default_rng(0)
    for name in parsed.sets or kernels.available_byte_sets():
        table = kernels.byte_table(name)
        for size in parsed.bytes:
            found = elementwise(table, size, rng)
            print(f"{name:14} {size:7} bytes: " + ", ".join(f"{what} {speed:.1f}" for what, speed in found.items()), flush=True)
        pools = (f"{size}x{size} {kernel}/{stride} {pool_rate(table, size, kernel, stride, rng):.1f}" for size, kernel, stride in POOLS)
        print(f"{name:14} pools: " + ", ".join(pools), flush=True)


if __name__ == "__main__":
    main()
