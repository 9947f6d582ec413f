"""Work on several weights at once, by threads that live no longer than that: while a session is made, ONNX Runtime's are out of reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onnxruntime_ep_sparse_kernels.pack import use_own_pages

LARGE = 1 << 18
"""Elements of a weight from which on another thread may take it: packing them takes a millisecond, handing them over up to half of one."""

T = TypeVar("T")


def parallel_map(threads: int, works: Sequence[tuple[int, Callable[[], T]]]) -> list[T]:
    """What each work returns, in order; a work is how many elements it has and what is to be done. Raises what one of them raised.

    The caller works from the end, so that nobody waits for a thread that gets no CPU; others, up to `threads` in all, from the beginning.
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
