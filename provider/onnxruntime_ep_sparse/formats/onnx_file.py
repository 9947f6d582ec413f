"""Reads the tensors of a model file one by one, wherever their data are, and writes new model files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ..files import NewFiles, check_target, referred, shown
from ..graph.ir import CONTEXT_DATA, EP_CONTEXT

ALIGNMENT = 64
"""Alignment of each tensor in a file of external data, in bytes."""
FLOAT_DATA_TAG = b"\x22"
"""Key of TensorProto.float_data in a serialised message: field 4, bytes after their length."""


def load(path: Path) -> ModelProto:
    """Return the model without its external data. ValueError if the file cannot be read or is not a model."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {shown(path)}: {error.strerror}") from None
    except Exception as error:  # protobuf's DecodeError; onnx does not say which protobuf it has
        raise ValueError(f"{shown(path)} is not an ONNX model: {error}") from None
    if not model.HasField("graph"):
        raise ValueError(f"{shown(path)} is not an ONNX model: it has no graph")
    return model


def text_of(name: str | bytes) -> str:
    """Return a name for people. ONNX says that it is UTF-8; protobuf returns bytes where it is not."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def referenced_files(path: Path, model: ModelProto) -> dict[Path, str]:
    """Return all files that a model refers to and what each one is, for `check_target`: itself first. No tensor is read.

    Files may be missing, or outside of the model's folder, where they are not read.
    """
    found = {path: "the model itself"}
    for tensor in tensors(model):
        if is_external(tensor):
            found.setdefault(path.parent / _location(tensor), "its external data")
    for node in every_node(model):
        if (node.domain, node.op_type) == EP_CONTEXT:
            attributes = {attribute.name: attribute for attribute in node.attribute}
            for name in (CONTEXT_DATA, "onnx_model_filename"):  # the second one is TensorRT's
                embedded = name == CONTEXT_DATA and ("embed_mode" not in attributes or attributes["embed_mode"].i == 1)
                if name in attributes and attributes[name].s and not embedded:
                    found.setdefault(path.parent / os.fsdecode(attributes[name].s), "a file of its compiled regions")
    return found


def graphs_within(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    """Yield the graphs in attributes of nodes, at any depth."""
    for node in nodes:
        yield from _graphs_of(node.attribute)


def _graphs_of(attributes: Iterable[AttributeProto]) -> Iterator[GraphProto]:
    for attribute in attributes:
        for graph in _held(attribute, "g", "graphs"):
            yield graph
            yield from graphs_within(graph.node)


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield all nodes, those inside other nodes too."""
    for each in (graph, *graphs_within(graph.node)):
        yield from each.node


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that may have external data."""
    yield from model.graph.initializer
    yield from tensors_beside_initializers(model)


def tensors_beside_initializers(model: ModelProto) -> Iterator[TensorProto]:
    """Yield all tensors except initializers of the main graph: in sparse initializers, other graphs, attributes and functions."""
    _, *other = every_graph(model)
    for graph in other:
        yield from graph.initializer
    sparse = [sparse for graph in (model.graph, *other) for sparse in graph.sparse_initializer]
    for attribute in _attributes(model):
        yield from _held(attribute, "t", "tensors")
        sparse += _held(attribute, "sparse_tensor", "sparse_tensors")
    for each in sparse:
        yield from (each.values, each.indices)


def every_node(model: ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes of all graphs and functions."""
    for graph in every_graph(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def every_graph(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the main graph first, then those for training, and those in attributes of nodes and functions, at any depth."""
    training = [graph for info in model.training_info for graph in (info.initialization, info.algorithm)]
    for graph in (model.graph, *training):
        yield graph
        yield from graphs_within(graph.node)
    for function in model.functions:
        yield from graphs_within(function.node)
        yield from _graphs_of(function.attribute_proto)


def _attributes(model: ModelProto) -> Iterator[AttributeProto]:
    for node in every_node(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto


def _held(attribute: AttributeProto, one: str, many: str) -> list[Any]:
    """Return the members of two fields of an attribute, for one and for several."""
    return [*([getattr(attribute, one)] if attribute.HasField(one) else []), *getattr(attribute, many)]


def is_external(tensor: TensorProto) -> bool:
    """Return whether the tensor's data are in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def external_bytes(tensor: TensorProto, model: Path) -> NDArray[np.uint8]:
    """Return external data, mapped from their file. ValueError if they are outside of the folder of `model`, a path, or of their file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = text_of(tensor.name)
    try:
        path = referred(model, _location(tensor))
    except ValueError as error:
        raise ValueError(f"{name!r}: its external data must be in the model's folder: {error}") from None
    try:
        offset, length = int(entries.get("offset", 0)), int(entries["length"]) if "length" in entries else None
    except ValueError:
        raise ValueError(f"{name!r}: offset or length of its external data is not a number") from None
    try:
        size = path.stat().st_size if path.is_file() else -1
    except OSError as error:
        raise ValueError(f"{name!r}: cannot read its external data {shown(path)}: {error.strerror}") from None
    if size < 0:
        raise ValueError(f"{name!r}: no such file of external data: {shown(path)}")
    length = size - offset if length is None else length
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{name!r}: its data, {length} bytes from byte {offset}, are outside of {shown(path)}, which has {size}")
    return np.memmap(path, np.uint8, "r", offset, (length,)) if length else np.empty(0, np.uint8)


def _location(tensor: TensorProto) -> str:
    """Return the path of a tensor's external data from the model's folder, as the tensor says it."""
    location = next((entry.value for entry in reversed(tensor.external_data) if entry.key == "location"), "")
    return os.fsdecode(location)


def array_of(tensor: TensorProto, model: Path) -> NDArray:
    """Return the data of a tensor of the file `model`, as a view if possible. Its element type must be one that numpy has.

    ValueError if they do not fill its shape.
    """
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
    data: NDArray | bytes
    if is_external(tensor):
        data = external_bytes(tensor, model)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    elif tensor.data_type == TensorProto.FLOAT:
        data = _float_data(tensor)
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        wide = {"double_data": np.float64, "uint64_data": np.uint64}.get(field, np.int64)
        bits = np.dtype("<u2") if tensor.data_type == TensorProto.FLOAT16 else dtype
        data = np.array(getattr(tensor, field), wide).astype(bits).view(np.uint8)
    size = int(np.prod(tensor.dims, dtype=object))
    if min(tensor.dims, default=0) < 0 or len(data) != size * dtype.itemsize:
        raise ValueError(f"{text_of(tensor.name)!r} has {len(data)} bytes, its shape {list(tensor.dims)} needs {size * dtype.itemsize}")
    return np.frombuffer(data, dtype).reshape(tensor.dims)


def size_of(tensor: TensorProto) -> int:
    """Return how many bytes the data of a tensor of its type and shape have."""
    return math.prod(tensor.dims) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def set_array(tensor: TensorProto, array: NDArray, writer: Writer) -> None:
    """Replace the data and the shape of a tensor of float32 or of 8-bit integers. The new data are stored like the old ones."""
    del tensor.dims[:]
    tensor.dims.extend(array.shape)
    flat = np.ascontiguousarray(array).reshape(-1)
    if is_external(tensor):
        writer.external(tensor, flat.view(np.uint8))
    elif tensor.HasField("raw_data"):
        tensor.raw_data = flat.tobytes()
    elif flat.dtype != np.float32:
        tensor.int32_data[:] = flat.tolist()
    else:
        tensor.ClearField("float_data")
        _set_float_data(tensor, flat.tobytes())


def _float_data(tensor: TensorProto) -> bytes:
    """Return the bytes of `float_data`. Read as Python's numbers, which are doubles, signalling NaNs would become quiet."""
    alone = TensorProto(float_data=tensor.float_data)
    return alone.SerializeToString()[-4 * len(tensor.float_data) :] if tensor.float_data else b""


def _set_float_data(tensor: TensorProto, data: bytes) -> None:
    length, size = bytearray(), len(data)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    tensor.MergeFromString(FLOAT_DATA_TAG + bytes(length) + data)


def data_beside(target: Path) -> Path:
    """Return the file of external data for a new model `target`. It is beside the file that `target` leads to, if that is a link."""
    place = Path(os.path.realpath(target))
    return place.with_name(f"{place.name}.data")


class Writer:
    """A new model file `target`, with a file `target`.data beside it if the model has external tensors. Both appear in `save`.

    It is a context manager. A link `target` is followed: both files are where it leads to. ValueError if `target` would overwrite a file
    that the model `source` refers to.
    """

    def __init__(self, source: Path, target: Path, model: ModelProto) -> None:
        check_target(target, referenced_files(source, model))
        self.target, self.data_target = target, data_beside(target)
        if any(is_external(tensor) for tensor in tensors(model)):
            self._check_data_target()
        self._files = NewFiles()
        self._data: BinaryIO | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.discard()

    def _check_data_target(self) -> None:
        """Raise ValueError if the file of external data cannot be made."""
        if os.path.lexists(self.data_target):
            raise ValueError(f"{shown(self.data_target)} exists: the result needs a file of that name for its external data")
        try:
            self.data_target.name.encode()
        except UnicodeError:
            raise ValueError(f"cannot write {shown(self.target)}: models refer to external data by names in UTF-8") from None
        check_target(self.data_target, {})

    def external(self, tensor: TensorProto, data: NDArray[np.uint8]) -> None:
        """Write a tensor's data to the file of external data, and let the tensor refer to them."""
        if self._data is None:
            self._data = self._files.open(self.data_target)
        self._data.write(bytes(-self._data.tell() % ALIGNMENT))
        place = {"location": self.data_target.name, "offset": str(self._data.tell()), "length": str(data.size)}
        self._data.write(data.data)
        for entry in tensor.external_data:
            entry.value = place.pop(entry.key, entry.value)
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        tensor.data_location = TensorProto.EXTERNAL

    def save(self, model: ModelProto) -> None:
        """Write the model, and give both files their names, the model last. ValueError if the model does not fit into one file."""
        try:
            serialised = model.SerializeToString()
        except Exception:  # protobuf's EncodeError, or ValueError
            raise ValueError(f"{shown(self.target)}: models above 2 GB need external data, and this one has its weights inside") from None
        self._files.open(self.target).write(serialised)
        self._files.commit()
