"""Streams frames through a model, with the CPU provider and with the sparse provider side by side: throughput and memory of both.

    python stream.py unet.onnx --source film.mp4 --frames 8 --size 2160x3840

Each provider has a process of its own, so that its memory can be told; both see each frame, one after the other. See README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from frames import Unusable, frames, input_shape, into
from numpy.typing import NDArray

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import cpus, measure

PROVIDERS = {"cpu": measure.CPU, "sparse": sparse.EP_NAME}
TOLERANCE = 1e-4
GRID = 128
"""Tiles begin at multiples of so many rows and columns: nets halve images, and the provider deals large ones to the lanes of vectors."""


@dataclass(frozen=True)
class Part:
    """A part of a frame along one axis: the first and last row (column) to read, and the first and last to keep of the result."""

    low: int
    high: int
    first: int
    last: int

    def kept(self) -> slice:
        """Return where the rows to keep stand in what was read."""
        return slice(self.first - self.low, self.last - self.low)


def parts(length: int, count: int, overlap: int) -> list[Part]:
    """Cut rows or columns into parts, each read with so many more on both sides inside the frame."""
    begins = [number * length // count // GRID * GRID for number in range(count)]
    ends = [*begins[1:], length]
    return [Part(max(a - overlap, 0), min(b + overlap, length), a, b) for a, b in zip(begins, ends, strict=True) if a < b]


def floats(memory: SharedMemory, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array in shared memory."""
    return np.ndarray(shape, np.float32, memory.buf)


def by_tiles(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], x: NDArray[np.float32], rows: list[Part], columns: list[Part]
) -> Any:
    """Run a model on a frame tile by tile, and join what is kept. ValueError if results are not as large as tiles."""
    if len(rows) == len(columns) == 1:
        return run(x)
    lines = []
    for row in rows:
        line = []
        for column in columns:
            tile = np.ascontiguousarray(x[:, :, row.low : row.high, column.low : column.high])
            y = run(tile)
            if y.shape[2:] != tile.shape[2:]:
                raise ValueError(
                    f"tiles of {tile.shape[2:]} become {y.shape[2:]}: --tiles is for models whose result is as large as the frame"
                )
            line.append(y[:, :, row.kept(), column.kept()])
        lines.append(np.concatenate(line, 3))
    return np.concatenate(lines, 2)


def work(pipe: Connection, *job: Any) -> None:
    """Do the job of a worker's process; send the error if it fails."""
    try:
        _work(pipe, *job)
    except Exception as error:  # whatever ONNX Runtime says of a model or a size
        pipe.send(" ".join(str(error).split()))


def _work(pipe: Connection, model: str, provider: str, threads: int, shape: tuple[int, ...], name: str, cut: list[list[Part]]) -> None:
    """Run a model with a provider on each frame that the shared memory `name` holds.

    Sends the nodes that the provider has; then, for every frame, seconds, peak of memory in MB, and where the result stands.
    """
    frame = SharedMemory(name)
    x = floats(frame, shape)
    x.fill(0)
    before = measure.resident_mb("VmRSS")
    session = measure.make_session(model, provider, None, threads)
    owned = measure.ownership(session)
    pipe.send((owned.owned, owned.nodes))
    result: SharedMemory | None = None
    feed = session.get_inputs()[0].name
    while pipe.recv():
        began = time.perf_counter()
        y = by_tiles(lambda tile: session.run(None, {feed: tile})[0], x, *cut)
        seconds = time.perf_counter() - began
        peak = measure.resident_mb("VmHWM") - before
        if result is None:
            result = SharedMemory(create=True, size=y.nbytes)
        floats(result, y.shape)[:] = y
        pipe.send((seconds, peak, result.name, y.shape))
    if result is not None:
        result.close()
        result.unlink()


@dataclass
class Worker:
    """A provider in a process of its own. `seconds` has the time of each frame."""

    provider: str
    pipe: Connection
    process: Any
    owned: int
    nodes: int
    seconds: list[float]
    peak_mb: float = 0.0

    @classmethod
    def start(cls, provider: str, arguments: argparse.Namespace, shape: tuple[int, ...], frame: SharedMemory) -> Worker:
        """Start the process and wait for its session. Unusable if it cannot make one."""
        context = multiprocessing.get_context("spawn")
        pipe, other = context.Pipe()
        cut = [parts(length, count, arguments.overlap) for length, count in zip(shape[2:], arguments.tiles, strict=True)]
        job = (other, str(arguments.model), PROVIDERS[provider], arguments.threads, shape, frame.name, cut)
        process = context.Process(target=work, args=job, daemon=True)
        process.start()
        other.close()
        return cls(provider, pipe, process, *cls.received(pipe, provider), [])

    @staticmethod
    def received(pipe: Connection, provider: str) -> Any:
        """Return what the process sends. Unusable if that is an error, or if the process has ended."""
        try:
            found = pipe.recv()
        except EOFError:
            raise Unusable(f"the process of {PROVIDERS[provider]} has ended: it may have had too little memory") from None
        if isinstance(found, str):
            raise Unusable(f"{PROVIDERS[provider]}: {found}")
        return found

    def run(self, *, counts: bool) -> NDArray[np.float32]:
        """Run the model on the frame in the shared memory; the time is kept if it `counts`."""
        self.pipe.send(True)
        seconds, self.peak_mb, name, shape = self.received(self.pipe, self.provider)
        if counts:
            self.seconds.append(seconds)
        result = SharedMemory(name)
        y = floats(result, shape).copy()
        result.close()
        return y

    def stop(self) -> None:
        """End the process."""
        if self.process.is_alive():
            self.pipe.send(False)
        self.process.join(30)


def stream(arguments: argparse.Namespace, frame: SharedMemory, shape: tuple[int, ...]) -> dict[str, Any]:
    """Send frames through the workers of all providers and return what was measured. Unusable if their results differ."""
    x = floats(frame, shape)
    workers = [Worker.start(provider, arguments, shape, frame) for provider in arguments.providers]
    reading, worst = 0.0, 0.0
    source = frames(arguments.source, *arguments.size)
    try:
        for number in range(arguments.frames + 1):  # the first run of a session prepares it
            began = time.perf_counter()
            into(next(source), x)
            reading += (time.perf_counter() - began) * (number > 0)
            order = workers if number % 2 else workers[::-1]
            results = {worker.provider: worker.run(counts=number > 0) for worker in order}
            if len(results) == 2:
                largest = float(np.abs(results["cpu"]).max()) or 1.0
                worst = max(worst, float(np.abs(results["sparse"] - results["cpu"]).max()) / largest)
                if not worst <= TOLERANCE:
                    raise Unusable(f"results differ by {worst:.1e} of the largest number")
    finally:
        for worker in workers:
            worker.stop()
    by_provider = {
        worker.provider: {
            "nodes": worker.nodes,
            "owned_nodes": worker.owned,
            "ms": statistics.median(worker.seconds) * 1e3,
            "frames_per_second": 1 / statistics.median(worker.seconds),
            "peak_mb": worker.peak_mb,
        }
        for worker in workers
    }
    document = {"model": str(arguments.model), "size": arguments.size, "tiles": arguments.tiles, "frames": arguments.frames}
    document |= {"threads": arguments.threads, "reading_ms": reading / arguments.frames * 1e3, "providers": by_provider}
    if len(workers) == 2:
        first, second = ({worker.provider: worker for worker in workers}[name].seconds for name in ("cpu", "sparse"))
        document |= {"speedup": statistics.median(a / b for a, b in zip(first, second, strict=True)), "difference": worst}
    return document


def show(document: dict[str, Any]) -> None:
    """Print a line per provider, and how they compare."""
    height, width = document["size"]
    print(f"{document['model']}, {document['frames']} frames of {height}x{width}, {document['threads']} threads")
    for name, found in document["providers"].items():
        speed = f"{found['ms']:9.1f} ms per frame  {found['frames_per_second']:7.2f} frames/s"
        print(f"{PROVIDERS[name]:25} {speed}  peak {found['peak_mb']:7.0f} MB  {found['owned_nodes']} of {found['nodes']} nodes")
    if "speedup" in document:
        share = document["providers"]["sparse"]["peak_mb"] / document["providers"]["cpu"]["peak_mb"]
        speed = f"{document['speedup']:.2f} times as fast with {share:.0%} of the memory"
        print(f"{speed}; reading takes {document['reading_ms']:.0f} ms per frame")


def size(text: str) -> tuple[int, int]:
    """Parse two numbers such as "2160x3840"."""
    height, width = map(int, text.split("x"))
    if height < 1 or width < 1:
        raise ValueError
    return height, width


def positive(text: str) -> int:
    """Parse a number above 0."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    """Parse arguments, stream, and print or write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--source", type=Path, help="a video or a folder of pictures; without it frames are made up")
    parser.add_argument("--frames", type=positive, default=8)
    parser.add_argument("--size", type=size, default=(2160, 3840), metavar="HEIGHTxWIDTH")
    parser.add_argument("--threads", type=positive, default=cpus.usable())
    parser.add_argument(
        "--tiles", type=size, default=(1, 1), metavar="ROWSxCOLUMNS", help="cut frames, for a model whose result is as large"
    )
    parser.add_argument("--overlap", type=int, default=128, help=f"pixels around a tile that the model sees too, a multiple of {GRID}")
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        if not arguments.model.is_file():
            raise Unusable(f"no such file: {arguments.model}")
        shape = input_shape(ort.InferenceSession(arguments.model, providers=[PROVIDERS["cpu"]]), *arguments.size)
        frame = SharedMemory(create=True, size=4 * int(np.prod(shape)))
        try:
            document = stream(arguments, frame, shape)
        finally:
            frame.close()
            frame.unlink()
    except Unusable as error:
        sys.exit(f"stream.py: {error}")
    show(document)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
