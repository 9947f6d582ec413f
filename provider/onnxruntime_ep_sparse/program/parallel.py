"""Works on several weights at once, on short-lived threads: those of ONNX Runtime are out of reach while it creates a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onnxruntime_ep_sparse_kernels.pack import use_own_pages

LARGE = 1 << 18
"""Elements of the smallest weight that another thread may take: packing them takes a millisecond, handing them over up to half of one."""

T = TypeVar("T")


def parallel_map(threads: int, works: Sequence[tuple[int, Callable[[], T]]]) -> list[T]:
    """Return the results of all works in their order; a work is a number of elements and a function. Raise what one of them raised.

    The caller works from the end, so that it never waits for a thread that gets no CPU. The other threads, up to `threads` with the caller,
    work from the beginning.
    """
    large = [i for i, (elements, _) in enumerate(works) if elements >= LARGE]
    if threads == 1 or len(large) < 2:
        return [work() for _, work in works]
    pool = ThreadPoolExecutor(min(threads, len(large)) - 1, initializer=use_own_pages)
    try:
        futures = {i: pool.submit(works[i][1]) for i in large}
        mine = {i: works[i][1]() for i in reversed(range(len(works))) if i not in futures or futures[i].cancel()}
        return [mine[i] if i in mine else futures[i].result() for i in range(len(works))]
    finally:
        pool.shutdown(cancel_futures=True)
