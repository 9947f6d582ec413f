"""Files of the package's own: how they are written, which targets are refused, and where a model's other files may be.

A file is written under a temporary name in the folder of its target, flushed to the disk and then renamed. So it appears under its name
when it is complete, or not at all. A symbolic link is followed: the link stays, and the file that it leads to is replaced. A file that is
replaced passes its owner and its permissions on to the new one.

A writer that is killed leaves its temporary file. Every writer locks its temporary files, and the next one removes those in the same
folder that are not locked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

TEMPORARY = re.compile(r"\.ort-sparse-[0-9a-f]{16}\.tmp")
"""Names of temporary files and folders. They do not contain the name of the target, which may be as long as names can be."""
NOT_ORDINARY = "it is not an ordinary file; choose another name"
ATTEMPTS = 100
"""How often a temporary file is made anew where another process removes it."""
LONGEST_SHOWN = 200
"""Characters of a path in a message."""


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message. Of a long one, the middle is left out."""
    text = os.fspath(path)
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}...{text[-half:]}"


# which files


def check_target(target: Path, kept: Mapping[Path, str], *, special: bool = False) -> None:
    """Raise ValueError if `target` cannot be written, or if writing it would destroy something.

    The folder of `target` must exist and be writable. `target` must be an ordinary file that is not read-only, or not exist yet; `special`
    allows devices and pipes too. It must not be one of the files in `kept`, by whatever path or link; their values say what they are, for
    example "the model itself".
    """
    try:
        problem = _problem(target, kept, special)
    except OSError as error:  # a name that is too long, a folder that cannot be searched
        problem = str(error.strerror)
    if problem:
        raise ValueError(f"cannot write {shown(target)}: {problem}")


def _problem(target: Path, kept: Mapping[Path, str], special: bool) -> str:
    """Return why `check_target` refuses a target, or ""."""
    place = _place(target)
    if place.is_symlink():
        return "its symbolic links lead in a circle"
    if not place.parent.is_dir():
        return f"there is no folder {shown(place.parent)}"
    if place.is_dir():
        return "it is a folder"
    for path, what in kept.items():
        if _same(place, path):
            return f"it is {what}; choose another name"
    if _is_special(place):
        return "" if special else NOT_ORDINARY
    if place.exists() and not os.access(place, os.W_OK):
        return "it is read-only"
    if not os.access(place.parent, os.W_OK | os.X_OK):
        return "no new file can be made in its folder"
    return ""


def referred(model: Path, location: str) -> Path:
    """Return the file that `model` refers to by `location`, a path that begins in the model's folder, without symbolic links.

    ValueError if it is absolute or leads out of the model's folder, through links too. If `model` is itself a link, the folder of the file
    that it leads to is allowed as well: caches of downloads keep models so. ONNX Runtime has the same rule for external data.
    """
    if not location or "\0" in location or Path(location).is_absolute():
        raise ValueError(f"not a relative path below the model: {shown(location)!r}")
    path = Path(os.path.realpath(model.parent / location))
    folders = (os.path.realpath(model.parent), os.path.dirname(os.path.realpath(model)))
    if not any(path.is_relative_to(folder) and path != Path(folder) for folder in folders):
        raise ValueError(f"{shown(location)!r} leads out of the model's folder")
    return path


def _place(target: Path) -> Path:
    """Return the path of the file that is written for `target`: links are followed."""
    return Path(os.path.realpath(target))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _same(a: Path, b: Path) -> bool:
    """Return whether two paths lead to the same file, whether or not it exists."""
    try:
        return os.path.realpath(a) == os.path.realpath(b) or os.path.samestat(a.stat(), b.stat())
    except (OSError, ValueError):  # one of them does not exist, or cannot: its name is too long or has a null byte
        return False


# writing


def write(target: Path, data: bytes | bytearray | memoryview, *, special: bool = False, replace: bool = True) -> None:
    """Write `data` to the file `target`, which is then complete, or as it was before.

    `special` allows devices and pipes, which are written in place. Without `replace` a file that is there stays: FileExistsError if it has
    another content. ValueError if `target` is a device or a pipe without `special`; OSError if it cannot be written.
    """
    if special and _is_special(target):
        target.write_bytes(data)
        return
    with NewFiles() as files:
        files.open(target).write(data)
        files.commit(replace=replace)


class NewFiles:
    """Files that appear under their names together, once all of them are complete.

    Use it as a context manager: write files by `open` or `folder`, then call `commit`. Where the block ends without that, whatever was
    written is removed. Only the last file may replace another one, so that one rename decides whether all is new or all is old.
    """

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Path, BinaryIO]] = {}
        self._folders: dict[Path, tuple[Path, int]] = {}

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.discard()

    def open(self, target: Path) -> BinaryIO:
        """Open a new temporary file that `commit` renames to `target`. OSError if the folder cannot be written."""
        place = _place(target)
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o666  # never open to more readers than the file it replaces
        path, descriptor = _made(place.parent, lambda path: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        try:
            self._files[place] = path, os.fdopen(descriptor, "wb")
        except BaseException:
            os.close(descriptor)
            _remove(path)
            raise
        return self._files[place][1]

    def folder(self, target: Path) -> Path:
        """Return a new temporary file path beside `target`, in a folder of its own, for code that writes files by their paths.

        The path has the name of the file that `target` leads to. `commit` moves all files in that folder to the folder of `target`, and the
        one of this name last.
        """
        place = _place(target)

        def made(path: Path) -> int:
            path.mkdir(0o700)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

        self._folders[place] = _made(place.parent, made)
        return self._folders[place][0] / place.name

    def commit(self, *, replace: bool = True) -> None:
        """Flush all files to the disk, then give them their names in the order in which they were opened.

        OSError if that fails, or if a file before the last exists already with another content; without `replace`, the last one too.
        ValueError if a target is not an ordinary file. After both, everything has its old content.
        """
        ready: dict[Path, Path] = {}
        for place, (folder, _) in self._folders.items():
            made = sorted(folder.iterdir(), key=lambda path: (path.name == place.name, path.name))
            ready |= {place.with_name(path.name): path for path in made}
        for path in ready.values():
            with path.open("rb") as made_by_others:
                os.fsync(made_by_others.fileno())
        for place, (path, file) in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            ready[place] = path
        for place, path in ready.items():
            if _is_special(place):
                raise ValueError(f"cannot write {shown(place)}: {NOT_ORDINARY}")
            if place.exists():
                _pass_on(place, path)
        if ready:
            _rename(list(ready.items()), replace=replace)

    def discard(self) -> None:
        """Remove the temporary files and folders; those that `commit` has renamed stay."""
        with ExitStack() as stack:  # it goes on where one fails, and runs the last callback first
            for path, file in self._files.values():
                stack.callback(_remove, path)
                stack.callback(_close, file)
            for path, descriptor in self._folders.values():
                stack.callback(os.close, descriptor)
                stack.callback(_remove, path)
        self._files, self._folders = {}, {}


def _pass_on(old: Path, new: Path) -> None:
    """Give a file the owner and group, as far as this process may, and the permissions of the one that it replaces."""
    was, now = old.stat(), new.stat()
    if was.st_gid != now.st_gid:
        with suppress(PermissionError):  # only root may give a file to a group that its owner is not in
            os.chown(new, -1, was.st_gid)
    if was.st_uid != now.st_uid:
        with suppress(PermissionError):  # only root may give a file away
            os.chown(new, was.st_uid, -1)
    new.chmod(stat.S_IMODE(was.st_mode))


def _rename(files: list[tuple[Path, Path]], *, replace: bool) -> None:
    """Give complete temporary files their names, all or none of them. Only the last one may `replace` another file."""
    *others, (place, path) = files
    placed: list[tuple[Path, os.stat_result]] = []
    with one_by_one(place.parent):
        try:
            for other, temporary in others:
                placed.append((other, temporary.stat()))
                _place_new(temporary, other)
            if replace:
                path.replace(place)
            else:
                _place_new(path, place)
        except BaseException:
            for other, made in placed if path.exists() else ():  # without it, the last file is renamed
                with suppress(OSError):  # it was removed meanwhile; the error that led here is the one to raise
                    if os.path.samestat(other.stat(), made):
                        other.unlink()
            raise


@contextmanager
def one_by_one(folder: Path) -> Iterator[None]:
    """Let one writer of this package at a time give names to files in a folder, if the file system has locks."""
    if TEMPORARY.fullmatch(folder.name):  # it belongs to one writer, who holds its lock
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that may be written but not read
        yield
        return
    try:
        with suppress(OSError):  # file systems without locks, where writers rely on renaming alone
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _place_new(path: Path, place: Path) -> None:
    """Give a temporary file its name `place`, if that is new. FileExistsError if there is a file with another content."""
    try:
        os.link(path, place, follow_symlinks=False)
    except FileExistsError:
        import filecmp  # only here: the first session needs neither this nor shutil

        if not filecmp.cmp(path, place, shallow=False):
            raise FileExistsError(errno.EEXIST, "exists already, with another content", str(place)) from None
    except OSError:  # file systems without hard links
        if os.path.lexists(place):
            raise
        path.rename(place)


def _made(folder: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Return path and descriptor of a new locked temporary file or folder, after removing those of writers that were killed."""
    _remove_stale(folder)
    for _ in range(ATTEMPTS - 1):
        with suppress(FileNotFoundError):  # another writer took the new file for a stale one, before it was locked
            return _made_once(folder, make)
    return _made_once(folder, make)  # /proc and /sys refuse every new file with that error, and `folder` may be gone


def _made_once(folder: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Return path and descriptor of a new locked temporary file or folder. FileNotFoundError if another process has removed it."""
    path, descriptor = folder / f".ort-sparse-{os.urandom(8).hex()}.tmp", -1
    try:
        descriptor = make(path)
        with suppress(OSError):  # file systems without locks, where nothing is stale
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.samestat(path.stat(), os.fstat(descriptor)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        _remove(path)
        raise
    return path, descriptor


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders of writers that no longer live: their locks are free."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if TEMPORARY.fullmatch(entry.name)]
    except OSError:  # it may be written but not read
        return
    for name in names:
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder / name)
        except OSError:  # its writer lives
            pass
        finally:
            os.close(descriptor)


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # a full disk: what is buffered cannot be written
        file.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil  # only here, like filecmp

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
