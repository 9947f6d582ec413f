"""A region's packed program as bytes, which the EPContext node of a compiled model holds, and back.

Little-endian:

    bytes        content
    0 to 3       "ORTC"
    4 to 7       version of this layout, 8
    8 to 11      bytes of the header
    12 to 15     CRC-32 of all other bytes
    16 to ...    the header: JSON, UTF-8
    then         the arrays in the order of the header's list, each from the next multiple of 64 bytes on, with the element types
                 in which programs read them: where the bytes are a mapped file, nothing is copied

The header is the tree of `Compiled`, as the types in `program/steps.py` and `program/kinds/` say it: a dataclass is an object of those
fields that do not have their default, a member of an enum its name, a dict a list of pairs, an array its number in `arrays`, where element
type and shape stand. The `spec` of a step is of the type that the row of its kind names.

`decode` takes nothing on trust that it reads, and no more memory than some thirty times the bytes it is given (lists of empty lists);
what a program means is checked by `program/verify.py`.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.isa import ISAS, Isa

from ..framed import Frame
from .enums import StepKind
from .kinds.row import require
from .kinds.table import ROWS
from .steps import ProgramSpec, Step
from .verify import check

VERSION = 8
FRAME = Frame(b"ORTC", VERSION, before="II", what="compiled program", advice="compile the model again")
ALIGNMENT = 64
LANES = {isa.name: isa.lanes for isa in ISAS}
STORED = {dtype.name: dtype for dtype in map(np.dtype, ("<u2", "<u4", "<i8", "<f4"))}
"""Element types of arrays in files; int32 is stored as uint32, because no array holds negative numbers."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program and where it belongs: the instruction set it was packed for, the inputs and outputs of its node in order, by name.

    `key` says of an entry of a cache what it was made of (`ort/region_cache.py`).
    """

    isa: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    program: ProgramSpec
    key: str = ""


def encode(compiled: Compiled) -> bytearray:
    """Return the bytes of a compiled region."""
    arrays: list[NDArray] = []
    tree = _plain(compiled, arrays)
    listed = [[array.dtype.name, array.shape] for array in arrays]
    header = json.dumps({"arrays": listed, "compiled": tree}, separators=(",", ":")).encode()
    parts = [FRAME.pack(len(header)), header]
    size = FRAME.head.size + len(header)
    for array in arrays:
        parts += [bytes(-size % ALIGNMENT), array.tobytes()]
        size += -size % ALIGNMENT + array.nbytes
    blob = bytearray().join(parts)
    FRAME.sign(blob)
    return blob


def decode(blob: bytes | bytearray | memoryview) -> Compiled:
    """Return the region that `encode` was given; arrays are views of `blob` where possible. ValueError that names the first fault."""
    data = memoryview(blob)
    (size,) = FRAME.unpack(data)
    begin = FRAME.head.size
    if begin + size > len(data):
        raise ValueError(f"the compiled program is cut off: it has {len(data)} bytes, its header alone needs {begin + size}")
    FRAME.check(data)
    try:
        header = json.loads(bytes(data[begin : begin + size]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict) or sorted(header) != ["arrays", "compiled"]:
        raise ValueError("the header does not consist of arrays and a compiled program")
    arrays = _arrays(header["arrays"], data, begin + size)
    compiled = _reader(Compiled)(header["compiled"], arrays, "")
    require(compiled.isa in LANES, f"the instruction set {_shown(compiled.isa)} is not known")
    require(len(set(compiled.inputs)) == len(compiled.inputs) and set(compiled.program.inputs) <= set(compiled.inputs), "inputs do not fit")
    require(sorted(compiled.outputs) == sorted(compiled.program.outputs), "outputs do not fit")
    check(compiled.program)
    return compiled


def renamed(compiled: Compiled, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Compiled:
    """Return the region with other names for its inputs and outputs, in their order."""
    program = compiled.program
    new = dict(zip(compiled.inputs, inputs, strict=True)), dict(zip(compiled.outputs, outputs, strict=True))
    named = [{names[name]: value for name, value in old.items()} for names, old in zip(new, (program.inputs, program.outputs), strict=True)]
    return replace(compiled, inputs=inputs, outputs=outputs, program=replace(program, inputs=named[0], outputs=named[1]))


def for_isa(compiled: Compiled, isa: Isa) -> ProgramSpec:
    """Return the program for vectors of `isa`. Its tiles have at most as many pixels as it was packed for, because K was cut for these."""
    program, before = compiled.program, LANES[compiled.isa]
    if before == isa.lanes:
        return program

    def step_for(step: Step) -> Step:
        return replace(step, spec=ROWS[step.kind].for_lanes(step.spec, before, isa.lanes))

    return replace(program, steps=tuple(map(step_for, program.steps)))


def _arrays(listed: Any, data: memoryview, begin: int) -> list[NDArray]:
    """Views of the arrays after the header."""
    require(isinstance(listed, list), "the entry of arrays is not a list")
    found = []
    for i, entry in enumerate(listed):
        require(isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list), f"array {i} is not described by type and shape")
        dtype = STORED.get(entry[0]) if isinstance(entry[0], str) else None
        require(dtype is not None, f"array {i} is of the type {entry[0]!r}, which is not known")
        assert dtype is not None
        require(all(type(d) is int and 0 <= d < 1 << 40 for d in entry[1]) and len(entry[1]) <= 8, f"array {i} has no shape: {entry[1]}")
        begin += -begin % ALIGNMENT
        end = begin + math.prod(entry[1]) * dtype.itemsize
        require(end <= len(data), f"array {i} ends at byte {end} of {len(data)}")
        found.append(np.frombuffer(data[begin:end], dtype).reshape(entry[1]))
        begin = end
    require(begin == len(data), f"the compiled program has {len(data)} bytes, {begin} are described")
    return found


# from dataclasses to JSON


def _plain(value: Any, arrays: list[NDArray]) -> Any:
    """Return `value` in the types of JSON; its arrays are appended to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(_stored(value))
        return len(arrays) - 1
    if is_dataclass(value):
        members = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _plain(member, arrays) for field, member in members if not _is_default(field, member)}
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, dict):
        return [[_plain(key, arrays), _plain(member, arrays)] for key, member in value.items()]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(member, arrays) for member in value]
    return value


def _is_default(field: Any, member: Any) -> bool:
    return field.default is not MISSING and type(member) is type(field.default) and member == field.default


def _stored(array: NDArray) -> NDArray:
    """Return an array with the element type in which files hold it."""
    if array.dtype == np.int32:
        require(not array.size or int(array.min()) >= 0, "negative numbers in an array")
        array = array.astype("<u4")
    return np.asarray(array, STORED[array.dtype.name], order="C")


# and back

Reader = Callable[[Any, list[NDArray], str], Any]
"""Makes a value of one type out of JSON and the arrays, or raises ValueError with the place (third argument) and what is wrong there."""


@cache
def _reader(kind: Any) -> Reader:
    """Return the reader of values of type `kind`; TypeError if that is none of a field in `program/steps.py` or `program/kinds/`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Step:
        return _step_reader()
    if origin in (types.UnionType, typing.Union):
        (member,) = (each for each in arguments if each is not type(None))
        return _optional_reader(_reader(member))
    if origin is np.ndarray:
        (element,) = typing.get_args(arguments[1])
        return _array_reader(tuple(map(np.dtype, typing.get_args(element) or (element,))))
    if origin is tuple and arguments[1:] != (Ellipsis,):
        return _fixed_reader([_reader(each) for each in arguments])
    if origin in (tuple, frozenset):
        return _many_reader(origin, arguments[0], _reader(arguments[0]))
    if origin is dict:
        return _dict_reader(*map(_reader, arguments))
    if is_dataclass(kind):
        return _dataclass_reader(kind, typing.get_type_hints(kind))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _enum_reader(kind)
    if kind is type(None):
        return _none_reader
    if kind not in (int, float, bool, str):
        raise TypeError(f"no file can hold values of the type {kind}")
    return _scalar_reader(kind)


def _step_reader() -> Reader:
    """Return a reader of steps: the kind of a step says of which type its `spec` is."""
    read_kind, hints = _reader(StepKind), typing.get_type_hints(Step)
    readers = {kind: _dataclass_reader(Step, {**hints, "spec": row.spec}) for kind, row in ROWS.items()}

    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        if type(value) is not dict:
            raise ValueError(f"{place} is not a Step: {_shown(value)}")
        return readers[read_kind(value.get("kind"), arrays, f"{place}.kind")](value, arrays, place)

    return read


def _none_reader(value: Any, arrays: list[NDArray], place: str) -> None:
    if value is not None:
        raise ValueError(f"{place} should not be there: {_shown(value)}")


def _scalar_reader(kind: Any) -> Reader:
    allowed = (int, float) if kind is float else (kind,)

    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        if type(value) not in allowed or (type(value) is int and abs(value) >= 1 << 62):
            raise ValueError(f"{place} is not of type {kind.__name__}: {_shown(value)}")
        return kind(value)

    return read


def _enum_reader(kind: Any) -> Reader:
    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        if not isinstance(value, str) or value not in kind.__members__:
            raise ValueError(f"{place} is not of type {kind.__name__}: {_shown(value)}")
        return kind[value]

    return read


def _array_reader(dtypes: tuple[np.dtype, ...]) -> Reader:
    """Return a reader of arrays of one of these element types, which are views of what is in the file."""
    stored = {np.dtype("<u4") if dtype == np.int32 else STORED[dtype.name]: dtype for dtype in dtypes}

    def read(value: Any, arrays: list[NDArray], place: str) -> NDArray:
        if type(value) is not int or not 0 <= value < len(arrays):
            raise ValueError(f"{place} is not the number of an array: {_shown(value)}")
        array = arrays[value]
        if array.dtype not in stored:
            raise ValueError(f"{place} is {array.dtype}, not {' or '.join(str(dtype) for dtype in stored)}")
        dtype = stored[array.dtype]
        if dtype == np.int32 and array.size and int(array.max()) >= 1 << 31:
            raise ValueError(f"{place} holds {int(array.max())}, beyond {dtype}")
        return array.view(dtype)

    return read


def _fixed_reader(readers: list[Reader]) -> Reader:
    def read(value: Any, arrays: list[NDArray], place: str) -> tuple:
        if type(value) is not list or len(value) != len(readers):
            raise ValueError(f"{place} has not {len(readers)} members: {_shown(value)}")
        return tuple([each(member, arrays, place) for each, member in zip(readers, value, strict=True)])

    return read


def _many_reader(make: Any, kind: Any, reader: Reader) -> Reader:
    numbered = is_dataclass(kind)

    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        if type(value) is not list:
            raise ValueError(f"{place} is not a list: {_shown(value)}")
        return make([reader(member, arrays, f"{place}[{i}]" if numbered else place) for i, member in enumerate(value)])

    return read


def _dict_reader(read_key: Reader, read_member: Reader) -> Reader:
    def read(value: Any, arrays: list[NDArray], place: str) -> dict:
        if type(value) is not list or any(type(pair) is not list or len(pair) != 2 for pair in value):
            raise ValueError(f"{place} is not a list of pairs: {_shown(value)}")
        found = {read_key(key, arrays, place): read_member(member, arrays, place) for key, member in value}
        if len(found) < len(value):
            raise ValueError(f"{place} names something twice")
        return found

    return read


def _optional_reader(reader: Reader) -> Reader:
    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        return None if value is None else reader(value, arrays, place)

    return read


def _dataclass_reader(kind: Any, hints: Mapping[str, Any]) -> Reader:
    """Return a reader of dataclasses whose fields have the types `hints`."""
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}

    def read(value: Any, arrays: list[NDArray], place: str) -> Any:
        if type(value) is not dict:
            raise ValueError(f"{place or 'the program'} is not of type {kind.__name__}: {_shown(value)}")
        if not needed <= value.keys() <= readers.keys():
            odd = sorted((needed - value.keys()) | (value.keys() - readers.keys()))
            raise ValueError(f"{place or 'the program'} lacks or should not have {', '.join(odd)[:200]}")
        return kind(**{name: readers[name](member, arrays, f"{place}.{name}" if place else name) for name, member in value.items()})

    return read


def _shown(value: Any) -> str:
    text = f"{len(value)} members" if isinstance(value, list | dict) else repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."
