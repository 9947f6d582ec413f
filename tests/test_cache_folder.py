"""The folder of `cache_dir`: entries that are whole or none, writers at the same time, folders that cannot be written, its size."""

import logging
import mmap
import os
import subprocess
import sys
from pathlib import Path

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
    cache = CacheFolder(tmp_path / "a" / "b", "region", 0)
    assert cache.load("k", read) is None
    assert cache.keep("k", OLD, read) == OLD
    assert cache.load("k", read) == cache.keep("k", NEW, read) == OLD
    assert cache.load("other", read) is None
    assert CacheFolder(cache.path, "verdict", 0).load("k", read) is None
    assert names(cache.path) == ["ort-sparse-k.region"]


def test_home(monkeypatch, tmp_path):
    """The folder may be given by "~"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheFolder("~/cache", "region", 0).path == tmp_path / "cache"


def test_damaged_entries_are_replaced(tmp_path):
    """By whoever finds them."""
    cache = CacheFolder(tmp_path, "region", 0)
    for damaged in (b"", b"damaged"):
        cache.file("k").write_bytes(damaged)
        assert cache.load("k", read) is None
        assert cache.keep("k", NEW, read) == NEW
        assert cache.load("k", read) == NEW


def test_the_first_writer_wins(tmp_path, monkeypatch):
    """An entry that appears while another writer makes the same one stays, so that all map one file."""
    cache = CacheFolder(tmp_path, "region", 0)
    given = cache_folder.write

    def late(file, data, **options):
        file.write_bytes(OLD)
        given(file, data, **options)

    monkeypatch.setattr(cache_folder, "write", late)
    assert cache.keep("k", NEW, read) == OLD
    assert names(tmp_path) == ["ort-sparse-k.region"]


@pytest.mark.parametrize("fault", ["full", "file", "pipe"])
def test_what_cannot_be_written(tmp_path, monkeypatch, caplog, fault):
    """A full disk, a folder that cannot be made, a target that is no file: False, and one warning however often."""
    folder = tmp_path / "cache"
    if fault == "file":
        folder.write_text("")
    elif fault == "pipe":
        (folder / "ort-sparse-k.region").mkdir(parents=True)
    else:

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
    cache = CacheFolder(folder, "region", 0)
    for _ in range(2):
        assert cache.keep("k", NEW, read) is None
        assert cache.load("k", read) is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"cache_dir {folder}: nothing can be kept there: ")
    assert fault != "full" or names(folder) == []


WRITER = """if True:
    import sys
    from onnxruntime_ep_sparse.cache_folder import CacheFolder
    cache, said = CacheFolder(sys.argv[1], "region", 0), sys.argv[2].encode()
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
    assert names(tmp_path) == ["ort-sparse-k.region"]


# the size of the folder


def entry(letter, size=400_000):
    """A whole entry of some bytes."""
    return b"whole" + letter.encode() * (size - 5)


def size_of(folder):
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def used(cache, *keys):
    """Set the times at which entries were used last, the first one longest ago."""
    for age, key in enumerate(reversed(keys), 1):
        os.utime(cache.file(key), (0, 1_700_000_000 - 60 * age))


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    """Of any kind. A use is whatever finds the entry; files of others stay, and do not count."""
    cache, verdicts = CacheFolder(tmp_path, "region", 1), CacheFolder(tmp_path, "verdict", 1)
    (tmp_path / "ort-sparse-notes.txt").write_bytes(entry("n", 2_000_000))
    for key in "ab":
        assert cache.keep(key, entry(key), read) == entry(key)
    assert verdicts.keep("v", OLD, read) == OLD
    used(verdicts, "v")
    used(cache, "a", "b")
    assert cache.load("a", read) is not None
    assert cache.keep("c", entry("c"), read) == entry("c")
    assert names(tmp_path) == ["ort-sparse-a.region", "ort-sparse-c.region", "ort-sparse-notes.txt"]
    used(cache, "a", "c")
    assert cache.keep("a", entry("x"), read) == entry("a")  # found, so it is used
    assert verdicts.keep("w", entry("w"), read) == entry("w")
    assert names(tmp_path) == ["ort-sparse-a.region", "ort-sparse-notes.txt", "ort-sparse-w.verdict"]


def test_without_limit(tmp_path):
    """0 keeps everything."""
    cache = CacheFolder(tmp_path, "region", 0)
    for key in "abcd":
        cache.keep(key, entry(key), read)
    assert len(names(tmp_path)) == 4


def test_exactly_as_large_as_allowed(tmp_path):
    """Nothing is removed that has place."""
    cache = CacheFolder(tmp_path, "region", 1)
    cache.keep("a", entry("a", 500_000), read)
    cache.keep("b", entry("b", 500_000), read)
    assert len(names(tmp_path)) == 2
    used(cache, "b", "a")
    cache.keep("c", entry("c", 6), read)
    assert names(tmp_path) == ["ort-sparse-a.region", "ort-sparse-c.region"]


def test_entry_larger_than_the_folder_may_be(tmp_path, caplog):
    """It is not kept, a warning says so once, and nothing is removed for it."""
    cache = CacheFolder(tmp_path, "region", 1)
    cache.keep("a", entry("a"), read)
    for _ in range(2):
        assert cache.keep("b", entry("b", 1_000_001), read) is None
    assert names(tmp_path) == ["ort-sparse-a.region"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == f"cache_dir {tmp_path}: an entry of 1.0 MB is not kept; set cache_max_mb above 1"


def test_damaged_entries_count_and_go(tmp_path):
    """They have their place among the others."""
    cache = CacheFolder(tmp_path, "region", 1)
    cache.keep("a", entry("a"), read)
    cache.file("b").write_bytes(bytes(900_000))
    used(cache, "b", "a")
    cache.keep("c", entry("c"), read)
    assert names(tmp_path) == ["ort-sparse-a.region", "ort-sparse-c.region"]


def test_removed_entries_stay_mapped(tmp_path):
    """Who has mapped one reads on: only its name goes."""
    cache = CacheFolder(tmp_path, "region", 1)
    cache.keep("a", entry("a"), read)
    used(cache, "a")
    with cache.file("a").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cache.keep("b", entry("b", 800_000), read)
    assert names(tmp_path) == ["ort-sparse-b.region"]
    assert mapped[:] == entry("a")


def refused(path, *rest, **named):
    """What the system says of another user's file."""
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("fault", ["time of use", "another user's", "a folder", "removed by another"])
def test_obstacles(tmp_path, monkeypatch, caplog, fault):
    """Entries that cannot be marked as used or removed, or are gone already: others go, without a word."""
    cache = CacheFolder(tmp_path, "region", 1)
    for key in "ab":
        cache.keep(key, entry(key), read)
    used(cache, "a", "b")
    unlink = os.unlink

    def unlink_oldest(path, *rest, **named):
        if Path(path) == cache.file("a"):
            if fault == "another user's":
                refused(path)
            unlink(path, *rest, **named)
        unlink(path, *rest, **named)

    if fault == "time of use":
        monkeypatch.setattr("os.utime", refused)
    elif fault == "a folder":
        cache.file("d").mkdir()
        used(cache, "d")
    else:
        monkeypatch.setattr("os.unlink", unlink_oldest)
    assert cache.keep("c", entry("c"), read) == entry("c")
    assert sorted(key for key in "abc" if cache.file(key).exists()) == (["a", "c"] if fault == "another user's" else ["b", "c"])
    assert caplog.records == []


def test_nothing_can_be_removed(tmp_path, monkeypatch, caplog):
    """The entries are used all the same, and one warning says why the folder grows."""
    cache, unlink = CacheFolder(tmp_path, "region", 1), os.unlink

    def unlink_others(path, **named):
        (refused if cache_folder.ENTRY.fullmatch(Path(path).name) else unlink)(path, **named)

    monkeypatch.setattr("os.unlink", unlink_others)
    for key in "abcd":
        assert cache.keep(key, entry(key), read) == entry(key)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == f"cache_dir {tmp_path}: it is larger than cache_max_mb=1: [Errno 1] Operation not permitted"


def test_full_disk_removes_nothing(tmp_path, monkeypatch, caplog):
    """What is there stays there if the new entry cannot be written."""
    cache = CacheFolder(tmp_path, "region", 1)
    for key in "ab":
        cache.keep(key, entry(key), read)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert cache.keep("c", entry("c"), read) is None
    assert names(tmp_path) == ["ort-sparse-a.region", "ort-sparse-b.region"]
    assert "No space left on device" in caplog.text


CROWD = """if True:
    import mmap, sys
    from onnxruntime_ep_sparse.cache_folder import CacheFolder
    cache, own = CacheFolder(sys.argv[1], "region", 1), sys.argv[2]
    def read(file):
        with file.open("rb") as opened:
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    mapped = []
    for number in range(30):
        # every second entry is one that the others make too; the first letter is what it holds
        key = "ABCDEFG"[number % 7] if number % 2 else own + str(number)
        # None: the others have written so much at once that this one went as soon as it was there
        mapped.append((key[:1].encode(), cache.keep(key, key[:1].encode() * 150_000, read)))
    assert sum(data is not None for _, data in mapped) > 15
    assert all(data[:] == letter * 150_000 for letter, data in mapped if data is not None)
    """


def test_crowd_of_writers(tmp_path):
    """Each maps what it has asked for, whatever the others remove meanwhile; at the end the folder has the size that it may have."""
    writers = [subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path), own]) for own in "abc"]
    assert [writer.wait(300) for writer in writers] == [0] * 3
    assert names(tmp_path)
    assert all(cache_folder.ENTRY.fullmatch(name) for name in names(tmp_path))
    assert size_of(tmp_path) <= 1_000_000
