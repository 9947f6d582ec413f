"""Files appear under their names when they are complete, and a failure leaves what was there."""

import os
import stat
import threading
from pathlib import Path

import pytest

from onnxruntime_ep_sparse.files import NewFiles, check_target, write


def names(folder):
    """The names of all files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that cannot keep what is written."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)


def test_write(tmp_path):
    """A new file has the permissions of any new file."""
    target, other = tmp_path / "new.bin", tmp_path / "other"
    write(target, b"content")
    other.touch()
    assert target.read_bytes() == b"content"
    assert mode(target) == mode(other)
    assert names(tmp_path) == ["new.bin", "other"]


@pytest.mark.parametrize("permissions", [0o600, 0o664, 0o755])
def test_replaced_file_keeps_its_permissions(tmp_path, permissions):
    """Those of the file that was there, whatever the umask."""
    target = tmp_path / "old.bin"
    target.write_bytes(b"older and longer")
    target.chmod(permissions)
    write(target, b"new")
    assert target.read_bytes() == b"new"
    assert mode(target) == permissions


def test_symbolic_link_is_followed(tmp_path):
    """The link stays, the file that it leads to is replaced."""
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "file", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first", b"second"):
        write(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert names(tmp_path / "folder") == ["file"]


@pytest.mark.usefixtures("full_disk")
def test_failure_keeps_the_older_file(tmp_path):
    """The temporary file is gone too."""
    target = tmp_path / "old.bin"
    target.write_bytes(b"older")
    with pytest.raises(OSError, match="No space left"):
        write(target, b"new")
    assert target.read_bytes() == b"older"
    assert names(tmp_path) == ["old.bin"]


def test_pipe_is_written_in_place(tmp_path):
    """Only where special files are allowed; a pipe is never replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="not an ordinary file"):
        write(pipe, b"content")
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe, b"content", special=True)
    reader.join(60)
    assert found == [b"content"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_device_is_written_in_place():
    """The null device stays one."""
    write(Path("/dev/null"), b"content", special=True)
    assert Path("/dev/null").is_char_device()


def test_files_appear_together_in_order(tmp_path, monkeypatch):
    """None is there before `commit`, which names them in the order in which they were opened."""
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append(target.name) or replace(path, target))
    with NewFiles() as files:
        for name in ("model.data", "model", "a"):
            files.open(tmp_path / name).write(name.encode())
            assert not (tmp_path / name).exists()
        files.commit()
    assert order == ["model.data", "model", "a"]
    assert all((tmp_path / name).read_text() == name for name in order)
    assert names(tmp_path) == sorted(order)


def broken(folder):
    """Write one file and fail at the next."""
    with NewFiles() as files:
        files.open(folder / "file").write(b"content")
        files.open(folder / "none" / "file")


def test_without_commit_nothing_is_left(tmp_path):
    """Whether the block fails or just ends."""
    with NewFiles() as files:
        files.open(tmp_path / "file").write(b"content")
        (files.folder(tmp_path / "model") / "part").write_bytes(b"part")
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        broken(tmp_path)
    assert names(tmp_path) == []


def test_folder_of_files(tmp_path, monkeypatch):
    """All files in it move beside the target, which is the last, with the permissions of the file that it replaces."""
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append(target.name) or replace(path, target))
    target = tmp_path / "model"
    target.write_bytes(b"older")
    target.chmod(0o640)
    with NewFiles() as files:
        folder = files.folder(target)
        for name in ("model", "model_b", "model_a"):
            (folder / name).write_text(name)
        assert target.read_bytes() == b"older"
        files.commit()
    assert order == ["model_a", "model_b", "model"]
    assert target.read_text() == "model"
    assert mode(target) == 0o640
    assert names(tmp_path) == sorted(order)


def test_commit_replaces_ordinary_files_only(tmp_path):
    """A pipe that appeared in between stays, and so does everything else."""
    with NewFiles() as files:
        for name in ("first", "second"):
            files.open(tmp_path / name).write(b"content")
        os.mkfifo(tmp_path / "second")
        with pytest.raises(ValueError, match="second: it is not an ordinary file"):
            files.commit()
    assert names(tmp_path) == ["second"]
    assert (tmp_path / "second").is_fifo()


# what may be written


@pytest.fixture
def places(tmp_path):
    """A model, ways to it, and other things that are no place for a file."""
    model = tmp_path / "model"
    model.write_bytes(b"model")
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "hard").hardlink_to(model)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none/file", "there is no folder"),
        ("model/file", "there is no folder"),
        ("folder", "it is a folder"),
        ("pipe", "it is not an ordinary file; choose another name"),
        ("model", "it is the model itself; choose another name"),
        ("folder/../model", "it is the model itself"),
        ("link", "it is the model itself"),
        ("hard", "it is the model itself"),
        ("later", "it is the result"),
        ("folder/../later", "it is the result"),
    ],
)
def test_refused_targets(places, name, words):
    """Each with its path and the reason; `later` does not exist yet."""
    with pytest.raises(ValueError, match=f"^cannot write {places / name}: {words}"):
        check_target(places / name, {places / "model": "the model itself", places / "later": "the result"})


def test_allowed_targets(places):
    """New files, other files, and special ones where they are allowed."""
    check_target(places / "new", {places / "model": "the model itself"})
    check_target(places / "model", {places / "later": "the result"})
    check_target(places / "pipe", {}, special=True)
    check_target(Path("/dev/null"), {}, special=True)


@pytest.mark.parametrize(("denied", "words"), [("model", "it is read-only"), ("", "no new file can be made in its folder")])
def test_missing_rights(places, monkeypatch, denied, words):
    """They are found before the work."""
    monkeypatch.setattr("os.access", lambda path, rights: Path(path) != places / denied)
    with pytest.raises(ValueError, match=words):
        check_target(places / "model", {})
