"""The folder of the option `cache_dir`: what one session has worked out, for later ones of any process.

An entry is a file "ort-sparse-KEY.KIND", where KEY follows from all that the entry depends on. It appears when it is complete. The folder
and its files may be deleted at any time: who has mapped an entry keeps it. Nothing that goes wrong with the folder is more than a warning.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .files import shown, write

T = TypeVar("T")
_said: set[str] = set()


def say_once(text: str) -> None:
    """Log a warning, the first time in this process."""
    if text not in _said:
        import logging  # only here: it takes some milliseconds of the first session, which mostly has nothing to say

        _said.add(text)
        logging.getLogger("onnxruntime_ep_sparse").warning("%s", text)


class CacheFolder:
    """A folder with entries of one kind. `path` may begin with "~"; the folder is made when the first entry is kept."""

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self.path, self.kind = Path(os.path.expanduser(path)), kind

    def file(self, key: str) -> Path:
        """Return the path of an entry, whether or not it is there."""
        return self.path / f"ort-sparse-{key}.{self.kind}"

    def load(self, key: str, read: Callable[[Path], T]) -> T | None:
        """Return what `read` makes of an entry's file, or None if there is none, or none that is whole: OSError or ValueError of `read`."""
        try:
            return read(self.file(key))
        except (OSError, ValueError):
            return None

    def keep(self, key: str, data: bytes | bytearray, read: Callable[[Path], T]) -> T | None:
        """Keep an entry unless there is a whole one, and return what `read` makes of it then, as in `load`.

        Of several writers that make the same entry at once the first wins, so that all of them read one file. A damaged entry is replaced.
        If nothing can be written, a warning says why.
        """
        file = self.file(key)
        try:
            damaged = file.exists()
            if (found := self.load(key, read)) is not None:
                return found
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(file, data, replace=damaged)
        except (OSError, ValueError) as error:
            say_once(f"cache_dir {shown(self.path)}: nothing can be kept there: {error}")
            return None
        return self.load(key, read)

    @staticmethod
    def _write(file: Path, data: bytes | bytearray, *, replace: bool) -> None:
        """Write an entry. Without `replace`, one that another writer has completed meanwhile stays."""
        try:
            write(file, data, replace=replace)
        except FileExistsError:
            if not file.is_file():
                raise
