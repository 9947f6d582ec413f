"""Random inputs from the signature of a model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import shown

if TYPE_CHECKING:
    import onnx

IMAGE = 224
SEQUENCE = 128
NUMPY_NAMES = {"float": "float32", "double": "float64"}


class Input(NamedTuple):
    """One input as `InferenceSession.get_inputs` describes it; an open dimension is a name or None."""

    name: str
    type: str
    shape: list[int | str | None]


def signature(model: onnx.ModelProto) -> list[Input]:
    """Return the inputs of a model that have no initializer."""
    from onnx import TensorProto

    initialized = {tensor.name for tensor in model.graph.initializer}
    result = []
    for value in model.graph.input:
        if value.name not in initialized:
            tensor = value.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
            result.append(Input(value.name, f"tensor({TensorProto.DataType.Name(tensor.elem_type).lower()})", shape))
    return result


def inputs_for(model: Any, *, batch: int = 1, shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0) -> dict[str, NDArray]:
    """Random inputs by name for `model`: a ModelProto, an InferenceSession, or a sequence of what describes an input by name, type, shape.

    Floats are normal; masks are ones, ids below 100, other integers 0 or 1. An open first dimension is `batch`, others are those of a
    224 x 224 image or a sequence of 128, unless `shapes` says otherwise.
    """
    session = hasattr(model, "get_inputs")
    arguments = model.get_inputs() if session else signature(model) if hasattr(model, "graph") else model
    given = dict(shapes or {})
    if unknown := given.keys() - {a.name for a in arguments}:
        raise ValueError(f"no input {', '.join(sorted(unknown))}; the model has {', '.join(a.name for a in arguments)}")
    rng = np.random.default_rng(seed)
    return {a.name: _random(a, tuple(given.get(a.name) or _shape(a.shape, batch)), rng) for a in arguments}


def _shape(declared: Sequence[int | str | None], batch: int) -> list[int]:
    free = IMAGE if len(declared) > 3 else SEQUENCE
    return [d if isinstance(d, int) else batch if axis == 0 or d == "batch" else free for axis, d in enumerate(declared)]


def _random(argument: Any, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    name = argument.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(NUMPY_NAMES.get(name, name))
    except TypeError:
        raise ValueError(f"{argument.name} is a {argument.type}, which cannot be made here") from None
    if dtype.kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if "mask" in argument.name:
        return np.ones(shape, dtype)
    return rng.integers(0, 100 if "ids" in argument.name and "type" not in argument.name else 2, shape).astype(dtype)


def load_arrays(path: Path, what: str) -> dict[str, NDArray]:
    """Return the arrays of an npz file by their names. ValueError, which calls it not an npz file of `what`, if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive.items())
    except OSError as error:
        raise ValueError(f"cannot read {shown(path)}: {error.strerror or f'not an npz file of {what}'}") from None
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError(f"cannot read {shown(path)}: not an npz file of {what}") from None


def check_feeds(feeds: Mapping[str, NDArray], inputs: Sequence[Any], where: str, *, samples: bool = False) -> None:
    """Raise ValueError if arrays do not fit the inputs of a model by name, type, rank or fixed dimensions. `where` tells their origin.

    With `samples`, the first axis of each array may have any length, the same for all of them.
    """
    wanted = [i.name for i in inputs]
    if set(feeds) != set(wanted):
        raise ValueError(f"{where} has {', '.join(feeds) or 'nothing'}; the model's inputs are {', '.join(wanted)}")
    for i in inputs:
        array, declared = feeds[i.name], tuple(i.shape)
        name = i.type.removeprefix("tensor(").removesuffix(")")
        wants = NUMPY_NAMES.get(name, name)
        if wants not in ("string", array.dtype.name):
            raise ValueError(f"{where}: {i.name} is {array.dtype}, the model wants {wants}")
        if array.ndim != len(declared):
            raise ValueError(f"{where}: {i.name} has rank {array.ndim}, the model wants {shape_words(declared)}")
        if any(isinstance(d, int) and d != g for d, g in list(zip(declared, array.shape, strict=True))[samples:]):
            raise ValueError(f"{where}: {i.name} is {shape_words(array.shape)}, the model wants {shape_words(declared)}")
        if samples and (not array.ndim or len(array) != len(feeds[wanted[0]])):
            raise ValueError(f"{where}: the first axis of every array must be the samples, and those of {wanted[0]} and {i.name} differ")


def fitting(feeds: Mapping[str, Any], session: Any) -> dict[str, NDArray]:
    """Return the inputs of a call as arrays. ValueError if they do not fit the inputs of an InferenceSession."""
    arrays = {name: np.asarray(given) for name, given in feeds.items()}
    optional = {i.name for i in session.get_overridable_initializers()}
    check_feeds({name: array for name, array in arrays.items() if name not in optional}, session.get_inputs(), "feeds")
    return arrays


def shape_words(shape: Sequence[int | str | None]) -> str:
    """Return a shape as people write it."""
    return "x".join("?" if d is None else str(d) for d in shape) or "a scalar"
