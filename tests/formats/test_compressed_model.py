"""Models to compressed weights and back: the same model, whatever its weights look like and wherever they are."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.formats.compressed_model import outline, pack, unpack
from onnxruntime_ep_sparse.formats.schema import DOMAIN
from onnxruntime_ep_sparse.formats.weight_codec import decode
from onnxruntime_ep_sparse.formats.weight_notes import NOTE
from support.making import bits_of, graph_of, model_of, noise, pruned

NAN = np.array([0x7F800001, 0x80000000, 0xFFC12345], np.uint32).view(np.float32)
"""A signalling NaN, -0.0, a NaN with a payload."""


def weights_of(rng=None, zeros=0.9):
    """A few weights, with rare bits among them."""
    weight = pruned(rng or np.random.default_rng(0), (40, 30), zeros)
    weight[0, :3] = NAN
    return weight


def product_nodes():
    """Conv, MatMul and Gemm, with a bias and attributes."""
    return [
        helper.make_node("Conv", ["x", "c", "b"], ["h"], "conv", pads=[1, 1, 1, 1], doc_string="first"),
        helper.make_node("Flatten", ["h"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["g"]),
        helper.make_node("Gemm", ["g", "g2", "b2"], ["y"], alpha=0.5, transB=1),
    ]


def products(rng=None, zeros=0.9):
    """A model of them."""
    rng = rng or np.random.default_rng(0)
    weights = {
        "c": pruned(rng, (16, 8, 3, 3), zeros),
        "b": noise(rng, 16),
        "m": pruned(rng, (16 * 25, 40), zeros),
        "g2": weights_of(rng, zeros).T.copy(),
        "b2": noise(rng, 30),
    }
    model = model_of(product_nodes(), {"x": ["n", 8, 5, 5]}, ["y"], weights)
    helper.set_model_props(model, {"author": "somebody"})
    model.graph.initializer[0].doc_string = "the first weight"
    model.graph.initializer[0].metadata_props.add(key="pruned", value="yes")
    return model


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("external", [False, True])
def test_products(there_and_back, external, standard):
    """Each operator, with bias, attributes, documentation and metadata."""
    model, weights = there_and_back(products(), external=external, standard=standard)
    assert [(w.name, w.op_type, w.reason) for w in weights] == [("c", "Conv", ""), ("m", "MatMul", ""), ("g2", "Gemm", "")]
    assert all(w.bytes_after < w.bytes_before / 2 for w in weights)
    assert {node.domain for node in model.graph.node if node.op_type != "Flatten"} == ({""} if standard else {DOMAIN})
    assert len(model.graph.sparse_initializer) == (3 if standard else 0)


def test_what_is_written(there_and_back):
    """The nodes' form, as documented: X, values, index and the rest; the shape as an attribute."""
    model, _ = there_and_back(products())
    conv, _, matmul, gemm = model.graph.node
    assert list(conv.input) == ["x", "c", "c.index", "b"]
    assert list(matmul.input) == ["f", "m", "m.index"]
    assert list(gemm.input) == ["g", "g2", "g2.index", "b2"]
    assert helper.get_node_attr_value(conv, "weight_shape") == [16, 8, 3, 3]
    assert helper.get_node_attr_value(gemm, "alpha") == 0.5
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in products().graph.initializer}
    np.testing.assert_array_equal(decode(tensors["c"], tensors["c.index"]), original["c"])
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", 20), (DOMAIN, 1)]
    assert {p.key: p.value for p in model.metadata_props} == {"author": "somebody"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "lstm"])
@pytest.mark.parametrize("standard", [False, True])
def test_nets(there_and_back, name, standard):
    """Nets as they are built."""
    _, weights = there_and_back(models.BUILDERS[name](sparsity=0.9), standard=standard)
    assert any(not w.reason for w in weights)


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_sizes(tmp_path, external):
    """90 % zeros: at most 16 % of ResNet-50's file."""
    source, packed = tmp_path / "resnet50.onnx", tmp_path / "packed.onnx"
    onnx.save(models.resnet50(sparsity=0.9), source, **({"save_as_external_data": True, "location": "weights"} if external else {}))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    weights = pack(source, packed)
    assert sum(path.stat().st_size for path in tmp_path.glob("packed*")) <= 0.16 * size
    assert [w.name for w in weights if w.reason] == ["conv1.weight"]
    unpack(packed, tmp_path / "back.onnx")
    assert bits_of(tmp_path / "back.onnx") == bits_of(source)


def test_bert_size(tmp_path):
    """And of the pruned weights of BERT-base, of which two layers of twelve are made here."""
    onnx.save(models.bert_base(sparsity=0.9, layers=2), tmp_path / "bert.onnx")
    weights = [w for w in pack(tmp_path / "bert.onnx", tmp_path / "packed.onnx") if not w.reason]
    assert len(weights) == 12
    assert sum(w.bytes_after for w in weights) <= 0.16 * sum(w.bytes_before for w in weights)


def one_product(*, tensor=None, nodes=None, outputs=("y",), initializers=(), **arguments):
    """x @ m with a prepared initializer."""
    nodes = nodes or [helper.make_node("MatMul", ["x", "m"], ["y"], "product")]
    model = model_of(nodes, {"x": ["n", 40]}, list(outputs), {}, **arguments)
    model.graph.initializer.extend([*initializers, *([tensor] if tensor is not None else [])])
    return model


def sparse_tensor(weight, *, linear=True, raw=True, name="m"):
    """ONNX's own form of a weight."""
    places = np.flatnonzero(weight.view(np.uint32))
    indices = places if linear else np.stack(np.unravel_index(places, weight.shape), 1)
    if raw:
        index = numpy_helper.from_array(indices.astype(np.int64), "where" if linear else "")
    else:
        index = helper.make_tensor("where", TensorProto.INT64, indices.shape, indices.reshape(-1))
    return helper.make_sparse_tensor(numpy_helper.from_array(weight.reshape(-1)[places], name), index, weight.shape)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_sparse_initializers(there_and_back, linear, raw):
    """Read in each of their forms, restored in the same and at the same place."""
    model = one_product()
    model.graph.sparse_initializer.extend(
        [
            sparse_tensor(np.eye(3, dtype=np.float32), name="unused"),
            sparse_tensor(weights_of(), linear=linear, raw=raw),
            sparse_tensor(np.eye(4, dtype=np.float32), name="unused too"),
        ]
    )
    packed, weights = there_and_back(model)
    assert [(w.name, w.reason) for w in weights] == [("m", "")]
    assert len(packed.graph.sparse_initializer) == 2
    assert packed.graph.node[0].domain == DOMAIN
    values, index = (numpy_helper.to_array(tensor) for tensor in packed.graph.initializer)
    np.testing.assert_array_equal(decode(values, index).view(np.uint32), weights_of().view(np.uint32))


def test_unusual_sparse_initializers(there_and_back, tmp_path):
    """One with zeros written out cannot be told from one without: it stays. One whose indices are wrong is an error."""
    sparse = sparse_tensor(weights_of())
    sparse.values.raw_data = bytes(len(sparse.values.raw_data))
    model = one_product()
    model.graph.sparse_initializer.append(sparse)
    _, weights = there_and_back(model)
    assert weights[0].reason == "a sparse_initializer of unusual form"
    for places in ([0, 0], [1, 0], [0, 1200], [-1, 0]):
        wrong = sparse_tensor(np.ones((1, 2), np.float32))
        wrong.dims[:] = [40, 30]
        wrong.indices.raw_data = np.array(places, np.int64).tobytes()
        model.graph.sparse_initializer[0].CopyFrom(wrong)
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises(ValueError, match="do not ascend within"):
            pack(tmp_path / "model.onnx", tmp_path / "packed.onnx")


def test_float_data(there_and_back):
    """Numbers in the field for numbers, a signalling NaN among them."""
    tensor = TensorProto(name="m", data_type=TensorProto.FLOAT, dims=(40, 30))
    data = weights_of().tobytes()
    tensor.MergeFromString(b"\x22\xc0\x25" + data)
    for standard in (False, True):
        packed, weights = there_and_back(one_product(tensor=tensor), standard=standard)
        assert [(w.name, w.reason) for w in weights] == [("m", "")]
        values = packed.graph.sparse_initializer[0].values if standard else packed.graph.initializer[0]
        assert len(values.float_data) == values.dims[0]


def test_explicit_domains(there_and_back):
    """ONNX's domain by either name, written out or not."""
    nodes = [helper.make_node("MatMul", ["x", "m"], [f"y{i}"]) for i in range(3)]
    nodes[1].domain, nodes[2].domain = "", "ai.onnx"
    tensor = numpy_helper.from_array(weights_of(), "m")
    packed, _ = there_and_back(one_product(tensor=tensor, nodes=nodes, outputs=("y0", "y1", "y2")))
    assert all(node.domain == DOMAIN for node in packed.graph.node)
    assert len(packed.graph.initializer) == 2


def test_all_zero_and_empty(there_and_back):
    """Weights without any nonzero, and a name that is taken."""
    zero = numpy_helper.from_array(np.zeros((40, 30), np.float32), "m")
    other = numpy_helper.from_array(np.ones(30, np.float32), "m.index")
    nodes = [helper.make_node("MatMul", ["x", "m"], ["z"]), helper.make_node("Add", ["z", "m.index"], ["y"])]
    packed, _ = there_and_back(one_product(tensor=zero, nodes=nodes, initializers=[other]))
    assert list(packed.graph.node[0].input) == ["x", "m", "m.index_"]


def test_inner_graphs_and_functions_keep_their_weights(there_and_back):
    """And external data in them is carried over."""
    weight = weights_of()
    inner = graph_of([helper.make_node("MatMul", ["x", "v"], ["z"])], {}, ["z"], {"v": weight})
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(30, np.float32), "k"))
    nodes = [
        helper.make_node("If", ["condition"], ["a"], then_branch=inner, else_branch=inner),
        helper.make_node("MatMul", ["x", "m"], ["b"]),
        constant,
        helper.make_node("Sum", ["a", "b", "k"], ["y"]),
    ]
    condition = numpy_helper.from_array(np.array(True), "condition")
    tensors = [condition, numpy_helper.from_array(weight, "m")]
    for external in (False, True):
        packed, weights = there_and_back(one_product(nodes=nodes, initializers=tensors), external=external)
        assert [w.name for w in weights] == ["m"]
        assert packed.graph.node[0].attribute[0].g.node[0].domain == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [40, 30])), "another node reads it"),
        (lambda model: model.graph.node.append(helper.make_node("Neg", ["m"], ["z"])), "another node reads it"),
        (lambda model: model.graph.input.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [40, 30])), "an input"),
        (lambda model: model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, ["k", 30])), "its value_info"),
        (lambda model: model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [30, 40])), "its value_info"),
        (lambda model: setattr(model.opset_import[0], "version", 6), "before version 7"),
        (lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights_of()[None], "m")), "3 dimensions"),
        (lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights_of().astype(np.float16), "m")), "not float32"),
        (lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights_of(zeros=0.4), "m")), "fewer zeros than 0.5"),
        (
            lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(2, dtype=np.float32), "m")),
            "not become smaller",
        ),
    ],
)
def test_what_stays(there_and_back, change, reason):
    """Weights that the compressed operators could not stand for, or that it would not help; the model is written as it was."""
    model = one_product(tensor=numpy_helper.from_array(weights_of(), "m"))
    change(model)
    packed, (weight,) = there_and_back(model)
    assert packed == model
    assert reason in weight.reason
    assert weight.bytes_after == weight.bytes_before


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("declared", ["all", "without shapes", "twice"])
def test_value_info_of_weights(there_and_back, standard, declared):
    """PyTorch's dynamo exporter declares every initializer: all weights are compressed as without, and the packed model is sound."""
    model = products()
    for tensor in model.graph.initializer:
        for _ in range(2 if declared == "twice" else 1):
            shape = None if declared == "without shapes" else tensor.dims
            info = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape, doc_string="a parameter")
            model.graph.value_info.append(info)
    packed, weights = there_and_back(model, standard=standard)
    assert [(weight.name, weight.reason) for weight in weights] == [("c", ""), ("m", ""), ("g2", "")]
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(sparse.get_library_path())
    sessions = [
        onnxruntime.InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"]) for each in (model, packed)
    ]
    feeds = {"x": noise(np.random.default_rng(1), 2, 8, 5, 5)}
    theirs, ours = (session.run(None, feeds)[0] for session in sessions)
    np.testing.assert_allclose(ours, theirs, atol=1e-3, equal_nan=True)
    outline(packed)
    assert standard or {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in packed.graph.value_info}["m"] in (
        [400, 40],
        [],
    )


@pytest.mark.parametrize(
    ("op_type", "attributes", "stays"),
    [("Conv", {}, True), ("Gemm", {"beta": 0.5}, True), ("Gemm", {"beta": 1.0}, False), ("Gemm", {}, False)],
)
def test_bias_that_is_not_constant(there_and_back, op_type, attributes, stays):
    """The compressed operators cannot scale it, and Conv adds none that comes in with a run."""
    weight = pruned(np.random.default_rng(0), (40, 30, 1, 1) if op_type == "Conv" else (30, 40))
    nodes = [helper.make_node(op_type, ["x", "m", "b"], ["y"], **attributes)]
    x = ["n", 30, 5, 5] if op_type == "Conv" else ["n", 30]
    _, (result,) = there_and_back(model_of(nodes, {"x": x, "b": [40]}, ["y"], {"m": weight}))
    assert result.reason == ("a bias that is not constant" if stays else "")


@pytest.mark.parametrize(
    ("attributes", "stays"),
    [
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, False),
        ({"auto_pad": "SAME_UPPER", "strides": [3, 1]}, True),
        ({"auto_pad": "SAME_LOWER", "dilations": [2, 2]}, True),
        ({"auto_pad": "VALID", "strides": [3, 1]}, False),
    ],
)
def test_padding_that_differs(there_and_back, attributes, stays):
    """ONNX Runtime pads some windows other than ONNX defines, and the compressed operators do not."""
    weight = pruned(np.random.default_rng(0), (40, 30, 1, 1))
    nodes = [helper.make_node("Conv", ["x", "m"], ["y"], **attributes)]
    _, (result,) = there_and_back(model_of(nodes, {"x": ["n", 30, 5, 5]}, ["y"], {"m": weight}))
    assert result.reason == ("auto_pad SAME with dilations or a stride beyond the window" if stays else "")


def test_min_sparsity(tmp_path):
    """The threshold is the caller's."""
    onnx.save(products(zeros=0.4), tmp_path / "model.onnx")
    assert all(w.reason for w in pack(tmp_path / "model.onnx", tmp_path / "packed.onnx"))
    assert not any(w.reason for w in pack(tmp_path / "model.onnx", tmp_path / "packed.onnx", min_sparsity=0.3))


# wrong use


@pytest.fixture
def packed_file(tmp_path):
    """A model with external data, packed."""
    onnx.save(products(), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    pack(tmp_path / "model.onnx", tmp_path / "packed.onnx")
    return tmp_path / "packed.onnx"


def test_nothing_is_overwritten(tmp_path, packed_file):
    """Neither the model nor its data, by whatever name."""
    source = tmp_path / "model.onnx"
    (tmp_path / "link.onnx").symlink_to(source)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for target, words in ((source, "the model itself"), (tmp_path / "link.onnx", "the model itself"), (tmp_path / "weights.bin", "data")):
        with pytest.raises(ValueError, match=words):
            pack(source, target)
    with pytest.raises(ValueError, match="exists: the result needs"):
        pack(source, packed_file)
    with pytest.raises(ValueError, match="the model itself"):
        unpack(packed_file, packed_file)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failure_leaves_nothing(tmp_path, packed_file):
    """No file under the target's name, no temporary one; an older file there stays."""
    (tmp_path / "back.onnx").write_bytes(b"older")
    data = tmp_path / "packed.onnx.data"
    data.write_bytes(data.read_bytes()[:-100])
    names = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="are outside of"):
        unpack(packed_file, tmp_path / "back.onnx")
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "back.onnx").read_bytes() == b"older"


def change_entry(key, value):
    """Of the first tensor's external data."""

    def change(model):
        (entry,) = (entry for entry in model.graph.initializer[0].external_data if entry.key == key)
        entry.value = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_entry("location", "../weights.bin"), "must be in the model's folder"),
        (change_entry("location", "/etc/passwd"), "must be in the model's folder"),
        (change_entry("location", "none"), "no such file of external data"),
        (change_entry("offset", "99999999"), "are outside of"),
        (change_entry("offset", "-1"), "are outside of"),
        (change_entry("length", "many"), "is not a number"),
        (change_entry("length", "4"), "'c' has 4 bytes"),
        (lambda model: setattr(model.graph.node[0], "domain", DOMAIN), "is compressed already"),
    ],
)
def test_models_that_cannot_be_packed(tmp_path, change, words):
    """External data outside of the folder or of its file, and compressed models."""
    source = tmp_path / "model.onnx"
    onnx.save(products(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(source, load_external_data=False)
    change(model)
    source.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=words):
        pack(source, tmp_path / "packed.onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: setattr(model.opset_import[1], "version", 2), "has version 2 of the operators"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Relu"), "has no operator Relu"),
        (lambda model: model.graph.node[2].input.__delitem__(2), "has no operator MatMul of 2 inputs"),
        (lambda model: model.graph.node[0].input.__setitem__(1, "x"), "its weight 'x' is not an initializer"),
        (lambda model: model.graph.node[0].input.__setitem__(2, "m.index"), "'conv': weight 'c': the checksum"),
        (lambda model: model.graph.node[0].input.__setitem__(2, "b"), "its values must be float32"),
        (lambda model: model.graph.node[0].attribute.__delitem__(-1), "expected one attribute weight_shape"),
        (lambda model: model.graph.node[0].attribute[-1].ints.append(1), "weight_shape is"),
        (lambda model: model.graph.node[0].metadata_props.add(key=NOTE, value="{}"), "is damaged"),
        (lambda model: model.graph.initializer[0].metadata_props.add(key=NOTE, value='{"at": -1, "external": true}'), "is damaged"),
    ],
)
def test_models_that_cannot_be_unpacked(tmp_path, change, words):
    """What was changed since it was packed."""
    onnx.save(products(), tmp_path / "model.onnx")
    pack(tmp_path / "model.onnx", tmp_path / "packed.onnx")
    model = onnx.load(tmp_path / "packed.onnx")
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ValueError, match=words):
        unpack(tmp_path / "changed.onnx", tmp_path / "back.onnx")
    assert not (tmp_path / "back.onnx").exists()


@pytest.mark.slow
def test_above_2_gb(tmp_path):
    """Tensor by tensor: 2.4 GB of weights (a file of holes) need nowhere near as much memory."""
    shape, count = (8192, 8192), 9
    size = 4 * shape[0] * shape[1]
    nodes = [helper.make_node("MatMul", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(count)]
    model = model_of(nodes, {"v0": ["n", shape[0]]}, [f"v{count}"], {})
    for i in range(count):
        tensor = model.graph.initializer.add(name=f"w{i}", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "holes"), ("offset", str(i * size)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(count * size)
        file.seek(5 * size)
        file.write(NAN.tobytes())
    code = """
import sys, pathlib
from onnxruntime_ep_sparse.formats.compressed_model import pack
pack(*map(pathlib.Path, sys.argv[1:]))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    command = [sys.executable, "-c", code, tmp_path / "model.onnx", tmp_path / "packed.onnx"]
    peak_kb = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak_kb * 1024 < 4 * size
    packed = onnx.load(tmp_path / "packed.onnx")
    assert sum(path.stat().st_size for path in tmp_path.glob("packed*")) < 0.002 * count * size
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in packed.graph.initializer}
    assert [len(tensors[f"w{i}"]) for i in range(count)] == [0] * 5 + [2] + [0] * 3
