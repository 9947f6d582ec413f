"""`cache_dir`: packed regions of one session are mapped by the next, and nothing that can happen to the folder changes a result."""

import gc
import logging
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from fuzz import compiled_programs, mutations
from onnxruntime_ep_sparse import cache_folder
from onnxruntime_ep_sparse.formats import compressed_model
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.ort import _region, region_cache
from onnxruntime_ep_sparse.program import serialize
from onnxruntime_ep_sparse.runtime import _mapped_files, _weight_store
from support.promises import make_session

DAMAGES = 60


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    """No warning has been logged in this process."""
    monkeypatch.setattr(cache_folder, "_said", set())


@pytest.fixture
def cached(tmp_path):
    """Make a session with `cache_dir`, which is a folder of the test."""

    def make(model, options=None, **rest):
        return make_session(model, {"cache_dir": str(tmp_path / "cache"), **(options or {})}, **rest)

    return make


@pytest.fixture
def folder(tmp_path):
    """That folder."""
    return tmp_path / "cache"


@pytest.fixture
def packed(monkeypatch):
    """The regions that are packed, one entry each, by sessions with and without a cache."""
    regions = []
    for module in (region_cache, _region):
        given = module.lower_to_spec

        def noted(graph, *rest, given=given):
            regions.append(graph)
            return given(graph, *rest)

        monkeypatch.setattr(module, "lower_to_spec", noted)
    return regions


def bits(session, feeds):
    """All outputs of a run."""
    return [array.tobytes() for array in session.run(None, feeds)]


def files(folder):
    """The files there."""
    return sorted(path.name for path in folder.iterdir())


MODELS = {
    "mobilenet_v2": lambda: BUILDERS["mobilenet_v2"](sparsity=0.9),
    "bert": lambda: BUILDERS["bert_base"](sparsity=0.9, layers=2, hidden=192, heads=4),
    "lstm": lambda: BUILDERS["lstm"](sparsity=0.9, hidden=128),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits(tmp_path, folder, packed, name):
    """From the dense and the compressed file, packed, found, and without a cache; what is found is not packed again."""
    plain, compressed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    plain.write_bytes(MODELS[name]().SerializeToString())
    compressed_model.pack(plain, compressed)
    expected = session_of(plain)
    feeds = inputs_for(expected)
    regions = len(packed)
    for source in (plain, compressed):
        for again in (False, True):
            kept = len(files(folder)) if folder.exists() else 0
            packed.clear()
            found = session_of(source, cache_dir=str(folder))
            # nothing of an LSTM is compressed: the second file has the regions of the first
            assert len(packed) == (0 if again else len(files(folder)) - kept)
            assert bits(found, feeds) == bits(expected, feeds)
        assert len(files(folder)) >= regions


def session_of(file, **options):
    """A session that knows the compressed operators too."""
    return onnxruntime.InferenceSession(str(file), sparse.session_options({"policy": "always", **options}), enable_fallback=0)


def test_weights_are_used_where_they_lie(cached, model_bytes, x, folder):
    """Already by the session that has packed them: it maps what it has written."""
    nonzeros = sum(np.count_nonzero(numpy_helper.to_array(tensor)) for tensor in onnx.load_from_string(model_bytes).graph.initializer)
    gc.collect()
    before, mapped = _weight_store.held()[1], _mapped_files.held()[0]
    sessions = [cached(model_bytes) for _ in range(3)]
    assert _weight_store.held()[1] - before < 2 * nonzeros
    assert _mapped_files.held()[0] == mapped + 1
    shutil.rmtree(folder)
    expected = bits(make_session(model_bytes), {"x": x})
    assert all(bits(session, {"x": x}) == expected for session in (*sessions, cached(model_bytes)))
    assert len(files(folder)) == 1


def test_compiled_models_do_not_use_it(cached, folder, model_bytes, x, tmp_path):
    """They have their regions. A session that compiles does, and writes what it writes without."""
    blobs = []
    for options in ({}, {"cache_dir": str(folder)}, {"cache_dir": str(folder)}):
        path = tmp_path / f"compiled{len(blobs)}.onnx"
        entries = {"ep.context_enable": "1", "ep.context_embed_mode": "1", "ep.context_file_path": str(path)}
        make_session(model_bytes, options, entries=entries)
        (node,) = onnx.load(path).graph.node
        blobs.append({attribute.name: attribute.s for attribute in node.attribute}["ep_cache_context"])
    assert blobs[0] == blobs[1] == blobs[2]
    shutil.rmtree(folder)
    assert bits(cached(str(path)), {"x": x}) == bits(make_session(model_bytes), {"x": x})
    assert not folder.exists()


def test_measured_regions_leave_no_entries(cached, folder, packed, model_bytes):
    """`policy=measure` packs candidates too; only what is taken is kept."""
    session = cached(model_bytes, {"policy": "measure", "measure_budget_ms": "60000"})
    regions = {decision.region for decision in sparse.explain(session) if decision.taken}
    assert len([name for name in files(folder) if name.endswith(".region")]) == len(regions)


# what an entry depends on


def other_weight(model):
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[np.flatnonzero(array)[-1]] *= 2
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def negative_zero(model):
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[np.flatnonzero(array == 0)[0]] = -0.0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def other_attribute(model):
    model.graph.node[2].attribute[0].ints[:] = [0, 0, 2, 2]


def other_operator(model):
    model.graph.node[1].op_type = "Sigmoid"


def other_name(model):
    model.graph.node[0].name = "another"


def other_shape(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 11
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 11


@pytest.mark.parametrize(
    "change", [other_weight, negative_zero, other_attribute, other_operator, other_name, other_shape], ids=lambda change: change.__name__
)
def test_other_regions_are_others(cached, folder, model, x, change):
    """Each has an entry of its own, and its own results."""
    cached(model)
    change(model)
    feeds = {"x": x[:, :, : model.graph.input[0].type.tensor_type.shape.dim[2].dim_value]}
    assert bits(cached(model), feeds) == bits(make_session(model), feeds)
    assert len(files(folder)) == 2


@pytest.mark.parametrize(("place", "name", "value"), [(region_cache, "__version__", "9.9.9"), (serialize, "VERSION", 99)])
def test_entries_of_other_versions_do_not_count(cached, folder, packed, model_bytes, monkeypatch, place, name, value):
    """Of the package and of the layout: packed anew, beside the older one."""
    cached(model_bytes)
    monkeypatch.setattr(place, name, value)
    cached(model_bytes)
    assert len(packed) == len(files(folder)) == 2


def test_each_instruction_set_has_its_own(cached, folder, packed, model_bytes, x):
    """Packed for its vectors."""
    for isa in (*kernels.available_isas(), *kernels.available_isas()):
        assert bits(cached(model_bytes, {"isa": isa}), {"x": x}) == bits(make_session(model_bytes, {"isa": isa}), {"x": x})
    assert len(files(folder)) == len(kernels.available_isas())


def test_threads_share_entries(cached, folder, model_bytes):
    """What is packed does not depend on their number."""
    for threads in (1, 2, 3):
        cached(model_bytes, {"threads": str(threads)})
    assert len(files(folder)) == 1


def test_size_of_the_folder(cached, folder, model, x):
    """`cache_max_mb` arrives: entries whose last use is longest ago go, and sessions that have mapped them go on."""
    expected = bits(make_session(model), {"x": x})
    first = cached(model)
    (entry,) = folder.iterdir()
    (folder / "ort-sparse-0.region").write_bytes(bytes(1_000_000))
    model.graph.node[0].name = "another"
    cached(model, {"cache_max_mb": "2"})
    assert len(files(folder)) == 3
    model.graph.node[0].name = "a third"
    third = cached(model, {"cache_max_mb": "1"})
    assert len(files(folder)) == 2
    assert not entry.exists()
    assert "ort-sparse-0.region" not in files(folder)
    assert bits(first, {"x": x}) == bits(third, {"x": x}) == expected


# folders that something has happened to


def test_damaged_entries(cached, folder, packed, model_bytes, x):
    """Whatever bytes stand there: the region is packed again without a word, and the entry is whole afterwards."""
    expected = bits(cached(model_bytes), {"x": x})
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", whole[:-1], whole + b"\0", whole[: len(whole) // 2], bytes(len(whole)), compiled_programs.seeds()[0].blob]
    damaged += [mutations.mutated(rng, whole) for _ in range(DAMAGES)]
    for data in damaged:
        # by renaming, as sessions have mapped the file
        entry.with_name("other").write_bytes(data)
        entry.with_name("other").replace(entry)
        packed.clear()
        assert bits(cached(model_bytes), {"x": x}) == expected
        assert len(packed) == (data != whole)
        assert entry.read_bytes() == whole


def test_entries_under_another_name(cached, folder, model, x):
    """An entry that someone has renamed is not taken for another one."""
    cached(model)
    (first,) = folder.iterdir()
    other_weight(model)
    expected = bits(cached(model), {"x": x})
    (second,) = set(folder.iterdir()) - {first}
    shutil.copy(first, folder / "copy")
    (folder / "copy").replace(second)
    assert bits(cached(model), {"x": x}) == expected


@pytest.mark.parametrize("fault", ["full disk", "a file", "read-only", "a folder in place of the entry", "no memory to map"])
def test_faults(cached, folder, model_bytes, x, monkeypatch, caplog, fault):
    """Cost no session and no result; one warning says why nothing can be kept."""
    expected = bits(make_session(model_bytes), {"x": x})
    if fault == "full disk":

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
    elif fault == "a file":
        folder.write_text("")
    elif fault == "read-only":
        folder.mkdir()

        def refuse(path, *rest):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("os.open", refuse)  # root may write to a read-only folder
    elif fault == "no memory to map":

        def fail(path):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(region_cache, "MappedFile", fail)
    else:
        cached(model_bytes)
        (entry,) = folder.iterdir()
        entry.unlink()
        entry.mkdir()
    for _ in range(2):
        assert bits(cached(model_bytes), {"x": x}) == expected
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if fault == "no memory to map":
        assert warnings == []
    else:
        (warning,) = warnings
        assert f"cache_dir {folder}: nothing can be kept there: " in warning


WORKER = """if True:
    import sys
    import numpy, onnxruntime
    import onnxruntime_ep_sparse as sparse
    from onnxruntime_ep_sparse.runtime import _weight_store
    sparse.register()
    sys.stdin.read(1)
    options = {"policy": "always", "cache_dir": sys.argv[2]}
    session = onnxruntime.InferenceSession(sys.argv[1], providers=[(sparse.EP_NAME, options), "CPUExecutionProvider"], enable_fallback=0)
    inode = {line.split()[4] for line in open("/proc/self/maps") if ".region" in line} if sys.platform == "linux" else {"one"}
    print(*inode, flush=True)
    x = numpy.random.default_rng(1).standard_normal((2, 16, 12, 12)).astype(numpy.float32)
    print(session.run(None, {"x": x})[0].tobytes().hex(), flush=True)
    """


def test_processes_at_the_same_time(model_file, folder, x):
    """Eight of them make the same entry: all have the right results, and all use one file."""
    command = [sys.executable, "-c", WORKER, str(model_file), str(folder)]
    with ExitStack() as stack:
        workers = [stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)) for _ in range(8)]
        for worker in workers:
            worker.stdin.write("x")
            worker.stdin.flush()
        said = [worker.communicate(timeout=300)[0].split() for worker in workers]
    (expected,) = bits(make_session(str(model_file)), {"x": x})
    assert {result for _, result in said} == {expected.hex()}
    assert len({inode for inode, _ in said}) == 1
    assert len(files(folder)) == 1


def test_writer_that_is_killed(model_file, folder, cached, x):
    """Leaves no entry; the next writer removes what it has left."""
    folder.mkdir()
    (folder / ".ort-sparse-0123456789abcdef.tmp").write_bytes(b"ORTC")
    cached(str(model_file))
    assert [os.path.splitext(name)[1] for name in files(folder)] == [".region"]
