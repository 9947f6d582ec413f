"""Works on several weights at once, on short-lived threads: those of ONNX Runtime are out of reach while it creates a session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

from onnxruntime_ep_sparse_kernels.pack import use_own_pages

LARGE = 1 << 18
"""Elements of the smallest weight that another thread may take: packing them takes a millisecond, handing them over up to half of one."""

T = TypeVar("T")


def parallel_map(threads: int, works: Sequence[tuple[int, Callable[[], T]]]) -> list[T]:
    """Return the results of all works in their order; a work is a number of elements and a function. Raise what one of them raised.

    The caller works from the end, so that it never waits for a thread that gets no CPU. The other threads, up to `threads` with the caller,
    work from the beginning. Where fewer can be started, or none, the caller does their part.
    """
    large = deque(i for i, (elements, _) in enumerate(works) if elements >= LARGE)
    if threads == 1 or len(large) < 2:
        return [work() for _, work in works]
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def help_out() -> None:
        use_own_pages()
        while (i := _taken(large.popleft)) is not None:
            try:
                results[i] = works[i][1]()
            except BaseException as error:
                errors.append(error)
                large.clear()

    helpers = _started(help_out, min(threads, len(large)) - 1)
    try:
        for i in reversed(range(len(works))):
            mine = i if works[i][0] < LARGE else _taken(large.pop)
            if mine is not None:
                results[mine] = works[mine][1]()
    finally:
        large.clear()
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(works))]


def _taken(pop: Callable[[], int]) -> int | None:
    """Return what `pop` takes out of a deque, None if that is empty."""
    try:
        return pop()
    except IndexError:
        return None


def _started(work: Callable[[], None], count: int) -> list[Thread]:
    """Return up to `count` threads that have begun to work.

    There are fewer at a limit of processes (of a user or a container), and none while the interpreter shuts down.
    """
    threads: list[Thread] = []
    for _ in range(count):
        thread = Thread(target=work, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            break
        threads.append(thread)
    return threads
