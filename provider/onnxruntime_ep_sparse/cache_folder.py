"""The folder of the option `cache_dir`: what one session has worked out, for later ones of any process.

An entry is a file "ort-sparse-KEY.KIND", where KEY follows from all that the entry depends on. It appears when it is complete. The folder
and its files may be deleted at any time: processes that have mapped an entry keep it. Nothing that goes wrong with the folder is more than
a warning.

An entry's time of modification is the time of its last use. A process that adds an entry removes the ones whose last use
is longest ago, of all kinds, until the rest is within the option `cache_max_mb`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .files import one_by_one, shown, write

KINDS = ("region", "verdict")
"""Kinds of entries: packed regions and their measured times."""
ENTRY = re.compile(rf"ort-sparse-\w+\.({'|'.join(KINDS)})")
"""Names of the entries of all kinds. Other files in the folder are not ours."""
T = TypeVar("T")
_said: set[str] = set()


def say_once(text: str) -> None:
    """Log a warning, the first time in this process."""
    if text not in _said:
        import logging  # only here: it takes some milliseconds of the first session, which mostly has nothing to say

        _said.add(text)
        logging.getLogger("onnxruntime_ep_sparse").warning("%s", text)


class CacheFolder:
    """A folder with entries of one of the KINDS. `path` may begin with "~"; the folder is made when the first entry is kept.

    All entries of the folder together have at most `max_mb` MB (of 1e6 bytes) after one was added; 0 stands for any size.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str, max_mb: int) -> None:
        assert kind in KINDS, f"entries of the kind {kind!r} would never be removed: add it to KINDS"
        self.path, self.kind, self.max_mb = Path(os.path.expanduser(path)), kind, max_mb

    def file(self, key: str) -> Path:
        """Return the path of an entry, whether or not it is there."""
        return self.path / f"ort-sparse-{key}.{self.kind}"

    def load(self, key: str, read: Callable[[Path], T]) -> T | None:
        """Return what `read` makes of an entry's file, or None if there is none, or none that is whole: OSError or ValueError of `read`.

        The entry is then one that was used now.
        """
        file = self.file(key)
        try:
            found = read(file)
        except (OSError, ValueError):
            return None
        with suppress(OSError):  # it was removed meanwhile, or belongs to another user
            os.utime(file)
        return found

    def keep(self, key: str, data: bytes | bytearray, read: Callable[[Path], T]) -> T | None:
        """Keep an entry unless there is a whole one, and return what `read` makes of it then, as in `load`.

        Of several writers that make the same entry at once the first wins, so that all of them read one file. A damaged entry is replaced.
        An entry that alone is larger than the folder may be is not kept. If nothing can be written, a warning says why.
        """
        file = self.file(key)
        most = 1_000_000 * self.max_mb
        try:
            damaged = file.exists()
            if (found := self.load(key, read)) is not None:
                return found
            if most and len(data) > most:
                size = len(data) / 1e6
                say_once(f"cache_dir {shown(self.path)}: an entry of {size:.1f} MB is not kept; set cache_max_mb above {self.max_mb}")
                return None
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(file, data, replace=damaged)
        except (OSError, ValueError) as error:
            say_once(f"cache_dir {shown(self.path)}: nothing can be kept there: {error}")
            return None
        loaded = self.load(key, read)  # before entries are removed, which may remove this one if others are used at the same time
        if most:
            try:
                self._remove_oldest(most)
            except OSError as error:
                say_once(f"cache_dir {shown(self.path)}: it is larger than cache_max_mb={self.max_mb}: {error}")
        return loaded

    @staticmethod
    def _write(file: Path, data: bytes | bytearray, *, replace: bool) -> None:
        """Write an entry. Without `replace`, one that another writer has completed meanwhile stays."""
        try:
            write(file, data, replace=replace)
        except FileExistsError:
            if not file.is_file():
                raise

    def _remove_oldest(self, most: int) -> None:
        """Remove the entries whose last use is longest ago, so that the others have at most `most` bytes. OSError if that is not possible.

        No other writer adds an entry meanwhile. Processes that have mapped an entry keep its bytes, because only its name is removed.
        """
        refused = None
        with one_by_one(self.path):
            entries = []
            with os.scandir(self.path) as found:
                for entry in found:
                    if ENTRY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # a user has removed it since it was listed
                            status = entry.stat(follow_symlinks=False)
                            entries.append((status.st_mtime_ns, status.st_size, entry.path))
            size = sum(freed for _, freed, _ in entries)
            for _, freed, file in sorted(entries):
                if size <= most:
                    return
                try:
                    os.unlink(file)
                except FileNotFoundError:  # another process has removed it
                    pass
                except OSError as error:  # of another user, in a folder where each removes what is his own
                    refused = error
                    continue
                size -= freed
        if size > most and refused is not None:
            raise refused
