"""Arrays that stay in memory up to a limit, and go to a temporary file beyond it."""

from __future__ import annotations

import os
import tempfile
import threading
from math import prod
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, np.dtype, tuple[int, ...]]
"""Where an array is in a file: offset in bytes, type and shape."""


class Store:
    """How many bytes of arrays may be in memory at once, and how many are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Reserve `size` bytes of memory, and return True; return False where the limit does not allow that."""
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True

    def give_back(self, size: int) -> None:
        """Undo `take`."""
        with self._lock:
            self.used -= size


class Arrays:
    """Arrays by number, all of them dropped together. Several threads may set different ones at once.

    Those for which the store has no memory are in a file without a name, which the system removes when it is closed. It is read, not
    mapped: pages of a mapped file count as memory of the process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_memory: dict[int, NDArray] = {}
        self._in_file: dict[int, Place] = {}
        self._file: BinaryIO | None = None
        self._end = 0
        self._lock = threading.Lock()

    def __setitem__(self, number: int, array: NDArray) -> None:
        if array.dtype.hasobject or self._store.take(array.nbytes):
            self._in_memory[number] = array
            return
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="ort-sparse-")  # noqa: SIM115  # it stays open as long as this object lives
            offset, self._end = self._end, self._end + array.nbytes
            self._in_file[number] = offset, array.dtype, array.shape
        _write(self._file.fileno(), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, offset)

    def __getitem__(self, number: int) -> NDArray:
        if number in self._in_memory:
            return self._in_memory[number]
        assert self._file is not None
        offset, dtype, shape = self._in_file[number]
        array = np.empty(prod(shape), dtype)
        _read(self._file.fileno(), array.view(np.uint8).data, offset)
        return array.reshape(shape)

    def drop(self) -> None:
        """Give back memory and disk. The arrays are gone."""
        self._store.give_back(sum(array.nbytes for array in self._in_memory.values() if not array.dtype.hasobject))
        self._in_memory.clear()
        if self._file is not None:
            self._file.close()


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data`: one call of the system writes at most 2 GB."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _read(descriptor: int, data: memoryview, offset: int) -> None:
    """Fill all of `data`."""
    while data:
        read = os.preadv(descriptor, [data], offset)
        if not read:
            raise OSError("a temporary file of the pruner was cut short")
        data, offset = data[read:], offset + read
