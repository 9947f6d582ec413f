"""Compiled models: the bytes and their checks, EPContext nodes, compatibility, and bit-identity with plain and packed models."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import _pybind_state

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.formats import compressed_model
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.ort import ep_context
from onnxruntime_ep_sparse.program import serialize as compiled
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.steps import Depthwise, Product
from onnxruntime_ep_sparse.program.verify import check
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import isa_named
from support.kernel_sets import EMULATED, table_of
from support.making import model_of, pruned

ALWAYS = {"policy": "always"}
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
SEEDS = fuzz.seeds()
EVERY_SEED = pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
BEST = kernels.available_isas()[0]


def compiler(source, embed=True, options=ALWAYS):
    """A ModelCompiler with ONNX Runtime's usual optimisations."""
    return onnxruntime.ModelCompiler(
        sparse.session_options(options), source, embed_compiled_data_into_model=embed, graph_optimization_level=ALL
    )


@pytest.fixture
def session(session):
    """Of `tests/conftest.py`, with the record of who has which node."""

    def make(model, options=None, **entries):
        chosen = onnxruntime.SessionOptions()
        for key, value in {"session.record_ep_graph_assignment_info": "1", **entries}.items():
            chosen.add_session_config_entry(key, value)
        return session(model, options, sess_options=chosen)

    return make


def cleared(session):
    """The session, which has our provider for every node."""
    owned = measure.ownership(session)
    assert owned.owned == owned.nodes, owned
    return session


def same_bits(left, right):
    """Whether two lists of float32 arrays are the same bit for bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True))


def context_node(model):
    """The EPContext node of a compiled model, and its attributes by name."""
    (node,) = [node for node in model.graph.node if node.op_type == "EPContext"]
    return node, {attribute.name: attribute for attribute in node.attribute}


@pytest.fixture
def compiled_model(model_bytes):
    """The model of convolutions, compiled, in one piece."""
    return onnx.load_from_string(compiler(model_bytes).compile_to_bytes())


# the bytes


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
    """What is read is what was written, and written again it is the same bytes."""
    found = compiled.decode(seed.blob)
    again = compiled.encode(found)
    assert bytes(again) == seed.blob
    assert equal(compiled.decode(again), found)


def test_every_kind_of_step_is_tried():
    """The seeds of these tests and of the fuzzer have all of them."""
    kinds = {step.kind for seed in SEEDS for step in compiled.decode(seed.blob).program.steps}
    assert kinds == set(StepKind)


@EVERY_SEED
def test_every_cut_is_refused(seed):
    """Wherever the bytes end too early, with a checksum that fits or without."""
    cuts = {*range(0, 64), *np.random.default_rng(0).integers(0, len(seed.blob), 40).tolist(), len(seed.blob) - 1}
    for end, sign in itertools.product(sorted(cuts), (bytes, fuzz.signed)):
        with pytest.raises(ValueError, match=r"ends in its head|cut off|checksum|ends at byte|begin with|not JSON|described"):
            compiled.decode(sign(seed.blob[:end]))


@EVERY_SEED
def test_every_flipped_bit_is_found(seed):
    """By the checksum, or by what stands before it."""
    for place in np.random.default_rng(0).integers(0, len(seed.blob), 60):
        damaged = bytearray(seed.blob)
        damaged[place] ^= 1 << int(place) % 8
        with pytest.raises(ValueError, match=r"checksum|version|begin with|cut off"):
            compiled.decode(damaged)


def test_longer_than_described():
    """Bytes behind the last array."""
    with pytest.raises(ValueError, match="are described"):
        compiled.decode(fuzz.signed(SEEDS[0].blob + b"more"))


def test_other_version():
    """Of the layout."""
    blob = bytearray(SEEDS[0].blob)
    blob[4] = 9
    with pytest.raises(ValueError, match="version 9 of the compiled program is not supported, only version 1: compile the model again"):
        compiled.decode(fuzz.signed(blob))


def test_nonzeros_take_six_bytes():
    """A value and a column."""
    weight = pruned(np.random.default_rng(0), (256, 512))
    model = model_of([helper.make_node("MatMul", ["w", "x"], ["y"])], {"x": (512, 7)}, ["y"], {"w": weight})
    (blob,) = fuzz.blobs_of(model)
    assert len(blob) < 6.8 * np.count_nonzero(weight)


# hostile programs: one member changed, the checksum right


def changed(program, where, value):
    """The program with another member somewhere: `where` alternates names of fields and places in tuples."""
    if not where:
        return value(program) if callable(value) else value
    key, rest = where[0], where[1:]
    if isinstance(key, int):
        return (*program[:key], changed(program[key], rest, value), *program[key + 1 :])
    return replace(program, **{key: changed(getattr(program, key), rest, value)})


def with_element(place, number):
    """A function that sets one element of a copy of an array."""

    def change(array):
        array = array.copy()
        array[place] = number
        return array

    return change


def first(seed_name, kind):
    """A seed's program and where its first step of a kind stands."""
    seed = next(seed for seed in SEEDS if seed.name == seed_name)
    program = compiled.decode(seed.blob).program
    return program, next(i for i, step in enumerate(program.steps) if step.kind == kind)


CONV, CELL, MATRIX = ("images 0", StepKind.PRODUCT), ("cells 0", StepKind.RECURRENT), ("matrices 0", StepKind.PRODUCT)
PANEL = ("product", "groups", 0, "panel")
HOSTILE = [
    (CONV, ("x",), 10**6, "read before it is made"),
    (CONV, ("x",), -1, "read before it is made"),
    (CONV, ("y",), 10**6, "made twice or is none"),
    (CONV, ("r",), 10**6, "read before"),
    (CONV, ("product",), None, "weights of another kind"),
    (CONV, ("window",), None, "without a proper window"),
    (CONV, ("window", "kernel"), (3, 3, 3, 3), "window"),
    (CONV, ("window", "stride"), (0, 2), "proper window"),
    (CONV, ("window", "dilation"), (1 << 31, 1), "above 65535"),
    (CONV, ("window", "pad_begin"), (-1, 1), "proper window"),
    (CONV, ("product", "m"), 13, "the bias have the shape"),
    (CONV, ("product", "m"), 0, "outputs"),
    (CONV, ("product", "channels"), 0, "channels"),
    (CONV, ("product", "channels"), 7, "of 7 channels"),
    (CONV, ("product", "max_vectors"), 0, "vectors"),
    (CONV, ("product", "max_vectors"), 1 << 40, "vectors"),
    (CONV, ("product", "x_rows"), True, "another order"),
    (CONV, ("product", "taps"), lambda taps: taps[:-1], "taps of a window"),
    (CONV, ("product", "taps", 0), (10**6, 0, 0), "segment"),
    (CONV, ("product", "taps", 0), (0, 10**6, 0), "reads"),
    (CONV, ("product", "segments"), lambda segments: segments[:-1], "segments"),
    (CONV, ("product", "segments", 0), (0, 0, 0, 10**6, 0), "end elsewhere"),
    (CONV, ("product", "segments", 0), (0, -1, 0, 0, 0), "reads"),
    (CONV, ("product", "unit_segment"), (0,), "units"),
    (CONV, ("product", "groups"), (), "no weights"),
    (CONV, ("product", "groups", 0, "channel_begin"), 1, "channels from"),
    (CONV, ("product", "groups", 0, "channels"), 10**6, "channels"),
    (CONV, ("product", "groups", 0, "bounds"), (0,), "blocks"),
    (CONV, ("product", "groups", 0, "bounds"), (0, 10**6), "blocks"),
    (CONV, ("product", "groups", 0, "bounds"), lambda bounds: (0, 0, *bounds[1:]), "ascend"),
    (CONV, (*PANEL, "mr"), 3, "rows by 3"),
    (CONV, (*PANEL, "rows"), 13, "rows"),
    (CONV, (*PANEL, "row_begin"), 1, "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 0), 1), "no row's"),
    (CONV, (*PANEL, "row_start__bg"), with_element((0, 1), 10**6), "follow each other"),
    (CONV, (*PANEL, "row_start__bg"), with_element((-1, -1), 10**6), "no row's"),
    (CONV, (*PANEL, "row_start__bg"), lambda array: array[:, 1:], "beginnings of rows"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 10**6), "missing"),
    (CONV, (*PANEL, "row__bgr"), with_element((0, 0, 0), 2), "missing"),
    (CONV, (*PANEL, "k__nc"), with_element((0, 0), 10**6), "outside block"),
    (CONV, (*PANEL, "k__nc"), lambda array: array[:, :1], "columns"),
    (CONV, (*PANEL, "value__nr"), lambda array: array[1:], "columns have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "value__mt"), lambda array: array[1:], "the weights have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "bias__m"), lambda array: array[1:], "the bias have the shape"),
    (("images 0", StepKind.DEPTHWISE), ("product", "channels"), 0, "channels"),
    (("images 0", StepKind.CONCAT), ("axis",), 4, "axis 4 of 4"),
    (("images 0", StepKind.CONCAT), ("axis",), 2, "do not fit"),
    (("images 0", StepKind.CONCAT), ("begins",), False, "do not fit"),
    (("images 0", StepKind.PAD), ("before",), (0, 0, -1, 0), "negative"),
    (("images 0", StepKind.PAD), ("after",), (0, 0, 0), "pads of 4"),
    (("images 0", StepKind.RESIZE), ("resize",), None, "without sizes"),
    (("images 0", StepKind.RESIZE), ("resize", "scale"), (1e30, 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("resize", "scale"), (float("nan"), 1.0), "scales"),
    (("images 0", StepKind.RESIZE), ("resize", "size"), (-2, 1), "sizes"),
    (("images 0", StepKind.SHUFFLE), ("block",), 0, "blocks of 0"),
    (("images 0", StepKind.POOL), ("window", "pad_begin"), (9, 9), "pads as wide"),
    (("images 0", StepKind.POOL), ("window", "kernel"), (3, 3, 3), "differ in length"),
    (("images 0", StepKind.POOL), ("product",), Depthwise(1, 1, np.ones((1, 1), np.float32), np.ones(1, np.float32)), "another kind"),
    (("images 0", StepKind.RESHAPE), ("flatten_axis",), 9, "axis 9"),
    (MATRIX, ("product", "taps"), ((0, 0, 1),), "with taps"),
    (MATRIX, ("product", "batch"), (3,), "matrices"),
    (MATRIX, ("product", "vector_operand"), True, "vector of several rows"),
    (("matrices 0", StepKind.NORMALIZE), ("r",), 0, "not constant rows"),
    (("matrices 0", StepKind.TRANSPOSE), ("target",), (0, 1, 7), "no order"),
    (("matrices 0", StepKind.RESHAPE), ("inserted",), (9,), "axes"),
    (("matrices 0", StepKind.BINARY), ("r",), -1, "one operand"),
    (CELL, ("x",), 0, "no projection"),
    (CELL, ("recurrent",), None, "a cell of another kind"),
    (CELL, ("recurrent", "hidden"), 10, "weights"),
    (CELL, ("recurrent", "hidden"), 0, "hidden units"),
    (CELL, ("recurrent", "reverse"), (False,) * 3, "in 3 directions"),
    (CELL, ("recurrent", "gates"), (2, 2), "with gates"),
    (CELL, ("recurrent", "products"), (), "0 weights"),
    (CELL, ("recurrent", "activations"), (), "0 activations"),
    (CELL, ("recurrent", "peephole__dgh"), np.ones((1, 3, 9), np.float32), "peepholes are an LSTM's"),
    (CELL, ("recurrent", "late__dh"), np.ones((2, 9), np.float32), "late bias"),
    (CELL, ("recurrent", "lengths"), 10**6, "read before"),
    (CELL, ("recurrent", "initial_h"), 0, "dimensions"),
    (CELL, ("recurrent", "last_h"), 0, "made twice"),
    (CELL, ("recurrent", "clip"), float("nan"), "clipped"),
]


@pytest.mark.parametrize(("base", "where", "value", "message"), HOSTILE, ids=lambda part: str(part)[:40])
def test_hostile_step(base, where, value, message):
    """Each is refused with the step's number and the cause, by the reader of bytes too."""
    if where == ("recurrent", "initial_h"):
        value = lambda _: first(*base)[0].inputs["lengths"]  # noqa: E731
    program, index = first(*base)
    check(program)
    hostile = changed(program, ("steps", index, *where), value)
    with pytest.raises(ValueError, match=rf"^step \d+ \(.*{message}"):
        check(hostile)
    region = compiled.decode(next(seed.blob for seed in SEEDS if seed.name == base[0]))
    try:
        blob = compiled.encode(replace(region, program=hostile))
    except (ValueError, TypeError):
        return  # cannot be written
    with pytest.raises(ValueError, match=r"step \d+|no int|reach|members|is "):
        compiled.decode(blob)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_values": 1}, "value"),
        ({"n_values": 1 << 40}, "values in"),
        ({"outputs": {}}, "without outputs"),
        ({"outputs": {"y": 0}}, "no step makes"),
        ({"outputs": {"y": 2, "z": 2}}, "twice the same|no step makes"),
        ({"ranks": ()}, "ranks of"),
        ({"ranks": (9,)}, "dimensions"),
        ({"ranks": (3,)}, "dimensions"),
        ({"inputs": {"x": 0, "z": 0}, "ranks": (4, 4)}, "made twice"),
        ({"inputs": {"x": 10**6}}, "is none"),
        ({"constants": {0: np.ones(1, np.float32)}}, "made twice"),
    ],
)
def test_hostile_program(change, message):
    """What belongs to no step."""
    program, _ = first(*CONV)
    with pytest.raises(ValueError, match=message):
        check(replace(program, **change))


def test_batches_that_cannot_be_cut():
    """A recurrent program does not compute sequence by sequence of its first dimension."""
    program, _ = first(*CELL)
    assert not program.separable
    with pytest.raises(ValueError, match="the batch cannot be cut"):
        check(replace(program, separable=True))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "does not consist of"),
        ({"arrays": [], "compiled": {}}, "lacks or should not have"),
        ({"arrays": {}, "compiled": {}}, "list of arrays"),
        ({"arrays": [["float64", [1]]], "compiled": {}}, "not known"),
        ({"arrays": [["float32", [-1]]], "compiled": {}}, "no shape"),
        ({"arrays": [["float32", [1 << 39, 1 << 39]]], "compiled": {}}, "ends at byte"),
        ({"arrays": [["float32", [0, 1 << 50]]], "compiled": {}}, "no shape"),
        ({"arrays": [["float32"]], "compiled": {}}, "not described"),
        ({"arrays": [], "compiled": {"isa": 1, "inputs": [], "outputs": [], "program": {}}}, "isa is no str"),
        ({"arrays": [], "compiled": {"isa": BEST, "inputs": "x", "outputs": [], "program": {}}}, "inputs is no list"),
    ],
)
def test_hostile_header(header, message):
    """What cannot be read is named."""
    with pytest.raises(ValueError, match=message):
        compiled.decode(fuzz.put_together(header, b""))


def test_types_that_no_file_can_hold():
    """Fields that stand in no compiled program are refused like any other mistake."""
    with pytest.raises(ValueError, match="x cannot come from a file"):
        compiled._reader(Callable[[int], int])(1, [], "x")


def test_deep_header():
    """JSON that is nested beyond what Python reads."""
    text = b"[" * 200_000
    blob = compiled.FRAME.pack(len(text)) + text
    with pytest.raises(ValueError, match="not JSON"):
        compiled.decode(fuzz.signed(blob))


def test_mutations():
    """The fuzzer's first thousands: refused, or run without harm."""
    counts = {}
    for seed, blob in itertools.islice(fuzz.mutations(1, SEEDS), 1500):
        result = fuzz.outcome(seed, blob, run=True)
        counts[result] = counts.get(result, 0) + 1
    assert counts["refused"] > 500 < counts["refused"] + counts["ran"]
    assert counts["ran"] > 50


# other instruction sets


@EVERY_SEED
@pytest.mark.parametrize("isa", [*map(isa_named, kernels.available_isas()), EMULATED], ids=lambda isa: isa.name)
def test_other_instruction_set(seed, isa):
    """Packed for one, run on another: as packed there."""
    region = compiled.decode(seed.blob)
    program = Program(compiled.for_isa(region, isa), table_of(isa))
    ours = Program(region.program, table_of(isa_named(region.isa)))
    inputs = [fuzz.floats(seed.inputs[name]) for name in region.program.inputs]
    for a, b in zip(program.run(*inputs), ours.run(*inputs), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    widths = [
        p.max_vectors * isa.lanes
        for step in compiled.for_isa(region, isa).steps
        for p in [step.product, *(step.recurrent.products if step.recurrent else ())]
        if isinstance(p, Product)
    ]
    before = [
        p.max_vectors * isa_named(region.isa).lanes
        for step in region.program.steps
        for p in [step.product, *(step.recurrent.products if step.recurrent else ())]
        if isinstance(p, Product)
    ]
    assert all(a <= b for a, b in zip(widths, before, strict=True))


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_isa_of_the_session(session, model_bytes, x, isa):
    """A model compiled for one set gives, in a session with another, the bits that the plain model gives there."""
    for made_for in kernels.available_isas():
        blob = compiler(model_bytes, options={**ALWAYS, "isa": made_for}).compile_to_bytes()
        plain, loaded = (cleared(session(source, {**ALWAYS, "isa": isa})) for source in (model_bytes, blob))
        assert same_bits(plain.run(None, {"x": x}), loaded.run(None, {"x": x}))


# models


MODELS = {
    "mobilenet_v2": lambda: BUILDERS["mobilenet_v2"](sparsity=0.9),
    "bert": lambda: BUILDERS["bert_base"](sparsity=0.9, layers=2, hidden=192, heads=4),
    "lstm": lambda: BUILDERS["lstm"](sparsity=0.9, hidden=128),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits(session, tmp_path, name):
    """Plain, packed, and compiled from both, in one file and in two; smaller, and without custom operators registered."""
    plain, packed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    plain.write_bytes(MODELS[name]().SerializeToString())
    compressed_model.pack(plain, packed)
    ours = onnxruntime.InferenceSession(plain, sparse.session_options(ALWAYS), enable_fallback=0)
    feeds = inputs_for(ours)
    expected = ours.run(None, feeds)
    assert same_bits(onnxruntime.InferenceSession(packed, sparse.session_options(ALWAYS), enable_fallback=0).run(None, feeds), expected)
    for source, embed in itertools.product((plain, packed), (True, False)):
        target = tmp_path / f"{source.stem}{embed:d}" / "compiled.onnx"
        target.parent.mkdir()
        compiler(str(source), embed).compile_to_file(str(target))
        loaded = session(str(target))
        assert measure.ownership(loaded).owned > 0
        assert same_bits(loaded.run(None, feeds), expected)
        assert sum(file.stat().st_size for file in target.parent.iterdir()) < 0.4 * plain.stat().st_size


def test_size_of_resnet50(tmp_path):
    """At 90 % zeros, a fifth of the dense model at most."""
    plain = BUILDERS["resnet50"](sparsity=0.9).SerializeToString()
    compiler(plain, embed=False, options={}).compile_to_file(str(tmp_path / "compiled.onnx"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 0.2 * len(plain)


# ways to compile


def test_a_session_that_compiles(session, model_file, tmp_path, x):
    """With ep.context_enable a session writes the compiled model, and computes."""
    expected = session(str(model_file), ALWAYS).run(None, {"x": x})
    for embed, path in ((1, tmp_path / "one.onnx"), (0, tmp_path / "two.onnx"), (0, None)):
        entries = {"ep.context_enable": "1", "ep.context_embed_mode": str(embed)}
        if path is not None:
            entries["ep.context_file_path"] = str(path)
        assert same_bits(session(str(model_file), ALWAYS, **entries).run(None, {"x": x}), expected)
        made = path or model_file.with_name("model_ctx.onnx")
        assert same_bits(cleared(session(str(made))).run(None, {"x": x}), expected)
        assert len(list(made.parent.glob(f"{made.stem}_*.bin"))) == 1 - embed


def test_the_node(compiled_model):
    """As ONNX Runtime's design of EPContext nodes wants it."""
    node, attributes = context_node(compiled_model)
    assert node.domain == "com.microsoft"
    assert (list(node.input), list(node.output)) == (["x"], ["y"])
    assert attributes["main_context"].i == attributes["embed_mode"].i == 1
    texts = {name: attributes[name].s.decode() for name in ("source", "ep_sdk_version", "partition_name", "hardware_architecture")}
    assert texts == {
        "source": sparse.EP_NAME,
        "ep_sdk_version": sparse.__version__,
        "partition_name": node.name,
        "hardware_architecture": BEST,
    }
    assert attributes["ep_cache_context"].s[:4] == b"ORTC"
    assert not compiled_model.graph.initializer


def test_nodes_that_are_not_ours(session, tmp_path):
    """They stay as ONNX Runtime writes them, external data and all, and names of regions do not meet."""
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (200, 300)), "dense": rng.standard_normal((300, 300)).astype(np.float32), "v": pruned(rng, (300, 100))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("CumSum", ["a", "axis"], ["b"]),
        helper.make_node("MatMul", ["b", "dense"], ["c"]),
        helper.make_node("CumSum", ["c", "axis"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    model = model_of(nodes, {"x": ("n", 200)}, ["y"], {**weights, "axis": np.array(1, np.int64)})
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    whole = model.SerializeToString()
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    out = tmp_path / "out" / "compiled.onnx"
    out.parent.mkdir()
    given = {"min_sparsity": "0.5"}
    compiler(str(path), embed=False, options=given).compile_to_file(str(out))
    shutil.rmtree(path.parent)
    loaded = session(str(out))
    owned = measure.ownership(loaded)
    assert owned.operators == {"EPContext": 2}
    assert owned.nodes == 5
    feeds = {"x": rng.standard_normal((7, 200)).astype(np.float32)}
    assert same_bits(loaded.run(None, feeds), session(whole, given).run(None, feeds))


def test_compiled_again(session, compiled_model, x):
    """A compiled model can be compiled: its regions stay as they are, and move to the other place."""
    blob = compiled_model.SerializeToString()
    again = onnx.load_from_string(compiler(blob).compile_to_bytes())
    assert context_node(again)[1]["ep_cache_context"].s == context_node(compiled_model)[1]["ep_cache_context"].s
    assert same_bits(session(again.SerializeToString()).run(None, {"x": x}), session(blob).run(None, {"x": x}))


def test_no_place_for_a_file(model_bytes, model_file):
    """A model in memory has nothing beside it."""
    for source in (model_bytes, str(model_file)):
        with pytest.raises(Exception, match=r"no path beside which .* compile with ep.context_embed_mode=1"):
            compiler(source, embed=False).compile_to_bytes()


def test_too_large_to_embed():
    """The error names the way out."""
    request = ep_context.Request(wanted=True, embed=True, path="model.onnx", writes_bytes=False)

    class Large(bytearray):
        def __len__(self):
            return 1 << 31

    with pytest.raises(ValueError, match=r"2147483648 bytes .* compile with ep.context_embed_mode=0"):
        ep_context.node_attributes("region", BEST, Large(), request, "")


# loading


@pytest.mark.parametrize("options", [{}, {"policy": "never"}, ALWAYS, {"profile": "1", "threads": "2"}], ids=str)
def test_always_taken(session, compiled_model, x, options):
    """Nobody else can run such a node; `explain` says that it is compiled, `step_times` what is in it."""
    loaded = cleared(session(compiled_model.SerializeToString(), options))
    (decision,) = sparse.explain(loaded)
    assert decision.taken
    assert decision.reason == f"compiled: by version {sparse.__version__}"
    loaded.run(None, {"x": x})
    if "profile" in options:
        steps = sparse.step_times(loaded)
        assert [step.name for step in steps] == ["conv_first + Relu", "conv_second"]
        assert all("zeros" in step.description for step in steps)


def test_beside_other_nodes(session, compiled_model, x):
    """Regions of dense nodes are still looked for."""
    node = helper.make_node("MatMul", ["y", "w"], ["z"])
    compiled_model.graph.node.append(node)
    compiled_model.graph.initializer.append(onnx.numpy_helper.from_array(pruned(np.random.default_rng(0), (12, 12)), "w"))
    compiled_model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    compiled_model.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 24, 12, 12]))
    loaded = cleared(session(compiled_model.SerializeToString(), ALWAYS))
    assert {decision.region for decision in sparse.explain(loaded)} == {0, 1}
    assert loaded.run(None, {"x": x})[0].shape == (2, 24, 12, 12)


def test_other_names(session, compiled_model, x):
    """Inputs and outputs are found by their places: tools rename values."""
    expected = session(compiled_model.SerializeToString()).run(None, {"x": x})
    node, _ = context_node(compiled_model)
    node.input[0], node.output[0] = "first", "second"
    compiled_model.graph.input[0].name, compiled_model.graph.output[0].name = "first", "second"
    assert same_bits(session(compiled_model.SerializeToString()).run(None, {"first": x}), expected)


def test_wrong_rank_at_run(session, compiled_model):
    """The graph says another rank than the region was compiled for: an error, not memory that is not there."""
    compiled_model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    loaded = session(compiled_model.SerializeToString())
    with pytest.raises(Exception, match="input 0 has 3 dimensions, 4 expected"):
        loaded.run(None, {"x": np.zeros((16, 12, 12), np.float32)})


def edited(model, **attributes):
    """A compiled model with other attributes of its node; None takes one away."""
    node, found = context_node(model)
    for name, value in attributes.items():
        if name in found:
            node.attribute.remove(found[name])
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
    return model.SerializeToString()


def damaged(blob):
    """With one bit changed."""
    return blob[:-1] + bytes([blob[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ep_cache_context": b""}, "ends in its head"),
        ({"ep_cache_context": None}, "ends in its head"),
        ({"ep_cache_context": b"ORTC"}, "ends in its head"),
        ({"ep_cache_context": bytes(1000)}, "not a compiled program"),
        ({"ep_cache_context": damaged}, "the checksum does not fit"),
        ({"ep_cache_context": lambda blob: blob[:-100]}, "the checksum does not fit"),
        ({"ep_cache_context": lambda blob: fuzz.signed(blob[:-100])}, "ends at byte"),
        ({"ep_cache_context": lambda blob: fuzz.signed(blob[:4] + b"\2" + blob[5:])}, "version 2 of the compiled program is not supported"),
        ({"ep_cache_context": SEEDS[1].blob}, "the node has 1 inputs|lengths"),
        ({"main_context": 0}, "main_context is not 1"),
    ],
    ids=str,
)
def test_refused(session, compiled_model, change, message):
    """The error names node and cause."""
    node, attributes = context_node(compiled_model)
    change = {k: v(attributes[k].s) if callable(v) else v for k, v in change.items()}
    if "lengths" in message:
        change["ep_cache_context"] = next(seed.blob for seed in SEEDS if seed.name == "cells 0")
    with pytest.raises(Exception, match=rf"EPContext node '{node.name}': .*({message})"):
        session(edited(compiled_model, **change))


def test_output_that_is_not_float(session, compiled_model):
    """Its memory would be of another size."""
    compiled_model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(Exception, match="output 'y' is not float32"):
        session(compiled_model.SerializeToString())


def test_input_that_is_not_float(session, compiled_model):
    """The run fails."""
    compiled_model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(Exception, match="input 0 has element type 3, 1 is expected"):
        session(compiled_model.SerializeToString()).run(None, {"x": np.zeros((1, 16, 12, 12), np.int8)})


def test_other_providers_nodes(session, compiled_model):
    """Without our name they are not ours, and ONNX Runtime has nobody for them."""
    with pytest.raises(Exception, match="EPContext"):
        session(edited(compiled_model, source="AnotherExecutionProvider"))


# the file beside the model


@pytest.fixture
def two_files(model_bytes, tmp_path):
    """A compiled model and the file with its weights."""
    path = tmp_path / "compiled.onnx"
    compiler(model_bytes, embed=False).compile_to_file(str(path))
    (data,) = tmp_path.glob("*.bin")
    return path, data


def test_another_folder(session, two_files, tmp_path, x):
    """Both files can move together; the model can come from memory if the session says where it belongs."""
    expected = session(str(two_files[0])).run(None, {"x": x})
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    moved = [file.rename(folder / file.name) for file in two_files]
    assert same_bits(session(str(moved[0])).run(None, {"x": x}), expected)
    beside = {"ep.context_file_path": str(moved[0])}
    assert same_bits(session(moved[0].read_bytes(), **beside).run(None, {"x": x}), expected)
    with pytest.raises(Exception, match=r"whose path is not known: set ep\.context_file_path"):
        session(moved[0].read_bytes())


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../data.bin", "a/../../data.bin", "C:\\data.bin", "..\\data.bin", "", ".", "\\\\host\\x", "a\0b"]
)
def test_no_way_out(session, two_files, name):
    """What a model says leads to no file outside its folder."""
    path, data = two_files
    shutil.copy(data, data.parent.parent / "data.bin")
    path.write_bytes(edited(onnx.load(path), ep_cache_context=name))
    with pytest.raises(Exception, match=r"EPContext node .* (not a relative path|is not a file)"):
        session(str(path))


def test_data_that_are_missing_or_damaged(session, two_files):
    """The error names the node, and the file where there is none."""
    path, data = two_files
    whole = data.read_bytes()
    data.write_bytes(damaged(whole))
    with pytest.raises(Exception, match=r"EPContext node .* the checksum does not fit"):
        session(str(path))
    data.unlink()
    with pytest.raises(Exception, match=rf"EPContext node .* No such file.*{data.name}"):
        session(str(path))
    os.mkfifo(data)
    with pytest.raises(Exception, match=r"EPContext node .* is not a file"):
        session(str(path))


# compatibility


def compatibility_of(model):
    """What a compiled model says of itself."""
    return {entry.key: entry.value for entry in model.metadata_props}[f"ep_compatibility_info.{sparse.EP_NAME}"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text, "EP_SUPPORTED_OPTIMAL"),
        (lambda text: text.replace(BEST, "baseline"), "EP_SUPPORTED_PREFER_RECOMPILATION"),
        (lambda text: text.replace("format=1", "format=2"), "EP_UNSUPPORTED"),
        (lambda text: text.replace(BEST, "sve"), "EP_UNSUPPORTED"),
        (lambda text: "", "EP_UNSUPPORTED"),
        (lambda text: text + ";", "EP_UNSUPPORTED"),
        (lambda text: "x" * 10_000, "EP_UNSUPPORTED"),
    ],
)
def test_compatibility(compiled_model, change, expected):
    """Through ONNX Runtime's interface."""
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == sparse.EP_NAME]
    found = _pybind_state.get_model_compatibility_for_ep_devices(devices, change(compatibility_of(compiled_model)))
    assert found.name == expected


def test_no_program_is_left_over(session, model_bytes, tmp_path):
    """Where compiling fails after the first region, there is neither a session nor a file."""
    entries = {"ep.context_enable": "1", "ep.context_embed_mode": "0", "ep.context_file_path": str(tmp_path / "nowhere" / "compiled.onnx")}
    with pytest.raises(Exception, match="No such file or directory"):
        session(model_bytes, ALWAYS, **entries)
    assert list(tmp_path.iterdir()) == []


def test_header_is_json(compiled_model):
    """What the documentation says of the layout, by hand."""
    blob = context_node(compiled_model)[1]["ep_cache_context"].s
    assert (blob[:4], int.from_bytes(blob[4:8], "little")) == (b"ORTC", 1)
    header = json.loads(blob[16 : 16 + int.from_bytes(blob[8:12], "little")])
    assert [step["name"] for step in header["compiled"]["program"]["steps"]] == ["conv_first + Relu", "conv_second"]
    place = 16 + int.from_bytes(blob[8:12], "little")
    for name, shape in header["arrays"]:
        place += -place % 64 + int(np.prod(shape, dtype=np.int64)) * np.dtype(name).itemsize
    assert place == len(blob)
