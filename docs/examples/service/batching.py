"""Micro-batching: requests that come within a few milliseconds run as one batch, on the first session that is free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort
from metrics import Metrics
from model import Feeds, Model, joined, split
from numpy.typing import NDArray


class Busy(Exception):
    """So many requests are in flight already that another one is refused."""


@dataclass
class Waiting:
    """A request in the queue. Requests with equal `shapes` (of a row) can run together."""

    feeds: Feeds
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    result: asyncio.Future[list[NDArray[Any]]]


class Batcher:
    """A queue of requests, and a worker per session that takes batches from it."""

    def __init__(self, model: Model, metrics: Metrics, max_rows: int, max_wait_s: float, max_in_flight: int) -> None:
        self._model, self._metrics = model, metrics
        self._max_rows, self._max_wait_s, self._max_in_flight = max_rows, max_wait_s, max_in_flight
        self._in_flight = 0
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._left: Waiting | None = None
        """The request that did not fit into the batch before: it begins the next one."""
        self._gathering = asyncio.Lock()
        self._threads = ThreadPoolExecutor(len(model.sessions), "session")
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start a worker for each session."""
        self._workers = [asyncio.create_task(self._work(session)) for session in self._model.sessions]

    async def stop(self) -> None:
        """Stop the workers. Requests that still wait are not answered any more."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._threads.shutdown()

    async def submit(self, feeds: Feeds, rows: int) -> list[NDArray[Any]]:
        """Return the outputs for these rows. Busy if too many requests are in flight; ONNX Runtime's exceptions if the run fails."""
        if self._in_flight >= self._max_in_flight:
            raise Busy
        result: asyncio.Future[list[NDArray[Any]]] = asyncio.get_running_loop().create_future()
        shapes = tuple(array.shape[1:] for array in feeds.values())
        self._queue.put_nowait(Waiting(feeds, rows, shapes, result))
        self._in_flight += 1
        try:
            with self._metrics.in_flight.track_inprogress():
                return await result
        finally:
            self._in_flight -= 1

    async def _work(self, session: ort.InferenceSession) -> None:
        """Run batches on one session, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            async with self._gathering:  # one worker at a time, or two would share out what fits into one batch
                batch = await self._gather()
            for waiting, outcome in zip(batch, await loop.run_in_executor(self._threads, self._run, session, batch), strict=True):
                if waiting.result.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    waiting.result.set_exception(outcome)
                else:
                    waiting.result.set_result(outcome)

    async def _gather(self) -> list[Waiting]:
        """Wait for a request, then for others that can run with it: until there are enough rows, or the time is over."""
        batch = [self._left or await self._queue.get()]
        self._left = None
        rows = batch[0].rows
        with contextlib.suppress(TimeoutError):  # the time is over: run what has come
            async with asyncio.timeout(self._max_wait_s):
                while self._model.batched and rows < self._max_rows:
                    waiting = await self._queue.get()
                    if waiting.shapes != batch[0].shapes or rows + waiting.rows > self._max_rows:
                        self._left = waiting
                        break
                    batch.append(waiting)
                    rows += waiting.rows
        return batch

    def _run(self, session: ort.InferenceSession, batch: Sequence[Waiting]) -> list[list[NDArray[Any]] | Exception]:
        """Run a batch, in a thread of its own. Return for each request its outputs, or the exception that it causes."""
        rows = [waiting.rows for waiting in batch]
        try:
            with self._metrics.run_seconds.time():
                outputs = session.run(None, joined([waiting.feeds for waiting in batch]))
            parts = list(split(outputs, rows)) if self._model.batched else [outputs]
        except Exception as error:  # ONNX Runtime's own classes
            if len(batch) == 1:
                return [error]
            return [outcome for waiting in batch for outcome in self._run(session, [waiting])]  # only one of them may be to blame
        self._metrics.batch_rows.observe(sum(rows))
        return parts
