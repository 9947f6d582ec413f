"""Multiply-adds of nonzeros per nanosecond of the tile kernels for bytes, with the tile in L1: every set, quads and blocks.

    python tests/benchmarks/bytes.py [--set NAME] [--shape 512x512 ...] [--zeros 0.9 ...] [--tile BYTES]

Weights as magnitude pruning leaves them: the tail of a normal distribution, 127 at four sigma. Blocks are those of the largest norm. Prints
the slots per nonzero that packing adds, and the rate of the float32 kernel of the same instruction set beside.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import call, call_bytes
from onnxruntime_ep_sparse_kernels.isa import APART, ISAS, byte_sets_for
from onnxruntime_ep_sparse_kernels.pack import compress, pack
from onnxruntime_ep_sparse_kernels.pack_bytes import pack_blocks, pack_quads
from onnxruntime_ep_sparse_kernels.quantised import Out

ROUNDS = 15


def pruned(rng: np.random.Generator, rows: int, depth: int, zeros: float, block: int) -> np.ndarray:
    """Return 8-bit weights as float32, of which the smallest blocks along K are zeros."""
    dense = rng.standard_normal((rows, depth // block, block))
    size = np.linalg.norm(dense, axis=2)
    kept = size >= np.quantile(size, zeros)
    quantised = np.clip(np.rint(dense * 127 / 4), -127, 127)
    return np.where(kept[:, :, None], np.where(quantised == 0, 1, quantised), 0).reshape(rows, depth).astype(np.float32)


def best_ns(run, times: int) -> float:
    """Return the least nanoseconds of a run, whose argument is how often the kernel runs."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        run(times)
        best = min(best, (time.perf_counter_ns() - begin) / times)
    return best


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a copy that begins with a cache line, as the scratch of a worker does."""
    room = np.empty(values.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + values.nbytes].view(values.dtype)
    copy[:] = values
    return copy


def bounds_of(columns: int, most: int) -> np.ndarray:
    """Cut columns into equal blocks of at most so many."""
    blocks = -(-columns // most)
    return np.array([columns * b // blocks for b in range(blocks + 1)], np.int64)


def bytes_rate(name: str, weight__mk: np.ndarray, blocks: bool, most: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return (multiply-adds per ns, slots per nonzero) of a kernel; a tile has at most so many bytes."""
    table = kernels.byte_table(name)
    width = call_bytes.pixels(table, "quads")
    matrix = compress(weight__mk)
    element = 4 if blocks else 1
    bounds = bounds_of(matrix.depth // element, most // (width * element))
    row_start, row, k__nc, value__nr = pack_blocks(matrix, 1, bounds) if blocks else pack_quads(matrix, bounds)
    offset__nc = np.zeros(k__nc.shape, np.uint16)
    tiles = []
    for b in range(len(bounds) - 1):
        part = slice(row_start[b, 0], row_start[b, -1])
        offset__nc[part] = (k__nc[part] - bounds[b]) * width
        tile = aligned(rng.integers(0, 256, (bounds[b + 1] - bounds[b]) * width * element).astype(np.uint8))
        tiles.append(tile.view(np.int32) if blocks else tile)
    scale = np.full(matrix.rows, 1e-3, np.float32)
    bias = np.zeros(matrix.rows, np.int32)
    nonzeros = len(matrix.k__n)
    times = max(1, 2_000_000 // (nonzeros * width // 60))

    def run(repeat: int) -> None:
        call_bytes.spmm(
            table, "blocks" if blocks else "quads", row_start, row, offset__nc, value__nr, tiles, bias, scale, Out.BYTES, repeat=repeat
        )

    return nonzeros * width / best_ns(run, times), 4 * value__nr.size / nonzeros


def float_rate(isa, weight__mk: np.ndarray, most: int, rng: np.random.Generator) -> float:
    """Return multiply-adds per ns of the widest float32 kernel, K cut the same way."""
    table, nv = kernels.table(isa.name), isa.widest(APART)
    width = nv * isa.lanes
    matrix = compress(weight__mk)
    bounds = bounds_of(matrix.depth, most // (4 * width))
    row_start, row, k__nc, value__nr = pack(matrix, bounds, APART)
    bias, y = np.zeros(matrix.rows, np.float32), np.zeros((matrix.rows, width), np.float32)
    total = 0.0
    for b in range(len(bounds) - 1):
        tile = aligned(rng.standard_normal((bounds[b + 1] - bounds[b]) * width).astype(np.float32))
        offset = np.where(k__nc >= bounds[b], k__nc - bounds[b], 0).astype(np.int64)
        offset = (np.minimum(offset, bounds[b + 1] - bounds[b] - 1) * width).astype(np.uint16)
        times = max(1, 2_000_000 // (len(matrix.k__n) // (len(bounds) - 1) * width // 30))

        def run(repeat: int, b=b, tile=tile, offset=offset) -> None:
            call.spmm(table, APART, nv, row_start[b], row[b], offset, value__nr, tile, bias, y, repeat=repeat)

        total += best_ns(run, times)
    return len(matrix.k__n) * width / total


def main() -> None:
    """Print a line for every set, shape and share of zeros."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", action="append", choices=kernels.available_byte_sets(), dest="sets")
    parser.add_argument("--shape", nargs="+", default=["512x512", "768x768"])
    parser.add_argument("--zeros", nargs="+", type=float, default=[0.8, 0.9, 0.95])
    parser.add_argument("--tile", type=int, default=24 * 1024, help="bytes of a tile, at which K is cut (default: %(default)s)")
    parsed = parser.parse_args()
    rng = np.random.default_rng(0)
    rows_of = {row.name: row for row in byte_sets_for(ISAS)}
    for name in parsed.sets or kernels.available_byte_sets():
        isa = rows_of[name].isa
        for shape in parsed.shape:
            rows, depth = map(int, shape.split("x"))
            for zeros in parsed.zeros:
                floats = float_rate(isa, pruned(rng, rows, depth, zeros, 1), parsed.tile, rng)
                line = f"{name:14} {shape:9} {zeros:4.0%} zeros: f32 {floats:6.1f}"
                for blocks in (False, True):
                    weight__mk = pruned(rng, rows, depth, zeros, 4 if blocks else 1)
                    rate, slots = bytes_rate(name, weight__mk, blocks, parsed.tile, rng)
                    line += f" | {'blocks' if blocks else 'quads'} {rate:6.1f} ({slots:.2f} slots)"
                print(line, flush=True)


if __name__ == "__main__":
    main()
