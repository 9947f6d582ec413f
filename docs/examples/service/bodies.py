"""Bodies of requests and answers: JSON, and numpy's .npy and .npz, which are much faster to read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from model import Feeds, Input
from numpy.lib import format as npy
from numpy.typing import NDArray

JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"


class Refused(Exception):
    """A request that is not answered with results: an HTTP status, and one line that says what is wrong."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def read(media_type: str, body: bytes, inputs: Sequence[Input], limit: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a body by the names of inputs. Refused if it cannot be read; `limit` is in bytes, after decompression."""
    if media_type not in READERS:
        raise Refused(415, f"content type {media_type or '(missing)'}: send {JSON}, {NPY} or {NPZ}")
    return READERS[media_type](body, inputs, limit)


def _read_json(body: bytes, inputs: Sequence[Input], limit: int) -> dict[str, NDArray[Any]]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    values = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(values, dict):
        raise Refused(422, f'expected {{"inputs": {{"{inputs[0].name}": [...]}}}}')
    arrays = {}
    dtypes = {each.name: each.dtype for each in inputs}
    for name, value in values.items():
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            raise Refused(422, f"input {name}: the lists differ in length, or are nested too deeply") from None
        arrays[name] = _cast(name, array, dtypes[name]) if name in dtypes else array
    return arrays


def _cast(name: str, array: NDArray[Any], dtype: np.dtype) -> NDArray[Any]:
    """Return numbers of JSON in the input's dtype. Refused if they are of another kind, or out of its range."""
    if dtype.kind in "iu" and array.dtype.kind in "iu" and array.size:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if array.min() < least or array.max() > most:
            raise Refused(422, f"input {name}: {dtype} holds {least} to {most}")
    elif array.size and not (array.dtype.kind in "iufb" and np.can_cast(array.dtype, dtype, "same_kind")):
        raise Refused(422, f"input {name}: expected numbers for {dtype}, got {_kind(array)}")
    with np.errstate(over="ignore"):  # infinite then, which is checked later
        return array.astype(dtype)


def _kind(array: NDArray[Any]) -> str:
    return {"U": "text", "b": "booleans", "f": "fractions"}.get(array.dtype.kind, "values that are no numbers")


def _read_npy(body: bytes, inputs: Sequence[Input], limit: int) -> dict[str, NDArray[Any]]:
    if len(inputs) != 1:
        raise Refused(422, f"the model has {len(inputs)} inputs, {', '.join(each.name for each in inputs)}: send {NPZ} or {JSON}")
    return {inputs[0].name: _array(body, "the body")}


def _read_npz(body: bytes, inputs: Sequence[Input], limit: int) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if sum(member.file_size for member in archive.infolist()) > limit:
                raise Refused(413, f"the arrays of the body have more than {limit} bytes")
            return {name.removesuffix(".npy"): _array(archive.read(name), name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise Refused(400, f"the body is not an npz file: {error}") from None


def _array(content: bytes, what: str) -> NDArray[Any]:
    """Return an array of the format npy as a view of its bytes. Refused if it is not one, or if its size is not what its header says."""
    file = io.BytesIO(content)
    try:
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, fortran, dtype = reader(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        array = np.frombuffer(content, dtype, offset=file.tell())
        return array.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # numpy's parser of hostile headers raises many
        raise Refused(400, f"{what} is not an npy file: {' '.join(str(error).split())[:200]}") from None


READERS: dict[str, Callable[[bytes, Sequence[Input], int], dict[str, NDArray[Any]]]] = {
    JSON: _read_json,
    NPY: _read_npy,
    NPZ: _read_npz,
}


def checked(arrays: dict[str, NDArray[Any]], inputs: Sequence[Input], *, batched: bool, max_rows: int, finite: bool) -> tuple[Feeds, int]:
    """Return feeds for a run, and how many rows they have, 1 if the model has no rows. Refused if they do not fit the inputs."""
    names = [each.name for each in inputs]
    if unknown := [name for name in arrays if name not in names]:
        raise Refused(422, f"unknown input {unknown[0][:100]!r}: the model has {', '.join(names)}")
    if missing := [name for name in names if name not in arrays]:
        raise Refused(422, f"input {missing[0]} is missing")
    sizes: dict[str, int] = {}
    feeds = {}
    for each in inputs:
        array = arrays[each.name]
        if array.dtype.newbyteorder("=") != each.dtype:
            raise Refused(422, f"input {each.name}: expected {each.dtype}, got {array.dtype}")
        fits = array.ndim == len(each.shape)
        for size, wanted in zip(array.shape, each.shape, strict=False):
            fits = fits and size == (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted)
        if not fits:
            raise Refused(422, f"input {each.name}: expected shape {_words(each.shape)}, got {_words(array.shape)}")
        if finite and each.dtype.kind == "f" and not np.isfinite(array).all():
            raise Refused(422, f"input {each.name} has NaN or infinite values")
        feeds[each.name] = np.ascontiguousarray(array, each.dtype)
    if not batched:
        return feeds, 1
    counts = {len(array) for array in feeds.values()}
    if len(counts) != 1 or not 1 <= (rows := counts.pop()) <= max_rows:
        shapes = ", ".join(_words(array.shape) for array in feeds.values())
        raise Refused(422, f"expected 1 to {max_rows} rows, equally many in all inputs, got {shapes}")
    return feeds, rows


def _words(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def write(media_type: str, names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> tuple[bytes, str]:
    """Return the outputs as a body, and its content type. Several outputs do not fit into npy: they become npz."""
    if media_type == JSON:
        outputs = {name: np.ascontiguousarray(array) for name, array in zip(names, arrays, strict=True)}
        return orjson.dumps({"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY), JSON
    file = io.BytesIO()
    if media_type == NPY and len(arrays) == 1:
        np.save(file, arrays[0])
        return file.getvalue(), NPY
    np.savez(file, **dict(zip(names, arrays, strict=True)))
    return file.getvalue(), NPZ
