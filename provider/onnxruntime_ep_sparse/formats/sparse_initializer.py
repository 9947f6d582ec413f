"""ONNX's own sparse form of a tensor: values, and their indices in int64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import SparseTensorProto, TensorProto

from .onnx_file import Writer, array_of, is_external, set_array, text_of


def sparse_of(
    tensor: TensorProto, values: NDArray[np.float32], places: NDArray[np.int64], shape: tuple[int, ...], writer: Writer
) -> SparseTensorProto:
    """Return ONNX's own sparse form of a dense `tensor`, without external data, where onnx would not find it."""
    sparse = SparseTensorProto(dims=shape, indices=indices_of(places, shape, linear=True, raw=True, name=""))
    for field in ("name", "data_type", "doc_string"):
        if tensor.HasField(field):
            setattr(sparse.values, field, getattr(tensor, field))
    sparse.values.metadata_props.extend(tensor.metadata_props)
    if tensor.HasField("raw_data") or is_external(tensor):
        sparse.values.raw_data = b""
    set_array(sparse.values, values, writer)
    return sparse


def indices_of(places: NDArray[np.int64], shape: tuple[int, ...], *, linear: bool, raw: bool, name: str) -> TensorProto:
    """Return the indices of a sparse tensor: places in row-major order, or coordinates."""
    array = places if linear else np.stack(np.unravel_index(places, shape), axis=1)
    tensor = TensorProto(data_type=TensorProto.INT64, dims=array.shape, name=name or None)
    if raw:
        tensor.raw_data = np.ascontiguousarray(array, "<i8").tobytes()
    else:
        tensor.int64_data.extend(array.reshape(-1).tolist())
    return tensor


def places_of(sparse: SparseTensorProto, source: Path) -> NDArray[np.int64]:
    """Return ascending places in row-major order. ValueError if they do not fit the values or the shape."""
    where, shape, count = f"sparse_initializer {text_of(sparse.values.name)!r}", tuple(sparse.dims), math.prod(sparse.values.dims)
    if sparse.indices.data_type != TensorProto.INT64 or tuple(sparse.indices.dims) not in ((count,), (count, len(shape))):
        raise ValueError(f"{where}: indices of shape {list(sparse.indices.dims)} do not fit {count} values")
    places: NDArray[np.int64] = array_of(sparse.indices, source)
    if places.ndim == 2:
        try:
            places = np.asarray(np.ravel_multi_index(tuple(places.T), shape), np.int64)
        except ValueError:
            raise ValueError(f"{where}: an index is outside of the shape {list(shape)}") from None
    if count and (places[0] < 0 or places[-1] >= math.prod(shape) or (np.diff(places) <= 0).any()):
        raise ValueError(f"{where}: its indices do not ascend within the shape {list(shape)}")
    return places
