"""Compiled programs as bytes: round trips, damage, hostile headers, other instruction sets."""

import itertools
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from onnx import helper

import onnxruntime_ep_sparse_kernels as kernels
from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse.program import serialize
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.product import Product
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import ByteSet, isa_named
from support.kernel_sets import EMULATED, byte_table_of, table_of
from support.making import model_of, pruned

SEEDS = fuzz.seeds()
BEST = kernels.available_isas()[0]
EVERY_SEED = pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)


def equal(a, b):
    """Whether two trees of dataclasses are the same, arrays with type and bits."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return type(a) is type(b) and all(equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(member, b[key]) for key, member in a.items())
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@EVERY_SEED
def test_round_trip(seed):
    """Decoding returns the encoded program, and encoding it again gives the same bytes."""
    found = serialize.decode(seed.blob)
    again = serialize.encode(found)
    assert bytes(again) == seed.blob
    assert equal(serialize.decode(again), found)


def test_every_kind_of_step_is_tried():
    """The seeds of these tests and of the fuzzer contain all kinds."""
    kinds = {step.kind for seed in SEEDS for step in serialize.decode(seed.blob).program.steps}
    assert kinds == set(StepKind)


@EVERY_SEED
def test_every_cut_is_refused(seed):
    """The bytes end too early at any place, with or without a checksum that fits."""
    cuts = {*range(0, 64), *np.random.default_rng(0).integers(0, len(seed.blob), 40).tolist(), len(seed.blob) - 1}
    for end, sign in itertools.product(sorted(cuts), (bytes, fuzz.signed)):
        with pytest.raises(ValueError, match=r"ends in its head|cut off|checksum|ends at byte|begin with|not JSON|described"):
            serialize.decode(sign(seed.blob[:end]))


@EVERY_SEED
def test_every_flipped_bit_is_found(seed):
    """The checksum finds it, or a check before that."""
    for place in np.random.default_rng(0).integers(0, len(seed.blob), 60):
        damaged = bytearray(seed.blob)
        damaged[place] ^= 1 << int(place) % 8
        with pytest.raises(ValueError, match=r"checksum|version|begin with|cut off"):
            serialize.decode(damaged)


def test_longer_than_described():
    """Bytes after the last array are refused."""
    with pytest.raises(ValueError, match="are described"):
        serialize.decode(fuzz.signed(SEEDS[0].blob + b"more"))


@pytest.mark.parametrize("version", [1, 2, 9])
def test_other_version(version):
    """Another version of the layout is refused, and the error says what to do."""
    blob = bytearray(SEEDS[0].blob)
    blob[4] = version
    message = f"version {version} of the compiled program is not supported, only version 8: compile the model again"
    with pytest.raises(ValueError, match=message):
        serialize.decode(fuzz.signed(blob))


def test_nonzeros_take_six_bytes():
    """Four bytes for the value, two for the column."""
    weight = pruned(np.random.default_rng(0), (256, 512))
    model = model_of([helper.make_node("MatMul", ["w", "x"], ["y"])], {"x": (512, 7)}, ["y"], {"w": weight})
    (blob,) = fuzz.blobs_of(model)
    assert len(blob) < 6.8 * np.count_nonzero(weight)


def test_documented_layout():
    """The layout of the documentation, read by hand."""
    blob = SEEDS[0].blob
    assert (blob[:4], int.from_bytes(blob[4:8], "little")) == (b"ORTC", 8)
    header = json.loads(blob[16 : 16 + int.from_bytes(blob[8:12], "little")])
    assert {"PRODUCT", "DEPTHWISE", "POOL"} <= {step["kind"] for step in header["compiled"]["program"]["steps"]}
    place = 16 + int.from_bytes(blob[8:12], "little")
    for name, shape in header["arrays"]:
        place += -place % 64 + int(np.prod(shape, dtype=np.int64)) * np.dtype(name).itemsize
    assert place == len(blob)


# hostile headers


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "does not consist of"),
        ({"arrays": [], "compiled": {}}, "lacks or should not have"),
        ({"arrays": {}, "compiled": {}}, "entry of arrays"),
        ({"arrays": [["float64", [1]]], "compiled": {}}, "not known"),
        ({"arrays": [["float32", [-1]]], "compiled": {}}, "no shape"),
        ({"arrays": [["float32", [1 << 39, 1 << 39]]], "compiled": {}}, "ends at byte"),
        ({"arrays": [["float32", [0, 1 << 50]]], "compiled": {}}, "no shape"),
        ({"arrays": [["float32"]], "compiled": {}}, "not described"),
        ({"arrays": [], "compiled": {"isa": 1, "inputs": [], "outputs": [], "program": {}}}, "isa is not of type str"),
        ({"arrays": [], "compiled": {"isa": BEST, "inputs": "x", "outputs": [], "program": {}}}, "inputs is not a list"),
    ],
)
def test_hostile_header(header, message):
    """The error names the part of the header that cannot be read."""
    with pytest.raises(ValueError, match=message):
        serialize.decode(fuzz.put_together(header, b""))


def test_types_that_no_file_can_hold():
    """A field of such a type is a mistake in the dataclass, not in the file."""
    with pytest.raises(TypeError, match="no file can hold"):
        serialize._reader(Callable[[int], int])


def test_deep_header():
    """JSON that is nested deeper than Python can read is refused."""
    text = b"[" * 200_000
    blob = serialize.FRAME.pack(len(text)) + text
    with pytest.raises(ValueError, match="not JSON"):
        serialize.decode(fuzz.signed(blob))


@pytest.mark.parametrize("where", ["in memory", "in a mapped file"])
def test_mutations(tmp_path, where):
    """The first programs of the fuzzer are refused, or run without harm."""
    counts = {}
    for seed, blob in itertools.islice(fuzz.mutations(1, SEEDS), 1500):
        result = fuzz.outcome(seed, blob, run=True, folder=tmp_path if "file" in where else None)
        counts[result] = counts.get(result, 0) + 1
    assert counts["refused"] > 500 < counts["refused"] + counts["ran"]
    assert counts["ran"] > 50


# other instruction sets


@EVERY_SEED
@pytest.mark.parametrize("isa", [*map(isa_named, kernels.available_isas()), EMULATED], ids=lambda isa: isa.name)
def test_other_instruction_set(seed, isa):
    """A program packed for one instruction set and run on another computes the same, with tiles that are not wider."""
    region = serialize.decode(seed.blob)
    packed_for = isa_named(region.isa)
    program = Program(serialize.for_isa(region, isa), table_of(isa), byte_table=byte_table_of(ByteSet(isa, isa.dots[-1])))
    ours = Program(region.program, table_of(packed_for), byte_table=byte_table_of(ByteSet(packed_for, packed_for.dots[-1])))
    inputs = [seed.inputs[name] for name in region.program.inputs]
    for a, b in zip(program.run(*inputs), ours.run(*inputs), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    widths = [
        p.max_vectors * isa.lanes
        for step in serialize.for_isa(region, isa).steps
        for p in [step.spec, *getattr(step.spec, "products", ())]
        if isinstance(p, Product)
    ]
    before = [
        p.max_vectors * isa_named(region.isa).lanes
        for step in region.program.steps
        for p in [step.spec, *getattr(step.spec, "products", ())]
        if isinstance(p, Product)
    ]
    assert all(a <= b for a, b in zip(widths, before, strict=True))
