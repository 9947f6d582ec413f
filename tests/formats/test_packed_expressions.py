"""Weights that nodes compute from constants, as exporters leave them: compressed as initializers are."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.formats.compressed_model import pack, unpack
from support.making import bits_of, model_of, noise


def exported(rng, how):
    """Two products as an exporter leaves them: as `plain` initializers, as `masks` that were not removed, in nodes of `constants`."""
    masks = {name: (rng.random(shape) < 0.1).astype(np.float32) for name, shape in (("c", (16, 8, 3, 3)), ("g", (30, 400)))}
    weights = {name: noise(rng, *mask.shape) for name, mask in masks.items()} | {"b": noise(rng, 16), "d": noise(rng, 30)}
    nodes = [
        helper.make_node("Conv", ["x", "c", "b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["h"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "d"], ["y"], transB=1),
    ]
    if how == "masks":
        made = [helper.make_node("Mul", [f"{name}.weight_mask", f"{name}.weight_orig"], [name], f"node_mul_{name}") for name in masks]
        weights = {f"{name}.weight_mask": mask for name, mask in masks.items()} | {
            f"{name}.weight_orig" if name in masks else name: array for name, array in weights.items()
        }
    else:
        weights |= {name: masks[name] * weights[name] for name in masks}
        made = []
    if how == "constants":
        made = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)) for name, array in weights.items()]
        weights = {}
    model = model_of([*made, *nodes], {"x": ["n", 8, 5, 5]}, ["y"], weights)
    for tensor in model.graph.initializer:  # as the dynamo exporter does
        model.graph.value_info.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    return model


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("how", ["masks", "constants"])
def test_weights_of_exporters(tmp_path, how, standard, external):
    """They are compressed as an initializer is, to a file as small. `unpack` restores the model with the weights in the place of nodes."""
    plain, given = (exported(np.random.default_rng(5), each) for each in ("plain", how))
    external = external and how == "masks"  # ONNX Runtime wants the data of nodes Constant in the model
    sizes, paths = [], {}
    for name, model in (("plain", plain), ("given", given)):
        source, paths[name] = tmp_path / f"{name}.onnx", tmp_path / f"{name}.packed.onnx"
        arguments = {"save_as_external_data": True, "location": f"{name}.bin", "size_threshold": 0} if external else {}
        onnx.save(onnx.ModelProto.FromString(model.SerializeToString()), source, **arguments)
        found = pack(source, paths[name], standard=standard)
        assert [(w.name, w.reason) for w in found] == [("c", ""), ("g", "")]
        assert all(
            w.folded == {"plain": (), "masks": ("Mul",), "constants": ("Constant",)}[name if name == "plain" else how] for w in found
        )
        assert all(w.bytes_after < w.bytes_before / 2 for w in found)
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob(f"{name}.packed.onnx*")))
    assert sizes[1] <= 1.02 * sizes[0]
    unpack(paths["given"], tmp_path / "back.onnx")
    back = onnx.load(tmp_path / "back.onnx")
    assert not back.opset_import[1:]
    assert {node.op_type for node in back.graph.node} <= {"Conv", "Flatten", "Gemm", "Constant"}
    assert len(onnx.load(paths["given"]).graph.initializer) == (2 if standard else 6) - (2 if standard and how == "constants" else 0)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in back.graph.initializer}
    for tensor in plain.graph.initializer:
        if tensor.name in weights:
            np.testing.assert_array_equal(weights[tensor.name].view(np.uint32), numpy_helper.to_array(tensor).view(np.uint32))
    feeds = {"x": noise(np.random.default_rng(6), 2, 8, 5, 5)}
    ours, theirs = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for each in (back, given)
    )
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    pack(tmp_path / "back.onnx", tmp_path / "again.onnx", standard=standard)
    unpack(tmp_path / "again.onnx", tmp_path / "back2.onnx")
    assert bits_of(tmp_path / "back2.onnx").replace(b"back2", b"back") == bits_of(tmp_path / "back.onnx")


def masked(**changes):
    """x @ (mask * w)."""
    mask = (np.random.default_rng(0).random((40, 30)) < 0.1).astype(np.float32)
    weights = {"mask": mask, "w": noise(np.random.default_rng(1), 40, 30), **changes}
    nodes = [helper.make_node("Mul", ["mask", "w"], ["m"]), helper.make_node("MatMul", ["x", "m"], ["y"])]
    return model_of(nodes, {"x": ["n", 40]}, ["y"], weights)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (masked(mask=np.ones((40, 30), np.float32)), "fewer zeros than 0.5"),
        (masked(mask=np.ones((7, 7), np.float32)), "ONNX Runtime cannot compute"),
        (masked(mask=np.ones((40, 30)), w=np.ones((40, 30))), "not float32"),
    ],
)
def test_expressions_that_stay(there_and_back, model, reason):
    """The nodes and their operands stay as they are."""
    packed, (weight,) = there_and_back(model)
    assert packed == model
    assert reason in weight.reason


def test_an_operand_that_is_needed(there_and_back):
    """Where the weight without its mask stays for another node, a compressed one beside it would make the model larger."""
    model = masked()
    model.graph.node.append(helper.make_node("Sub", ["w", "mask"], ["z"]))
    model.graph.output.append(onnx.ValueInfoProto(name="z"))
    packed, (weight,) = there_and_back(model)
    assert packed == model
    assert weight.reason == "it would not become smaller"


@pytest.mark.slow
@pytest.mark.parametrize("removed", [False, True])
def test_pytorch_exporters(tmp_path, removed):
    """Masks of torch.nn.utils.prune, removed or not, by both exporters: files of one size, all weights compressed."""
    torch = pytest.importorskip("torch", reason="needs torch and onnxscript: the exporters of PyTorch are NOT tested")
    pytest.importorskip("onnxscript", reason="needs onnxscript: the dynamo exporter of PyTorch is NOT tested")
    from torch.nn.utils import prune

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(1152, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 64),
    ).eval()
    for module in net:
        if hasattr(module, "weight"):
            prune.l1_unstructured(module, "weight", 0.9)
            if removed:
                prune.remove(module, "weight")
    sizes = []
    for dynamo in (False, True):
        source, packed = tmp_path / f"{dynamo}.onnx", tmp_path / f"{dynamo}.packed.onnx"
        arguments = {"external_data": False} if dynamo else {}
        torch.onnx.export(net, (torch.zeros(1, 3, 8, 8),), source, dynamo=dynamo, **arguments)
        found = pack(source, packed)
        assert len(found) == 3
        assert not [w for w in found if w.reason]
        sizes.append(packed.stat().st_size)
    assert sizes[1] <= sizes[0] + 20_000  # the dynamo exporter writes where in the source each node comes from
