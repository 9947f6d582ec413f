"""Measures a running service: `python load.py http://127.0.0.1:8000 --connections 16 --seconds 30`.

Each connection sends one request after the other, an array of random numbers as npy, and checks the answer: with `--model` against a
direct call of a session, else against the first answer to the same array. Exits with 1 if an answer is wrong or missing.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

SAMPLES = 16
TOLERANCE = 1e-4
"""Of the largest number of an output, as for results of the two providers."""


class Load:
    """What all connections share: where to, with what, and what came back."""

    def __init__(self, url: str, seconds: float, model: str | None, sizes: dict[str, int], rows: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.health = json.loads(self._ask("/health"))
        inputs = self.health["inputs"]
        if len(inputs) != 1:
            raise ValueError(f"the model has {len(inputs)} inputs, and load.py sends one array")
        (given,) = inputs
        shape = [rows, *(sizes[size] if isinstance(size, str) else size for size in given["shape"][1:])]
        rng = np.random.default_rng(0)
        drawn = [rng.standard_normal(shape) if "float" in given["dtype"] else rng.integers(0, 2, shape) for _ in range(SAMPLES)]
        self.samples = [array.astype(given["dtype"]) for array in drawn]
        self.expected: list[NDArray[Any] | None] = [None] * SAMPLES
        if model is not None:
            self.expected = list(direct(model, self.health["provider"], given["name"], self.samples))
        self.milliseconds: list[float] = []
        self.errors: Counter[str] = Counter()
        self.largest_difference = 0.0
        self.end = time.perf_counter() + seconds

    def _ask(self, path: str) -> bytes:
        connection = HTTPConnection(self.host, self.port, timeout=60)
        connection.request("GET", path)
        return connection.getresponse().read()

    def connect(self, number: int) -> None:
        """Send requests over one connection until the time is over."""
        connection, at = HTTPConnection(self.host, self.port, timeout=60), number
        payloads = [npy_bytes(sample) for sample in self.samples]
        while time.perf_counter() < self.end:
            at = (at + 1) % SAMPLES
            began = time.perf_counter()
            try:
                connection.request("POST", "/predict", payloads[at], {"Content-Type": "application/x-npy"})
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, HTTPException) as error:
                self.errors[type(error).__name__] += 1
                connection.close()
                time.sleep(0.1)
                continue
            self.milliseconds.append((time.perf_counter() - began) * 1000)
            if answer.status != 200:
                self.errors[f"{answer.status} {content[:200].decode(errors='replace')}"] += 1
                continue
            self.check(at, np.load(io.BytesIO(content)))

    def check(self, at: int, result: NDArray[Any]) -> None:
        """Compare an answer with what is expected."""
        expected = self.expected[at]
        if expected is None:
            self.expected[at] = expected = result
        if result.shape != expected.shape:
            self.errors["another shape than expected"] += 1
            return
        difference = float(np.abs(result - expected).max() / np.abs(expected).max())
        self.largest_difference = max(self.largest_difference, difference)
        if not difference <= TOLERANCE:
            self.errors["another result than expected"] += 1


def direct(model: str, provider: str, name: str, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the results of direct calls: each sample alone, on the provider of the service."""
    import onnxruntime as ort

    import onnxruntime_ep_sparse as sparse

    session = sparse.SessionFactory(model)() if provider == "sparse" else ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [session.run(None, {name: sample})[0] for sample in samples]


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return an array in the format npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def main() -> None:
    """Load the service, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Measures a running service.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("url", help="such as http://127.0.0.1:8000")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rows", type=int, default=1, help="rows of a request")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=128", help="size of an open dimension")
    parser.add_argument("--model", help="the model's file: answers are compared with direct calls")
    parser.add_argument("--json", metavar="FILE", help="write the figures; - is stdout")
    given = parser.parse_args()
    sizes = {name: int(value) for name, _, value in (text.partition("=") for text in given.size)}
    try:
        load = Load(given.url, given.seconds, given.model, sizes, given.rows)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        sys.exit(f"load.py: cannot load {given.url}: {type(error).__name__}: {error}")
    began = time.perf_counter()
    load.end = began + given.seconds
    threads = [threading.Thread(target=load.connect, args=(number,)) for number in range(given.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    figures = {
        "provider": load.health["provider"],
        "owned_nodes": load.health["owned_nodes"],
        "connections": given.connections,
        "seconds": round(seconds, 2),
        "requests": len(load.milliseconds),
        "per_second": round(len(load.milliseconds) * given.rows / seconds, 1),
        **{f"p{share:g}_ms": round(float(np.percentile(load.milliseconds or [0], share)), 2) for share in (50, 90, 99, 99.9)},
        "largest_difference": load.largest_difference,
        "errors": dict(load.errors),
    }
    text = json.dumps({"schema": 1, **figures}, indent=2)
    if given.json == "-":
        print(text)
    else:
        for name, value in figures.items():
            print(f"{name:<20}{value}")
        if given.json:
            Path(given.json).write_text(f"{text}\n")
    if load.errors or not load.milliseconds:
        sys.exit(f"load.py: {sum(load.errors.values())} errors in {len(load.milliseconds)} requests")


if __name__ == "__main__":
    main()
