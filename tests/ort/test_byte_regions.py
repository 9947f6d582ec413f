"""Regions of 8-bit integers in sessions: every set of kernels for bytes, the folder of `cache_dir`, compiled models, many callers."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.image_net import SHAPE, image_net, quantise
from support.making import noise
from support.promises import owned_session

ROWS = [row for row in byte_sets_for(ISAS) if row.name in kernels.available_byte_sets()]
EVERY_SET = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
FEEDS = [{"x": noise(np.random.default_rng(seed), *SHAPE)} for seed in range(6)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Quantised files of a small net, by kind."""
    folder = tmp_path_factory.mktemp("bytes")
    onnx.save(image_net(), folder / "net.onnx")
    kinds = ("QDQ uint8", "QDQ int8", "dynamic")
    for kind in kinds:
        quantise(folder / "net.onnx", folder / f"{kind}.onnx", kind)
    return {kind: str(folder / f"{kind}.onnx") for kind in kinds}


def bits(session, feeds=FEEDS):
    """The outputs of several runs."""
    return [session.run(None, each)[0].tobytes() for each in feeds]


@pytest.mark.parametrize("kind", ["QDQ uint8", "QDQ int8"])
def test_every_set_gives_the_same_bits(files, kind):
    """The option `isa` forces each of them; so do results that are integers until the end."""
    expected = bits(owned_session(files[kind], regions=1))
    for row in ROWS:
        for threads in (1, 3):
            assert bits(owned_session(files[kind], {"isa": row.name, "threads": str(threads)}, regions=1)) == expected, row.name


@EVERY_SET
def test_the_set_that_is_named_runs(row, files, tmp_path):
    """ONNX Runtime's profile has its name at the end of the kernels for bytes, and the instruction set's at the end of others."""
    chosen = onnxruntime.SessionOptions()
    chosen.enable_profiling, chosen.profile_file_prefix = True, str(tmp_path / "profile")
    options = sparse.session_options({"policy": "always", "isa": row.name}, chosen)
    session = onnxruntime.InferenceSession(files["QDQ uint8"], options, enable_fallback=0)
    session.run(None, FEEDS[0])
    events = json.loads(Path(session.end_profiling()).read_text())
    names = {event["args"]["kernel"] for event in events if "kernel" in event["args"]}
    assert f"spmm_u8_quads_{row.name}" in names
    assert {name for name in names if name.startswith("spmm_u8")} == {name for name in names if name.endswith(f"_{row.name}")}


@pytest.mark.parametrize("kind", ["QDQ uint8", "dynamic"])
def test_cached(files, kind, tmp_path):
    """The second session, with any kernels for bytes of the instruction set, maps what the first has packed; all give the same bits."""
    for isa in kernels.available_isas():
        folder = tmp_path / isa
        expected = bits(owned_session(files[kind], {"isa": isa}))
        for name in (isa, isa, *(row.name for row in ROWS if row.isa.name == isa)):
            assert bits(owned_session(files[kind], {"isa": name, "cache_dir": str(folder)})) == expected
            kept = sorted((path.name, path.stat().st_ino) for path in folder.iterdir())
            if name == isa:
                first = kept
            assert kept == first


@pytest.mark.parametrize("kind", ["QDQ uint8", "QDQ int8", "dynamic"])
@EVERY_SET
def test_compiled(files, kind, row):
    """A model that was compiled for each instruction set gives, with each set of kernels, the bits of the file itself."""
    expected = bits(owned_session(files[kind], {"isa": row.name}))
    for isa in kernels.available_isas():
        options = sparse.session_options({"policy": "always", "isa": isa})
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        blob = onnxruntime.ModelCompiler(
            options, files[kind], embed_compiled_data_into_model=True, graph_optimization_level=level
        ).compile_to_bytes()
        assert bits(owned_session(blob, {"isa": row.name})) == expected


@pytest.mark.parametrize("kind", ["QDQ uint8", "dynamic"])
def test_many_callers(files, kind):
    """Threads that call one session, and sessions that share weights, get what one caller gets alone."""
    session, other = (owned_session(files[kind], {"threads": "2"}, threads=2) for _ in range(2))
    expected = bits(session)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(bits, each, [FEEDS[i]]) for _ in range(10) for i in range(len(FEEDS)) for each in (session, other)]
        assert [run.result()[0] for run in runs] == [expected[i] for _ in range(10) for i in range(len(FEEDS)) for _ in range(2)]
