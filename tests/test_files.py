"""Files appear under their names when they are complete, and a failure leaves what was there."""

import contextlib
import gc
import importlib
import itertools
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from onnxruntime_ep_sparse.files import TEMPORARY, NewFiles, check_target, referred, shown, write


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


@pytest.fixture
def named(monkeypatch):
    """The names that files get, in this order."""
    order = []
    for module, function in ((os, "link"), (Path, "replace")):
        given = getattr(module, function)

        def wrapped(path, target, given=given, **options):
            order.append(Path(target).name)
            return given(path, target, **options)

        monkeypatch.setattr(module, function, wrapped)
    return order


def test_files_appear_together_in_order(tmp_path, named):
    """None is there before `commit`, which names them in the order in which they were opened."""
    with NewFiles() as files:
        for name in ("model.data", "model", "a"):
            files.open(tmp_path / name).write(name.encode())
            assert not (tmp_path / name).exists()
        files.commit()
    assert named == ["model.data", "model", "a"]
    assert all((tmp_path / name).read_text() == name for name in named)
    assert names(tmp_path) == sorted(named)


def broken(folder):
    """Write one file and fail at the next."""
    with NewFiles() as files:
        files.open(folder / "file").write(b"content")
        files.open(folder / "none" / "file")


def test_without_commit_nothing_is_left(tmp_path):
    """Whether the block fails or just ends."""
    with NewFiles() as files:
        files.open(tmp_path / "file").write(b"content")
        files.folder(tmp_path / "model").with_name("part").write_bytes(b"part")
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        broken(tmp_path)
    assert names(tmp_path) == []


def test_folder_of_files(tmp_path, named):
    """All files in it move beside the target, which is the last, with the permissions of the file that it replaces."""
    target = tmp_path / "model"
    target.write_bytes(b"older")
    target.chmod(0o640)
    with NewFiles() as files:
        path = files.folder(target)
        assert path.name == "model"
        for name in ("model", "model_b", "model_a"):
            path.with_name(name).write_text(name)
        assert target.read_bytes() == b"older"
        files.commit()
    assert named == ["model_a", "model_b", "model"]
    assert target.read_text() == "model"
    assert mode(target) == 0o640
    assert names(tmp_path) == sorted(named)


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


def test_writing_below_a_temporary_folder(tmp_path):
    """As compiling does: the code that writes by paths may call the writer itself."""
    with NewFiles() as files:
        path = files.folder(tmp_path / "model")
        write(path.with_name("part"), b"part")
        write(path, b"model")
        files.commit()
    assert names(tmp_path) == ["model", "part"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_only_the_last_file_replaces_another(tmp_path, monkeypatch, *, hard_links):
    """The others are new, or there already with the same content; otherwise all stays as it was."""
    if not hard_links:

        def refuse(path, target, **options):
            raise FileExistsError if os.path.lexists(target) else PermissionError

        monkeypatch.setattr("os.link", refuse)

    def attempt(part):
        with NewFiles() as files:
            for name, content in (("before", b"before"), ("part", part), ("model", part)):
                files.open(tmp_path / name).write(content)
            files.commit()

    attempt(b"old")
    attempt(b"old")
    (tmp_path / "before").unlink()
    with pytest.raises(FileExistsError, match="exists already, with another content"):
        attempt(b"new")
    assert names(tmp_path) == ["model", "part"]
    assert (tmp_path / "model").read_bytes() == (tmp_path / "part").read_bytes() == b"old"


def test_owner_is_kept(tmp_path):
    """Where this process may give files away; otherwise the file is still replaced."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    try:
        os.chown(target, 1234, 5678)
    except PermissionError:
        pytest.skip("only root may give files away")
    write(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 5678)


def test_longest_name(tmp_path):
    """Temporary names are not longer."""
    target = tmp_path / ("n" * 255)
    write(target, b"content")
    with NewFiles() as files:
        files.folder(target).write_bytes(b"other content")
        files.commit()
    assert target.read_bytes() == b"other content"


# failures


STEPS = ["os.open", "os.mkdir", "os.fdopen", "os.fsync", "os.link", "os.replace", "os.chmod", "os.chown", "os.scandir", "os.urandom"]
STEPS += ["fcntl.flock", "os.unlink", "os.rmdir", "os.close", "os.stat", "os.fstat", "os.listdir", "filecmp.cmp"]
"""Functions of the operating system that the writer may call."""
REMOVING = {"os.unlink", "os.rmdir", "os.scandir", "os.open", "os.stat", "os.fstat", "os.close"}
"""Those by which temporary files are removed: the next writer does it then."""


def one(folder):
    """One file."""
    write(folder / "model", b"new")


def with_data(folder):
    """Two files that the writer opens."""
    with NewFiles() as files:
        files.open(folder / "data").write(b"new data")
        files.open(folder / "model").write(b"new")
        files.commit()


def by_paths(folder):
    """Two files that other code writes by their paths."""
    with NewFiles() as files:
        path = files.folder(folder / "model")
        path.with_name("data").write_bytes(b"new data")
        path.write_bytes(b"new")
        files.commit()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("work", [one, with_data, by_paths])
def test_every_failure(tmp_path, monkeypatch, *, work, step, kind):
    """Whichever call fails, before or after its work: all is old or all is new, and the next writer leaves no temporary file."""
    module, function = (sys.modules[step.split(".")[0]], step.split(".")[1])
    importlib.import_module("filecmp")
    genuine = getattr(module, function)
    for number, late in itertools.product(range(1, 30), (False, True)):
        folder = tmp_path / f"{number}{late}"
        folder.mkdir()
        target = folder / "model"
        target.write_bytes(b"old")
        target.chmod(0o600)
        calls = 0

        def failing(*arguments, number=number, late=late, **options):
            nonlocal calls
            calls += 1
            if calls != number:
                return genuine(*arguments, **options)
            result = genuine(*arguments, **options) if late or function == "close" else None
            if late and function == "open":
                os.close(result)
            raise kind(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(module, function, failing)
            with contextlib.suppress(OSError, KeyboardInterrupt):
                work(folder)
        content = target.read_bytes()
        assert content in (b"old", b"new")
        assert mode(target) == 0o600
        if content == b"old":
            left = set(names(folder)) - {"model"}
            assert all(TEMPORARY.fullmatch(name) for name in left) or step == "os.unlink"
            assert not left or late or step in REMOVING
        elif work is not one:
            assert (folder / "data").read_bytes() == b"new data"
        gc.collect()
        write(folder / "other", b"")
        left = set(names(folder)) - {"model", "other"}
        assert left <= ({"data"} if content == b"new" or step == "os.unlink" else set())
        if calls < number:
            break
    else:
        pytest.fail(f"{step} is called more often than this test tries")


KILLED = """if True:
    import os, signal, sys, time
    from pathlib import Path
    from onnxruntime_ep_sparse.files import NewFiles
    with NewFiles() as files:
        if sys.argv[2] == "folder":
            files.folder(Path(sys.argv[1])).write_bytes(b"half")
        else:
            files.open(Path(sys.argv[1])).write(b"half")
        print("ready", flush=True)
        time.sleep(600)
    """


@pytest.mark.parametrize("way", ["folder", "file"])
def test_temporary_files_of_a_killed_writer(tmp_path, way):
    """They stay while it lives, whatever others write, and the next writer after that removes them; other files stay."""
    (tmp_path / ".ort-sparse-notes.tmp").touch()
    (tmp_path / ".ort-sparse-0123456789abcdef.tmp").symlink_to(tmp_path / "elsewhere")
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "model"), way], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"ready\n"
        write(tmp_path / "model", b"other")
        assert len(names(tmp_path)) == 4
    finally:
        writer.kill()
        writer.communicate()
    write(tmp_path / "model", b"another")
    assert names(tmp_path) == [".ort-sparse-0123456789abcdef.tmp", ".ort-sparse-notes.tmp", "model"]
    assert (tmp_path / "model").read_bytes() == b"another"


MANY = """if True:
    import sys
    from pathlib import Path
    from onnxruntime_ep_sparse.files import NewFiles, write
    folder, mine = Path(sys.argv[1]), sys.argv[2].encode()
    for i in range(100):
        with NewFiles() as files:
            files.open(folder / f"data_{sys.argv[2]}_{i % 2}").write(mine * 10_000)
            files.open(folder / "model").write(mine * 100_000)
            files.commit()
        write(folder / "document", mine * 100_000)
        assert len(set((folder / "model").read_bytes())) == 1
        assert len((folder / "document").read_bytes()) == 100_000
    """


def test_writers_at_once(tmp_path):
    """Four of them to the same targets: each file is always that of one writer, and nothing else is left."""
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), str(i)]) for i in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    assert names(tmp_path) == sorted(["document", "model", *(f"data_{i}_{k}" for i in range(4) for k in range(2))])
    assert len(set((tmp_path / "document").read_bytes())) == 1


# what may be written


@pytest.fixture
def places(tmp_path):
    """A model, ways to it, and other things that are no place for a file."""
    model = tmp_path / "model"
    model.write_bytes(b"model")
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "hard").hardlink_to(model)
    (tmp_path / "to later").symlink_to(tmp_path / "later")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "to nothing").symlink_to(tmp_path / "none" / "file")
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
        ("to later", "it is the result"),
        ("circle", "its symbolic links lead in a circle"),
        ("to nothing", "there is no folder"),
        ("n" * 256, "File name too long"),
        ("n" * 5000, "File name too long"),
    ],
)
def test_refused_targets(places, name, words):
    """Each with its path and the reason; `later` does not exist yet."""
    kept = {places / "model": "the model itself", places / "later": "the result", places / ("m" * 999): "", places / "a\0": ""}
    with pytest.raises(ValueError, match=f"^cannot write {re.escape(shown(places / name))}: {words}") as caught:
        check_target(places / name, kept)
    assert len(str(caught.value)) < 500


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


# files that a model refers to


@pytest.fixture
def layout(tmp_path):
    """A folder of a model and a folder outside of it, with links between them."""
    for folder in ("in/below", "out"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "data").touch()
    (tmp_path / "in" / "to below").symlink_to(tmp_path / "in" / "below" / "data")
    (tmp_path / "in" / "to out").symlink_to(tmp_path / "out" / "data")
    (tmp_path / "in" / "folder out").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "hard").hardlink_to(tmp_path / "out" / "data")
    (tmp_path / "out" / "model").touch()
    (tmp_path / "in" / "linked model").symlink_to(tmp_path / "out" / "model")
    return tmp_path


@pytest.mark.parametrize("location", ["below/data", "below/../below/data", "./below/data", "../in/below/data", "to below", "hard", "none"])
def test_files_below_a_model(layout, location):
    """Also by ways that leave the folder and come back. A file need not exist."""
    assert referred(layout / "in" / "model", location) == Path(os.path.realpath(layout / "in" / location))


@pytest.mark.parametrize(
    "location", ["", "/data", "../out/data", "to out", "folder out/data", "below/../../out/data", ".", "..", "a\0b", "below/" + "../" * 9]
)
def test_files_outside(layout, location):
    """Whatever the way."""
    with pytest.raises(ValueError, match=r"leads out of the model's folder|not a relative path below the model"):
        referred(layout / "in" / "model", location)


def test_cache_of_downloads(layout):
    """Model and data are links into one folder: the folder that the model leads to is allowed, too."""
    assert referred(layout / "in" / "linked model", "to out") == (layout / "out" / "data").resolve()
    assert referred(layout / "in" / "linked model", "below/data") == (layout / "in" / "below" / "data").resolve()


def test_long_paths_are_cut():
    """In messages."""
    assert shown("short") == "short"
    assert len(shown("x" * 1_000_000)) < 300


@pytest.mark.skipif(not os.access("/proc", os.W_OK), reason="needs root's rights: others are refused earlier")
def test_folders_that_take_no_file():
    """/proc says that a new file does not exist, like a file that another process has removed: the writer gives up."""
    with pytest.raises(FileNotFoundError):
        write(Path("/proc/file"), b"content")
