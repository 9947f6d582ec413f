"""Damaged compressed weights and compressed models: an error or a result, and nothing else.

`python tests/fuzz/compressed_weights.py reader|sessions|files --runs N --seed S`. Run number i is a function of seed and i alone, so that
`--first I --runs 1` repeats it. docs/architecture.md says how to run it under the address sanitizer.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mutations import HOSTILE, mutated
from onnx import helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.formats import compressed_model
from onnxruntime_ep_sparse.formats.schema import DOMAIN
from onnxruntime_ep_sparse.formats.weight_codec import FRAME, decode, encode, shape_of

SHAPES = ((), (0,), (1,), (7,), (9, 40), (600, 2), (8, 4, 3, 3), (4, 2, 1, 3, 3))
ZEROS = (0.0, 0.5, 0.9, 0.99, 1.0)
EVERY = 10_000
"""Runs between lines of progress."""
MAX_ELEMENTS = 2**24
"""Of a result: the address sanitizer ends a process that asks for too much memory, and hostile pads do."""
REFUSED, MADE, RAN = "refused", "made but not run", "ran"


class BrokenPromiseError(AssertionError):
    """What a reader of damaged data must not do."""


def corrected(values: bytes, index: bytes) -> bytes:
    """The index with the checksum that fits, if it is long enough to have one."""
    signed = bytearray(index)
    if len(index) >= FRAME.head.size:
        FRAME.sign(signed, values)
    return bytes(signed)


def damaged(rng: np.random.Generator, values: bytes, index: bytes, size: int) -> tuple[bytes, bytes]:
    """Values, of `size` bytes each, and index of a compressed weight. At least one is damaged; mostly the checksum fits again."""
    which = rng.integers(1, 4)
    values = mutated(rng, values) if which & 1 else values
    index = mutated(rng, index) if which & 2 else index
    values = values[: len(values) // size * size]
    return values, corrected(values, index) if rng.random() < 0.9 else index


# The reader alone


@cache
def weights() -> list[tuple[type[np.generic], bytes, bytes]]:
    """Compressed weights of some shapes, densities, element types and signs of zeros."""
    rng = np.random.default_rng(0)
    found = []
    for shape in SHAPES:
        for zeros in ZEROS:
            weight = np.asarray(rng.standard_normal(shape), np.float32) * (rng.random(shape) >= zeros)
            for signs in (weight, np.abs(weight)):
                found.append((np.float32, *(part.tobytes() for part in encode(np.asarray(signs, np.float32)))))
            for dtype, zero in ((np.int8, 0), (np.uint8, 128)):
                integers = np.asarray(np.clip(np.rint(40 * weight), -90, 90) + zero).astype(dtype)
                found.append((dtype, *(part.tobytes() for part in encode(integers))))
    return found


def reader(rng: np.random.Generator) -> str:
    """One damaged weight through `decode`."""
    found = weights()
    dtype, *parts = found[rng.integers(len(found))]
    values, index = damaged(rng, *parts, np.dtype(dtype).itemsize)
    arrays = np.frombuffer(values, dtype), np.frombuffer(index, np.uint8)
    try:
        weight = decode(*arrays)
    except ValueError as error:
        if not str(error):
            raise BrokenPromiseError("an error without words") from error
        return REFUSED
    if weight.shape != shape_of(arrays[1]) or weight.dtype != dtype:
        raise BrokenPromiseError(f"a weight of shape {weight.shape} and {weight.dtype}")
    if weight.size > 255 * (len(index) + 1):
        raise BrokenPromiseError(f"{len(index)} bytes made {weight.size} elements")
    again = decode(*encode(weight))
    if again.tobytes() != weight.tobytes():
        raise BrokenPromiseError("another weight when compressed again")
    return RAN


# Whole models


@cache
def packed_models() -> list[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """Small models of compressed operators, with what to feed them."""
    rng = np.random.default_rng(0)
    cases = [
        ("Conv", (8, 4, 3, 3), (2, 4, 9, 11), {"pads": [1, 1, 1, 1], "strides": [2, 1], "kernel_shape": [3, 3]}),
        ("Conv", (8, 1, 3), (1, 8, 40), {"group": 8, "dilations": [2]}),
        ("Conv", (6, 3, 1, 1), (1, 3, 5, 5), {"auto_pad": "SAME_UPPER"}),
        ("Gemm", (12, 40), (5, 40), {"transB": 1, "alpha": 0.5}),
        ("MatMul", (40, 12), (2, 5, 40), {}),
        ("MatMul", (600, 16), (1, 600), {}),
    ]
    products = [(packed_model(rng, *case), {"x": rng.standard_normal(case[2]).astype(np.float32)}) for case in cases]
    return [*products, (held_model(rng), {"x": rng.integers(0, 256, (3, 40)).astype(np.uint8)})]


def held_model(rng: np.random.Generator) -> onnx.ModelProto:
    """x -> QLinearMatMul, whose weight a node Weight makes -> y."""
    shape = (40, 12)
    weight = (rng.integers(-90, 91, shape) * (rng.random(shape) >= 0.8)).astype(np.int8)
    values, index = encode(weight)
    others = {"s": np.float32(0.02), "z": np.uint8(128), "t": np.float32(0.1), "o": np.int8(0)}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in {"values": values, "index": index, **others}.items()]
    nodes = [
        helper.make_node("Weight", ["values", "index"], ["w"], domain=DOMAIN, weight_shape=shape),
        helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "o", "t", "z"], ["y"], "product"),
    ]
    ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, at)] for name, at in (("x", (3, 40)), ("y", None))]
    graph = helper.make_graph(nodes, "fuzz", *ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)], ir_version=8)


def packed_model(
    rng: np.random.Generator, op_type: str, weight_shape: tuple[int, ...], shape: tuple[int, ...], attributes: dict
) -> onnx.ModelProto:
    """x -> a compressed product -> Relu -> y."""
    weight = (rng.standard_normal(weight_shape) * (rng.random(weight_shape) >= 0.8)).astype(np.float32)
    values, index = encode(weight)
    tensors = [numpy_helper.from_array(values, "values"), numpy_helper.from_array(index, "index")]
    product = helper.make_node(op_type, ["x", "values", "index"], ["p"], "product", domain=DOMAIN, weight_shape=weight_shape, **attributes)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([product, helper.make_node("Relu", ["p"], ["y"])], "fuzz", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)], ir_version=8)


def with_damaged_weight(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """Values and index damaged, mostly with a fitting checksum."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = changed.graph.initializer[:2]
    sizes = [len(tensor.raw_data) // max(tensor.dims[0], 1) for tensor in tensors]
    parts = damaged(rng, *(tensor.raw_data for tensor in tensors), sizes[0])
    for tensor, data, size in zip(tensors, parts, sizes, strict=True):
        tensor.raw_data = data
        tensor.dims[:] = [len(data) // size]
    return changed.SerializeToString()


def with_damaged_attribute(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """A hostile number in a list of numbers, or the list longer or shorter; or a hostile number."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    attributes = changed.graph.node[0].attribute
    attribute = attributes[rng.integers(len(attributes))]
    number = (HOSTILE[rng.integers(len(HOSTILE))] + 2**63) % 2**64 - 2**63
    if attribute.type == onnx.AttributeProto.INTS:
        at = rng.integers(len(attribute.ints))
        attribute.ints[at : at + rng.integers(3)] = [number, -number % 2**31][: rng.integers(3)]
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = number
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = mutated(rng, attribute.s)
    else:
        attribute.f = float(rng.choice([np.nan, np.inf, -np.inf, 0.0, 3e38]))
    return changed.SerializeToString()


def with_damaged_file(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """Any byte of the model."""
    return mutated(rng, model.SerializeToString())


DAMAGES: tuple[Callable[[np.random.Generator, onnx.ModelProto], bytes], ...] = (
    with_damaged_weight,
    with_damaged_weight,
    with_damaged_attribute,
    with_damaged_file,
)


def outcome(model: bytes, feeds: dict[str, np.ndarray], providers: list) -> tuple[str, bytes]:
    """What became of a model in a session, and the bytes of its result if it ran. Every error must have words."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # every tensor an allocation of its own, which the address sanitizer knows
    options.enable_cpu_mem_arena = False
    # without it the CPU provider's products of uint8 saturate on some CPUs
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.register_custom_ops_library(sparse.get_library_path())
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0)
        shape = session.get_outputs()[0].shape
        if not all(isinstance(size, int) for size in shape) or math.prod(shape) > MAX_ELEMENTS:
            return MADE, b""
        return RAN, session.run(None, feeds)[0].tobytes()
    except Exception as error:
        if not str(error):
            raise BrokenPromiseError("an error without words") from error
        return REFUSED, b""


def sessions(rng: np.random.Generator) -> str:
    """One damaged model in a session without the provider, and in one with it: both refuse it, or both have the same bits."""
    models = packed_models()
    model, feeds = models[rng.integers(len(models))]
    source = DAMAGES[rng.integers(len(DAMAGES))](rng, model)
    alone, taken = (outcome(source, feeds, providers) for providers in ([], [(sparse.EP_NAME, {"policy": "always"})]))
    if alone != taken:
        raise BrokenPromiseError(f"{alone[0]} without the provider, {taken[0]} with it, or another result")
    return alone[0]


# Files through `pack` and `unpack`


@cache
def files() -> list[onnx.ModelProto]:
    """Dense models with a sparse_initializer or a mask, and what `pack` makes of the first in both forms, with notes of every kind."""
    rng = np.random.default_rng(0)
    weight, other = ((rng.standard_normal(shape) * (rng.random(shape) >= 0.8)).astype(np.float32) for shape in ((40, 12), (12, 30)))
    places = np.flatnonzero(other)
    standard = onnx.SparseTensorProto(dims=other.shape, values=numpy_helper.from_array(other.reshape(-1)[places], "other"))
    standard.indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64)))
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["h"], "first"), helper.make_node("MatMul", ["h", "other"], ["y"], "second")]
    nodes[0].domain = "ai.onnx"
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size]) for name, size in (("x", 40), ("y", 30))]
    graph = helper.make_graph(nodes, "fuzz", values[:1], values[1:], [numpy_helper.from_array(weight, "weight")])
    graph.sparse_initializer.append(standard)
    dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    masked = onnx.ModelProto()
    masked.CopyFrom(dense)
    masked.graph.node[0].input[1] = "values"
    makers = [
        helper.make_node("Transpose", ["weight"], ["first"], perm=[1, 0]),
        helper.make_node("Constant", [], ["mask"], value=numpy_helper.from_array((weight != 0).T.astype(np.float32), "other")),
        helper.make_node("Mul", ["mask", "first"], ["fuzz"]),
        helper.make_node("Transpose", ["fuzz"], ["values"], perm=[1, 0]),
    ]
    nodes = [*makers, *masked.graph.node]
    del masked.graph.node[:]
    masked.graph.node.extend(nodes)
    models = [dense, masked]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        onnx.save(dense, source)
        for form in (False, True):
            compressed_model.pack(source, target, standard=form)
            models.append(onnx.load(target))
    return models


def with_damaged_notes(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """Other entries in the notes of `pack`, mostly of the right types, or damaged text."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for holder in (*graph.node, *graph.initializer, *(each.values for each in graph.sparse_initializer)):
        for entry in holder.metadata_props:
            note = json.loads(entry.value)
            key = list(note)[rng.integers(len(note))]
            number = HOSTILE[rng.integers(len(HOSTILE))]
            same_type = {int: number, bool: not note[key], str: ("", "\ud800", "\0", "ep.sparse", "=" * 9)[rng.integers(5)]}[
                type(note[key])
            ]
            others = (None, -1, 1e999, True, [[]], {}, "x" * 100_000, 10**400)
            note[key] = same_type if rng.random() < 0.7 else others[rng.integers(len(others))]
            text = json.dumps(note)
            entry.value = text if rng.random() < 0.9 else ("[" * 100_000, text[:-1], f"[{text}]", "1" * 10_000)[rng.integers(4)]
    return changed.SerializeToString()


def with_names_that_are_not_utf8(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """Names in Latin-1."""
    names = (b"weight", b"other", b"first", b"values", b"fuzz", b"location", b"ai.onnx", b"ep.sparse")
    name = names[rng.integers(len(names))]
    return model.SerializeToString().replace(name, b"\xe9" * len(name))


def with_external_data(rng: np.random.Generator, model: onnx.ModelProto) -> bytes:
    """A weight somewhere else, at hostile places."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        locations = ("source.onnx", "none", "", ".", "..", "/etc/passwd", "a\0b", "x" * 100_000, "none/" * 1000)
        tensor.external_data.add(key="location", value=locations[rng.integers(len(locations))])
        for key in ("offset", "length"):
            if rng.random() < 0.5:
                tensor.external_data.add(key=key, value=str(HOSTILE[rng.integers(len(HOSTILE))]) if rng.random() < 0.8 else "x")
    return changed.SerializeToString()


FILE_DAMAGES: tuple[Callable[[np.random.Generator, onnx.ModelProto], bytes], ...] = (
    with_damaged_file,
    with_damaged_notes,
    with_names_that_are_not_utf8,
    with_external_data,
)


def packing(rng: np.random.Generator) -> str:
    """One damaged model through `pack` and `unpack`: an error with words, of limited length, or a result, and no other file."""
    models = files()
    source = FILE_DAMAGES[rng.integers(len(FILE_DAMAGES))](rng, models[rng.integers(len(models))])
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        path.write_bytes(source)
        ran = False
        works = (compressed_model.pack, compressed_model.unpack, lambda *paths: compressed_model.pack(*paths, standard=True))
        for number, work in enumerate(works):
            target = Path(folder, f"target{number}.onnx")
            try:
                json.dumps([asdict(weight) for weight in work(path, target)])
                onnx.load(target, load_external_data=False)
                ran = True
            except ValueError as error:
                if not str(error):
                    raise BrokenPromiseError("an error without words") from error
                if target.exists():
                    raise BrokenPromiseError("an error and a result") from error
        left = {file.name for file in Path(folder).iterdir() if not file.name.startswith("target")}
        if left != {"source.onnx"} or path.read_bytes() != source:
            raise BrokenPromiseError(f"another source, or other files: {left}")
    return RAN if ran else REFUSED


TARGETS: dict[str, Callable[[np.random.Generator], str]] = {"reader": reader, "sessions": sessions, "files": packing}


def run(target: str, runs: int, seed: int, first: int = 0, progress: Callable[[int], None] = lambda i: None) -> Counter[str]:
    """How often the data were refused, and how often there was a result. BrokenPromiseError, with the number of the run, for all else."""
    counts: Counter[str] = Counter()
    for i in range(first, first + runs):
        progress(i)
        try:
            counts[TARGETS[target](np.random.default_rng([seed, i]))] += 1
        except Exception as error:
            raise BrokenPromiseError(f"{target} --seed {seed} --first {i} --runs 1: {error!r}") from error
    return counts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    arguments = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")  # of numbers that overflow
    sparse.register()
    last = arguments.first + arguments.runs

    def progress(i: int) -> None:
        if i % EVERY == 0 or arguments.runs < EVERY:
            print(f"run {i} of {last}", file=sys.stderr, flush=True)

    counts = run(arguments.target, arguments.runs, arguments.seed, arguments.first, progress)
    print(f"{Path(__file__).name} {arguments.target}: {arguments.runs} runs, {', '.join(f'{n} {what}' for what, n in counts.items())}")


if __name__ == "__main__":
    main()
