"""Reads the tensors of a model file one by one, wherever their data are, and writes new model files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ..files import NewFiles, check_target

ALIGNMENT = 64
"""Alignment of each tensor in a file of external data, in bytes."""
FLOAT_DATA_TAG = b"\x22"
"""Key of TensorProto.float_data in a serialised message: field 4, bytes after their length."""


def load(path: Path) -> ModelProto:
    """Return the model without its external data. ValueError if the file is not a model; OSError if it cannot be read."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError; onnx does not say which protobuf it has
        raise ValueError(f"{path} is not an ONNX model: {error}") from None
    if not model.HasField("graph"):
        raise ValueError(f"{path} is not an ONNX model: it has no graph")
    return model


def graphs_within(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    """Yield the graphs in attributes of nodes, at any depth."""
    for node in nodes:
        for attribute in node.attribute:
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
    """Yield all tensors except initializers of the main graph: in sparse initializers, inner graphs, attributes and functions."""
    outer = (model.graph.node, *(function.node for function in model.functions))
    inner = [graph for nodes in outer for graph in graphs_within(nodes)]
    sparse = [sparse for graph in (model.graph, *inner) for sparse in graph.sparse_initializer]
    for graph in inner:
        yield from graph.initializer
    for nodes in (*outer, *(graph.node for graph in inner)):
        for attribute in (attribute for node in nodes for attribute in node.attribute):
            yield from _held(attribute, "t", "tensors")
            sparse += _held(attribute, "sparse_tensor", "sparse_tensors")
    for each in sparse:
        yield from (each.values, each.indices)


def _held(attribute: AttributeProto, one: str, many: str) -> list[Any]:
    """Return the members of two fields of an attribute, for one and for several."""
    return [*([getattr(attribute, one)] if attribute.HasField(one) else []), *getattr(attribute, many)]


def is_external(tensor: TensorProto) -> bool:
    """Return whether the tensor's data are in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def data_files(model: ModelProto, folder: Path) -> set[Path]:
    """Return the files of a model's external data."""
    return {_place(tensor, folder)[0] for tensor in tensors(model) if is_external(tensor)}


def external_bytes(tensor: TensorProto, folder: Path) -> NDArray[np.uint8]:
    """Return external data, mapped from their file. ValueError if they are outside of the model's `folder` or of their file."""
    path, offset, length = _place(tensor, folder)
    if not path.is_file():
        raise ValueError(f"{tensor.name!r}: no such file of external data: {path}")
    size = path.stat().st_size
    length = size - offset if length is None else length
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{tensor.name!r}: its data, {length} bytes from byte {offset}, are outside of {path}, which has {size}")
    return np.memmap(path, np.uint8, "r", offset, (length,)) if length else np.empty(0, np.uint8)


def _place(tensor: TensorProto, folder: Path) -> tuple[Path, int, int | None]:
    """Return file, offset and length of external data. ValueError if the file is outside of the model's `folder`."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = Path(entries.get("location", ""))
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise ValueError(f"{tensor.name!r}: its external data must be in the model's folder, not at {str(location)!r}")
    try:
        return folder / location, int(entries.get("offset", 0)), int(entries["length"]) if "length" in entries else None
    except ValueError:
        raise ValueError(f"{tensor.name!r}: offset or length of its external data is not a number") from None


def array_of(tensor: TensorProto, folder: Path) -> NDArray:
    """Return the data of a float32, uint8 or int64 tensor, as a view if possible. ValueError if they do not fill its shape."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
    data: NDArray | bytes
    if is_external(tensor):
        data = external_bytes(tensor, folder)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    elif tensor.data_type == TensorProto.FLOAT:
        data = _float_data(tensor)
    else:
        data = np.array(tensor.int64_data if tensor.data_type == TensorProto.INT64 else tensor.int32_data, dtype).view(np.uint8)
    size = int(np.prod(tensor.dims, dtype=object))
    if min(tensor.dims, default=0) < 0 or len(data) != size * dtype.itemsize:
        raise ValueError(f"{tensor.name!r} has {len(data)} bytes, its shape {list(tensor.dims)} needs {size * dtype.itemsize}")
    return np.frombuffer(data, dtype).reshape(tensor.dims)


def set_floats(tensor: TensorProto, array: NDArray[np.float32], writer: Writer) -> None:
    """Replace the float32 data and the shape of a tensor. The new data are stored like the old ones."""
    del tensor.dims[:]
    tensor.dims.extend(array.shape)
    flat = np.ascontiguousarray(array).reshape(-1)
    if is_external(tensor):
        writer.external(tensor, flat.view(np.uint8))
    elif tensor.HasField("raw_data"):
        tensor.raw_data = flat.tobytes()
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


class Writer:
    """A new model file `target`, with a file `target`.data beside it if the model has external tensors. Both appear in `save`.

    It is a context manager. ValueError if it would overwrite the model's `source` or any file of external data.
    """

    def __init__(self, source: Path, target: Path, model: ModelProto) -> None:
        self.target, self.data_target = target, target.with_name(f"{target.name}.data")
        check_target(target, {**dict.fromkeys(data_files(model, source.parent), "its external data"), source: "the model itself"})
        if any(is_external(tensor) for tensor in tensors(model)) and self.data_target.exists():
            raise ValueError(f"{self.data_target} exists: the result needs a file of that name for its external data")
        self._files = NewFiles()
        self._data: BinaryIO | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.discard()

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
            raise ValueError(f"{self.target}: models above 2 GB need external data, and this one has its weights inside") from None
        self._files.open(self.target).write(serialised)
        self._files.commit()
