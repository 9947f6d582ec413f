"""Writing files: each one appears under its name when it is complete, or not at all.

A file is written under a temporary name in the same folder, flushed to the disk and then renamed. A file that is replaced passes its
permissions on to the new one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


def check_target(target: Path, kept: Mapping[Path, str], *, special: bool = False) -> None:
    """Raise ValueError if `target` cannot be written, or if writing it would destroy something.

    The folder of `target` must exist and be writable. `target` must be an ordinary file that is not read-only, or not exist yet; `special`
    allows devices and pipes too. It must not be one of the files in `kept`, by whatever path; their values say what they are, for example
    "the model itself".
    """
    folder = target.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"cannot write {target}: there is no folder {folder}")
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder")
    for path, what in kept.items():
        if _same(target, path):
            raise ValueError(f"cannot write {target}: it is {what}; choose another name")
    if special and _is_special(target):
        return
    _check_ordinary(target)
    if target.exists() and not os.access(target, os.W_OK):
        raise ValueError(f"cannot write {target}: it is read-only")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {target}: no new file can be made in its folder")


def write(target: Path, data: bytes | bytearray | memoryview, *, special: bool = False) -> None:
    """Write `data` to the file `target`, which is then complete, or as it was before.

    A symbolic link is followed. `special` allows devices and pipes, which are written in place. ValueError if `target` is one of these
    without `special`; OSError if it cannot be written.
    """
    if special and _is_special(target):
        target.write_bytes(data)
        return
    with NewFiles() as files:
        files.open(Path(os.path.realpath(target))).write(data)
        files.commit()


class NewFiles:
    """Files that appear under their names together, once all of them are complete.

    Use it as a context manager: write files by `open` or `folder`, then call `commit`. Where the block ends without that, whatever was
    written is removed.
    """

    def __init__(self) -> None:
        self._temporary: dict[Path, Path] = {}
        self._folders: dict[Path, Path] = {}
        self._open: list[BinaryIO] = []

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.discard()

    def open(self, target: Path) -> BinaryIO:
        """Open a new temporary file that `commit` renames to `target`. OSError if the folder cannot be written."""
        path = _beside(target)
        file = path.open("xb")
        self._temporary[target] = path
        self._open.append(file)
        return file

    def folder(self, target: Path) -> Path:
        """Make a temporary folder beside `target`, for code that writes files by their paths.

        `commit` moves the files in it to the folder of `target`, and the one that is named like `target` last.
        """
        path = _beside(target)
        path.mkdir()
        self._folders[target] = path
        return path

    def commit(self) -> None:
        """Flush all files to the disk, then rename them in the order in which they were opened. OSError if that fails.

        ValueError if one would replace something else than an ordinary file.
        """
        for target, folder in self._folders.items():
            made = sorted(folder.iterdir(), key=lambda path: (path.name == target.name, path.name))
            self._temporary |= {target.with_name(path.name): path for path in made}
        for file in self._open:
            file.close()
        for target, path in self._temporary.items():
            _check_ordinary(target)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            if target.exists():
                path.chmod(stat.S_IMODE(target.stat().st_mode))
        for target, path in self._temporary.items():
            path.replace(target)
        self._temporary.clear()

    def discard(self) -> None:
        """Remove the temporary files and folders; those that `commit` has renamed stay."""
        for file in self._open:
            file.close()
        for path in self._temporary.values():
            path.unlink(missing_ok=True)
        if self._folders:
            import shutil  # only here: it takes 5 ms of the first session, which needs no folder

            for path in self._folders.values():
                shutil.rmtree(path, ignore_errors=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _check_ordinary(target: Path) -> None:
    if _is_special(target):
        raise ValueError(f"cannot write {target}: it is not an ordinary file; choose another name")


def _beside(target: Path) -> Path:
    """Return a new name in the folder of `target`."""
    return target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")


def _same(a: Path, b: Path) -> bool:
    """Return whether two paths lead to the same file, whether or not it exists."""
    return os.path.realpath(a) == os.path.realpath(b) or (a.exists() and b.exists() and a.samefile(b))
