"""Compiled models: EPContext nodes, files beside the model, compatibility, and the same results as plain and compressed models."""

import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import _pybind_state

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from fuzz import compiled_programs as fuzz
from onnxruntime_ep_sparse import files, measure
from onnxruntime_ep_sparse.formats import compressed_model
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.ort import ep_context
from onnxruntime_ep_sparse.runtime import _mapped_files, _weight_store
from support.making import model_of, pruned

ALWAYS = {"policy": "always"}
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
OTHER_REGION = next(seed.blob for seed in fuzz.seeds() if seed.name == "cells 0")
"""Of three inputs."""
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


@pytest.mark.slow
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
        helper.make_node("Atan", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "dense"], ["c"]),
        helper.make_node("Atan", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    model = model_of(nodes, {"x": ("n", 200)}, ["y"], weights)
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


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, False),
        ({"session.disable_model_compile": "0"}, True),
        ({"session.disable_model_compile": "0", "session.compile_only": "1"}, True),
        ({"session.disable_model_compile": "0", "ep.context_file_path": "model.onnx"}, False),
    ],
    ids=["session", "ModelCompiler of 1.25", "ModelCompiler", "ModelCompiler to a file"],
)
def test_models_in_memory_are_told(entries, expected):
    """By the entries that ONNX Runtime's compilers set, in all versions."""
    assert ep_context.Request.of({"ep.context_enable": "1", **entries}).writes_bytes is expected


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
        pytest.param({"ep_cache_context": b""}, "ends in its head", id="empty"),
        pytest.param({"ep_cache_context": None}, "ends in its head", id="no attribute"),
        pytest.param({"ep_cache_context": b"ORTC"}, "ends in its head", id="magic alone"),
        pytest.param({"ep_cache_context": bytes(1000)}, "not a compiled program", id="zeros"),
        pytest.param({"ep_cache_context": damaged}, "the checksum does not fit", id="one bit"),
        pytest.param({"ep_cache_context": lambda blob: blob[:-100]}, "the checksum does not fit", id="cut"),
        pytest.param({"ep_cache_context": lambda blob: fuzz.signed(blob[:-100])}, "ends at byte", id="cut and signed"),
        pytest.param(
            {"ep_cache_context": lambda blob: fuzz.signed(blob[:4] + b"\1" + blob[5:])},
            "version 1 of the compiled program is not supported",
            id="version",
        ),
        pytest.param({"ep_cache_context": OTHER_REGION}, "the node has 1 inputs, the compiled region has 3", id="another region"),
        pytest.param({"main_context": 0}, "main_context is not 1", id="main_context"),
    ],
)
def test_refused(session, compiled_model, change, message):
    """The error names node and cause."""
    node, attributes = context_node(compiled_model)
    change = {k: v(attributes[k].s) if callable(v) else v for k, v in change.items()}
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
    "name",
    ["/etc/hostname", "../data.bin", "a/../../data.bin", "C:\\data.bin", "..\\data.bin", "", ".", "\\\\host\\x", "a\0b"],
    ids=["absolute", "parent", "parent of a folder", "drive", "backslash", "empty", "folder", "network", "null byte"],
)
def test_no_way_out(session, two_files, name):
    """What a model says leads to no file outside its folder."""
    path, data = two_files
    shutil.copy(data, data.parent.parent / "data.bin")
    path.write_bytes(edited(onnx.load(path), ep_cache_context=name))
    with pytest.raises(Exception, match=r"EPContext node .* (not a relative path|not an ordinary file)"):
        session(str(path))


@pytest.mark.parametrize("through", ["file", "folder"])
def test_no_way_out_through_links(session, two_files, tmp_path_factory, through):
    """A link may lead to another file below the model, or of the folder that a link to the model leads to, but not elsewhere."""
    path, data = two_files
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (path.parent / "below").mkdir()
    moved = data.rename(path.parent / "below" / "moved.bin")
    data.symlink_to(moved)
    assert session(str(path))
    data.unlink()
    moved = moved.rename(elsewhere / data.name)
    if through == "file":
        data.symlink_to(moved)
    else:
        (path.parent / "out").symlink_to(elsewhere)
        path.write_bytes(edited(onnx.load(path), ep_cache_context=f"out/{data.name}"))
    with pytest.raises(Exception, match=r"EPContext node .* leads out of the model's folder"):
        session(str(path))
    link = path.with_name("link.onnx")
    link.symlink_to(path.rename(elsewhere / "model.onnx"))
    assert session(str(link))


def test_long_names(session, two_files):
    """The error is short."""
    path, _ = two_files
    path.write_bytes(edited(onnx.load(path), ep_cache_context="n" * 1_000_000))
    with pytest.raises(Exception, match=r"EPContext node .* File name too long") as caught:
        session(str(path))
    assert len(str(caught.value)) < 1000


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
    with pytest.raises(Exception, match=r"EPContext node .* not an ordinary file"):
        session(str(path))


def test_weights_are_used_where_they_lie(session, model_bytes, two_files, x):
    """A session of the file beside the model holds no copy of the weights; sessions of one process map the file once."""
    nonzeros = sum(np.count_nonzero(onnx.numpy_helper.to_array(t)) for t in onnx.load_from_string(model_bytes).graph.initializer)
    before, mapped = _weight_store.held()[1], _mapped_files.held()
    loaded = [session(str(two_files[0])) for _ in range(3)]
    assert _weight_store.held()[1] - before < 2 * nonzeros
    assert _mapped_files.held() == (mapped[0] + 1, mapped[1] + two_files[1].stat().st_size)
    expected = session(model_bytes, ALWAYS).run(None, {"x": x})
    del loaded[:2]
    gc.collect()
    assert same_bits(loaded.pop().run(None, {"x": x}), expected)
    gc.collect()
    assert _mapped_files.held() == mapped


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_file_that_goes_while_it_is_mapped(session, two_files, x, change):
    """Sessions go on with the file that they have read; a session that is made later reads the new one."""
    path, data = two_files
    loaded = session(str(path))
    expected = loaded.run(None, {"x": x})
    if change == "deleted":
        data.unlink()
    else:
        files.write(data, damaged(data.read_bytes()))
    assert same_bits(loaded.run(None, {"x": x}), expected)
    # a new plan reads the columns of the weights once more
    assert same_bits(loaded.run(None, {"x": x[:1]}), [array[:1] for array in expected])
    with pytest.raises(Exception, match=r"EPContext node .* (the checksum does not fit|No such file)"):
        session(str(path))


SHARING = """if True:
    import json, sys
    import onnxruntime
    import onnxruntime_ep_sparse as sparse
    sparse.register()
    session = onnxruntime.InferenceSession(sys.argv[1], providers=[sparse.EP_NAME, "CPUExecutionProvider"], enable_fallback=0)
    print("ready", flush=True)
    sys.stdin.read(1)
    found, inside = {}, False
    for line in open("/proc/self/smaps"):
        key, value, *_ = line.split()
        if not key.endswith(":"):
            inside = sys.argv[2] in line
        elif inside:
            found[key] = found.get(key, 0) + int(value) if value.isdecimal() else 0
    print(json.dumps(found), flush=True)
    sys.stdin.read(1)
    """


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="the system has no /proc/self/smaps, which says what processes share")
def test_processes_share_the_pages(tmp_path):
    """Of the file beside the model no process has a page of its own."""
    rng = np.random.default_rng(0)
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ("n", 1024)}, ["y"], {"w": pruned(rng, (1024, 1024))})
    path = tmp_path / "compiled.onnx"
    compiler(model.SerializeToString(), embed=False).compile_to_file(str(path))
    (data,) = tmp_path.glob("*.bin")
    command = [sys.executable, "-c", SHARING, str(path), data.name]
    with ExitStack() as stack:
        children = [stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)) for _ in range(2)]
        assert [child.stdout.readline().strip() for child in children] == ["ready"] * 2
        found = []
        for child in children:
            child.stdin.write("x")
            child.stdin.flush()
            found.append(json.loads(child.stdout.readline()))
    for pages in found:
        assert pages["Shared_Clean:"] + pages["Shared_Dirty:"] >= 0.95 * data.stat().st_size / 1024
        assert pages["Private_Clean:"] + pages["Private_Dirty:"] <= 8


# compatibility


def compatibility_of(model):
    """What a compiled model says of itself."""
    return {entry.key: entry.value for entry in model.metadata_props}[f"ep_compatibility_info.{sparse.EP_NAME}"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda text: text, "EP_SUPPORTED_OPTIMAL", id="as written"),
        pytest.param(lambda text: text.replace(BEST, "baseline"), "EP_SUPPORTED_PREFER_RECOMPILATION", id="another instruction set"),
        pytest.param(lambda text: re.sub(r"format=\d+", "format=1", text), "EP_UNSUPPORTED", id="another format"),
        pytest.param(lambda text: text.replace(BEST, "sve"), "EP_UNSUPPORTED", id="unknown instruction set"),
        pytest.param(lambda text: "", "EP_UNSUPPORTED", id="empty"),
        pytest.param(lambda text: text + ";", "EP_UNSUPPORTED", id="longer"),
        pytest.param(lambda text: "x" * 10_000, "EP_UNSUPPORTED", id="long"),
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
