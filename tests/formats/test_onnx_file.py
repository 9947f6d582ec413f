"""Files that a model refers to are found wherever a model can mention one, and no tensor is missed."""

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnxruntime_ep_sparse.formats.onnx_file import every_node, referenced_files, tensors, text_of

DEPTH = 2
"""How often a message of one type may stand within others of its type: graphs within graphs."""


def ways_to(wanted, message=ModelProto.DESCRIPTOR, above=()):
    """Yield every path of fields that leads from a model to a message of this type, by ONNX's own schema."""
    for field in message.fields:
        if field.message_type is None:
            continue
        if field.message_type.full_name == wanted.DESCRIPTOR.full_name:
            yield (field.name,)
        if above.count(field.message_type.full_name) < DEPTH:
            for rest in ways_to(wanted, field.message_type, (*above, message.full_name)):
                yield (field.name, *rest)


def model_with(way):
    """Return a model with one message at the end of this path, and that message."""
    model = holder = ModelProto()
    for name in way:
        holder = getattr(holder, name)
        if hasattr(holder, "add"):
            holder = holder.add()
        else:
            holder.SetInParent()
    return model, holder


def test_every_tensor_is_found():
    """In initializers, sparse ones, attributes, inner graphs, functions, training."""
    ways = list(ways_to(TensorProto))
    assert {way[0] for way in ways} >= {"graph", "functions", "training_info"}
    for way in ways:
        model, tensor = model_with(way)
        tensor.name = "found"
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="below/data")
        assert [each.name for each in tensors(model)].count("found") == 1, way
        assert referenced_files(Path("folder/model"), model) == {
            Path("folder/model"): "the model itself",
            Path("folder/below/data"): "its external data",
        }, way


def test_every_node_is_found():
    """Those of compiled regions may stand in any graph."""
    for way in ways_to(NodeProto):
        model, node = model_with(way)
        node.CopyFrom(helper.make_node("EPContext", [], [], "found", domain="com.microsoft", embed_mode=0, ep_cache_context="region.bin"))
        assert [each.name for each in every_node(model)].count("found") == 1, way
        assert Path("region.bin") in referenced_files(Path("model"), model), way


@pytest.mark.parametrize(
    ("attributes", "files"),
    [
        ({"ep_cache_context": "region.bin", "embed_mode": 0}, ["region.bin"]),
        ({"ep_cache_context": "region.bin", "embed_mode": 1}, []),
        ({"ep_cache_context": "region.bin"}, []),
        ({"embed_mode": 0}, []),
        ({"ep_cache_context": b"caf\xe9\0.bin", "embed_mode": 0}, ["caf\udce9\0.bin"]),
        ({"ep_cache_context": "/outside/../region.bin", "embed_mode": 0}, ["/outside/../region.bin"]),
        ({"onnx_model_filename": "engine.onnx", "embed_mode": 1}, ["folder/engine.onnx"]),
    ],
)
def test_files_of_compiled_regions(attributes, files):
    """Those of any provider, if the node says that its content is in a file; also outside of the folder."""
    model = ModelProto()
    model.graph.node.append(helper.make_node("EPContext", [], [], domain="com.microsoft", source="Another", **attributes))
    found = list(referenced_files(Path("folder/model"), model))
    assert found[1:] == [Path("folder") / name.removeprefix("folder/") for name in files]


def test_locations_that_are_not_utf8():
    """Protobuf returns bytes."""
    model = ModelProto()
    tensor = model.graph.initializer.add(data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="cafQ")
    model = onnx.load_model_from_string(model.SerializeToString().replace(b"cafQ", b"caf\xe9"))
    assert list(referenced_files(Path("model"), model)) == [Path("model"), Path("caf\udce9")]


def test_names_for_people():
    """Bytes that are not UTF-8 can be told apart."""
    assert text_of("name") == "name"
    assert text_of(b"caf\xe9") == "caf\\xe9"
