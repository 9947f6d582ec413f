"""Files that are mapped once in a process, as long as anything reads them, and programs that read them where they lie."""

import gc
import os

import pytest

import onnxruntime_ep_sparse_kernels as kernels
from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse.files import write
from onnxruntime_ep_sparse.program import serialize
from onnxruntime_ep_sparse.runtime import _weight_store
from onnxruntime_ep_sparse.runtime._mapped_files import MappedFile, held
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import isa_named

SEEDS = fuzz.seeds()
CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def nothing_left():
    """What a test maps is unmapped with it."""
    gc.collect()
    before = held()
    yield
    gc.collect()
    assert held() == before


@pytest.fixture
def file(tmp_path):
    """A file with some content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def test_bytes(file):
    """Are those of the file, read-only, by any path to it."""
    os.link(file, file.with_name("link"))
    maps = [MappedFile(path) for path in (file, str(file), file.with_name("link"))]
    for mapped in maps:
        view = memoryview(mapped)
        assert bytes(view) == CONTENT
        assert view.readonly
    assert held() == (1, len(CONTENT))
    del mapped, maps
    assert held()[0] == 1  # the view
    assert bytes(view) == CONTENT


@pytest.mark.parametrize("change", [lambda file: write(file, b"new"), os.unlink], ids=["replaced", "deleted"])
def test_other_files_of_that_name(file, change):
    """A mapping keeps the file that it is of."""
    mapped = MappedFile(file)
    change(file)
    assert bytes(mapped) == CONTENT
    file.write_bytes(b"another")
    assert bytes(MappedFile(file)) == b"another"
    assert bytes(mapped) == CONTENT


def test_what_cannot_be_mapped(tmp_path):
    """Is an OSError with words; an empty file has no bytes."""
    with pytest.raises(OSError, match="No such file"):
        MappedFile(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OSError, match="not an ordinary file"):
            MappedFile(path)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert bytes(MappedFile(empty)) == b""


def program_of(data):
    """A program that reads these bytes of a compiled region, and its inputs' names."""
    isa = isa_named(kernels.available_isas()[0])
    region = serialize.decode(data)
    return Program(serialize.for_isa(region, isa), kernels.table(isa.name), byte_table=kernels.byte_table(isa.name)), region.program.inputs


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS, ids=[seed.name for seed in SEEDS])
def test_programs_of_mapped_files(tmp_path, seed):
    """Have the bits of programs with copies, hold less memory, and keep the file mapped until they are released."""
    path = tmp_path / "program.bin"
    path.write_bytes(seed.blob)
    bits, bytes_held = [], []
    for data in (seed.blob, MappedFile(path)):
        before = _weight_store.held()[1]
        program, inputs = program_of(memoryview(data))
        bytes_held.append(_weight_store.held()[1] - before)
        del data
        path.unlink(missing_ok=True)
        gc.collect()
        bits.append([array.tobytes() for array in program.run(*[seed.inputs[name] for name in inputs])])
        del program
        gc.collect()
    assert bits[0] == bits[1]
    assert bytes_held[1] < bytes_held[0]


def test_arrays_lie_at_multiples_of_a_cache_line(tmp_path):
    """In the memory of a mapped program, so that kernels may rely upon it."""
    path = tmp_path / "program.bin"
    path.write_bytes(SEEDS[0].blob)
    panels = [
        group.panel for step in serialize.decode(memoryview(MappedFile(path))).program.steps for group in getattr(step.spec, "groups", ())
    ]
    assert panels
    for array in (array for panel in panels for array in (panel.k__nc, panel.value__nr, panel.row__bgr, panel.row_start__bg)):
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable
