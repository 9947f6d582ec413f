"""The folder of `cache_dir`: entries that are whole or none, writers at the same time, folders that cannot be written."""

import logging
import subprocess
import sys

import pytest

from onnxruntime_ep_sparse import cache_folder
from onnxruntime_ep_sparse.cache_folder import CacheFolder

OLD, NEW = b"whole: old", b"whole: new"


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    """No warning has been logged in this process."""
    monkeypatch.setattr(cache_folder, "_said", set())


def read(file):
    """The bytes of an entry that is whole."""
    data = file.read_bytes()
    if not data.startswith(b"whole"):
        raise ValueError("damaged")
    return data


def names(folder):
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_entries(tmp_path):
    """Are found by key and kind, in a folder that is made."""
    cache = CacheFolder(tmp_path / "a" / "b", "kind")
    assert cache.load("k", read) is None
    assert cache.keep("k", OLD, read) == OLD
    assert cache.load("k", read) == cache.keep("k", NEW, read) == OLD
    assert cache.load("other", read) is None
    assert CacheFolder(cache.path, "other").load("k", read) is None
    assert names(cache.path) == ["ort-sparse-k.kind"]


def test_home(monkeypatch, tmp_path):
    """The folder may be given by "~"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheFolder("~/cache", "kind").path == tmp_path / "cache"


def test_damaged_entries_are_replaced(tmp_path):
    """By whoever finds them."""
    cache = CacheFolder(tmp_path, "kind")
    for damaged in (b"", b"damaged"):
        cache.file("k").write_bytes(damaged)
        assert cache.load("k", read) is None
        assert cache.keep("k", NEW, read) == NEW
        assert cache.load("k", read) == NEW


def test_the_first_writer_wins(tmp_path, monkeypatch):
    """An entry that appears while another writer makes the same one stays, so that all map one file."""
    cache = CacheFolder(tmp_path, "kind")
    given = cache_folder.write

    def late(file, data, **options):
        file.write_bytes(OLD)
        given(file, data, **options)

    monkeypatch.setattr(cache_folder, "write", late)
    assert cache.keep("k", NEW, read) == OLD
    assert names(tmp_path) == ["ort-sparse-k.kind"]


@pytest.mark.parametrize("fault", ["full", "file", "pipe"])
def test_what_cannot_be_written(tmp_path, monkeypatch, caplog, fault):
    """A full disk, a folder that cannot be made, a target that is no file: False, and one warning however often."""
    folder = tmp_path / "cache"
    if fault == "file":
        folder.write_text("")
    elif fault == "pipe":
        (folder / "ort-sparse-k.kind").mkdir(parents=True)
    else:

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
    cache = CacheFolder(folder, "kind")
    for _ in range(2):
        assert cache.keep("k", NEW, read) is None
        assert cache.load("k", read) is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"cache_dir {folder}: nothing can be kept there: ")
    assert fault != "full" or names(folder) == []


WRITER = """if True:
    import sys
    from onnxruntime_ep_sparse.cache_folder import CacheFolder
    cache, said = CacheFolder(sys.argv[1], "kind"), sys.argv[2].encode()
    def read(file):
        data = file.read_bytes()
        if len(data) != 1 << 20 or len(set(data)) != 1:
            raise ValueError
        return data
    for _ in range(20):
        assert cache.keep("k", said * (1 << 20), read) is not None
        assert cache.load("k", read) is not None
    """


def test_writers_at_the_same_time(tmp_path):
    """Every reader finds a whole file, and nothing else is left in the folder."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), said]) for said in "abc"]
    assert [writer.wait(300) for writer in writers] == [0] * 3
    assert names(tmp_path) == ["ort-sparse-k.kind"]
