"""Damaged and hostile compiled programs for their reader, by the million.

    python tests/fuzz/compiled_programs.py [--count 1000000] [--seed 0] [--run 0.1] [--mapped FOLDER]

Bytes of valid programs are cut off, flipped and grown; numbers, names, lists and arrays of their header and data are replaced, with a
checksum that fits, so that everything behind it is reached. The reader may accept a program or raise ValueError, nothing else. Of those
that it accepts a share is run, which must not do worse than raise RuntimeError. With `--mapped` the bytes are a file, which programs map.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.program import byte_depthwise, byte_packing
from onnxruntime_ep_sparse.program import serialize as compiled
from onnxruntime_ep_sparse.program.enums import Coordinates, ElementType, Interpolation, ShapeRule, StepKind
from onnxruntime_ep_sparse.program.kinds.layout import Concat, Pad, Reshape, Transpose
from onnxruntime_ep_sparse.program.kinds.parts import Part
from onnxruntime_ep_sparse.program.kinds.quantized import Carry, Combine, LookUp
from onnxruntime_ep_sparse.program.kinds.reduce import Reduce
from onnxruntime_ep_sparse.program.kinds.resize import Resize
from onnxruntime_ep_sparse.program.kinds.shuffle import Shuffle
from onnxruntime_ep_sparse.program.kinds.windows import Pool
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step, Window
from onnxruntime_ep_sparse.runtime._mapped_files import MappedFile
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.elementwise import Op
from onnxruntime_ep_sparse_kernels.isa import isa_named

NUMBERS = (-1, 0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 255, 256, 65535, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, 1 << 63, 10**30)
ODD = (None, True, False, "", "x", "CONV", "ADD", 1.5, -0.5, float("inf"), float("nan"), [], [0], [[]], {}, {"x": 1}, [-1, -1], [0, 0, 0])
LARGEST_RUN = 4096
"""Programs with larger numbers, or more elements, are accepted but not run: they would take their time."""


@dataclass(frozen=True)
class Seed:
    """A valid program with inputs for it, by name."""

    name: str
    blob: bytes
    inputs: dict[str, np.ndarray]


def weights(rng, *shape):
    """Half of them zero."""
    return np.where(rng.random(shape) < 0.5, np.float32(0), rng.standard_normal(shape).astype(np.float32))


GROUPED = {"domain": "com.microsoft", "num_heads": 2, "kv_num_heads": 1, "do_rotary": 1}
"""Of the seeds' GroupQueryAttention."""


@cache
def seeds() -> tuple[Seed, ...]:
    """Small programs with every kind of step."""
    sparse.register()
    rng = np.random.default_rng(0)

    def net(name, nodes, inputs, arrays, outputs=("y",), opset=18):
        made = [helper.make_node(op, x, y, **attributes) for op, x, y, attributes in nodes]
        types = {
            np.dtype(np.float32): TensorProto.FLOAT,
            np.dtype(np.int32): TensorProto.INT32,
            np.dtype(np.int64): TensorProto.INT64,
            np.dtype(np.float16): TensorProto.FLOAT16,
            np.dtype(np.uint8): TensorProto.UINT8,
        }
        infos = [
            helper.make_tensor_value_info(n, types[a.dtype], ["n", *a.shape[1:]] if a.ndim > 1 else a.shape) for n, a in inputs.items()
        ]
        results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
        graph = helper.make_graph(made, name, infos, results, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=9
        )
        return [Seed(f"{name} {i}", blob, inputs) for i, blob in enumerate(blobs_of(model))]

    def bytes_of_net(name, data, shape, kind=StepKind.BYTE_PRODUCT):
        values = {name: getattr(data, name, -1) for name in ("zero", "factor")}
        values = {name: value for name, value in values.items() if value != -1}
        step = Step(kind, 0, 1, spec=data)
        types = dict.fromkeys(range(2), ElementType.UINT8)
        ranks = (len(shape), *(1 for _ in values))
        program = ProgramSpec(2 + len(values), {"x": 0} | values, {"y": 1}, steps=(step,), types=types, ranks=ranks)
        blob = compiled.encode(compiled.Compiled(isa.name, ("x", *values), ("y",), program))
        ones = {name: np.ones(1, np.float32) for name in values}
        return [Seed(name, bytes(blob), {"x": rng.integers(0, 256, shape).astype(np.uint8)} | ones)]

    isa = isa_named(kernels.available_isas()[0])
    how = byte_packing.Quantised(False, 7, np.arange(12, dtype=np.int32), np.full(12, 0.01, np.float32))
    at_run_time = replace(how, zero=2, factor=3)
    window = Window((3, 3), (2, 2), (1, 1), (1, 1), (1, 1))
    eight = np.rint(weights(rng, 12, 8, 3, 3) * 50).clip(-128, 127)
    right = ShapeRule.MATMUL_RIGHT
    on_bytes = [
        *bytes_of_net("bytes", byte_packing.convolution(eight, window, 1, (None, None), isa, how), (2, 8, 9, 9)),
        *bytes_of_net(
            "rows of bytes", byte_packing.matrix(eight.reshape(12, 72), right, how, x_rows=True, y_rows=True, isa=isa), (2, 5, 72)
        ),
        *bytes_of_net("bytes, values", byte_packing.convolution(eight, window, 1, (None, None), isa, at_run_time), (2, 8, 9, 9)),
        *bytes_of_net("depthwise bytes", byte_depthwise.depthwise(eight[:, :1], window, 6, how), (2, 6, 9, 9), StepKind.BYTE_DEPTHWISE),
    ]
    x = rng.standard_normal((2, 8, 9, 9)).astype(np.float32)
    images = net(
        "images",
        [
            ("Conv", ["x", "w3"], ["a"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("Relu", ["a"], ["b"], {}),
            ("Conv", ["b", "wd"], ["c"], {"group": 12, "pads": [1] * 4}),
            ("Conv", ["c", "w1"], ["d"], {}),
            ("Add", ["d", "b"], ["e"], {}),
            ("MaxPool", ["e"], ["f"], {"kernel_shape": [3, 3], "pads": [1] * 4}),
            ("Conv", ["f", "wg"], ["g"], {"group": 2, "dilations": [2, 2], "pads": [2] * 4}),
            ("Concat", ["g", "e"], ["h"], {"axis": 1}),
            ("BatchNormalization", ["h", "ch", "ch", "ch", "ch"], ["n"], {}),
            ("Pad", ["n", "pads"], ["i"], {}),
            ("Resize", ["i", "", "scales"], ["j0"], {"mode": "nearest"}),
            ("LRN", ["j0"], ["j1"], {"size": 3}),
            ("Resize", ["j1", "", "ones"], ["j"], {"mode": "cubic"}),
            ("DepthToSpace", ["j"], ["k"], {"blocksize": 2}),
            ("AveragePool", ["k"], ["l"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("GlobalAveragePool", ["l"], ["m"], {}),
            ("Flatten", ["m"], ["o"], {}),
            ("Gemm", ["o", "wf", "bf"], ["y"], {"transB": 1}),
        ],
        {"x": x},
        {
            "w3": weights(rng, 12, 8, 3, 3),
            "wd": weights(rng, 12, 1, 3, 3),
            "w1": weights(rng, 12, 12, 1, 1),
            "wg": weights(rng, 8, 6, 3, 3),
            "ch": np.ones(20, np.float32),
            "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "ones": np.array([1, 1, 1, 1], np.float32),
            "wf": weights(rng, 70, 5),
            "bf": weights(rng, 70),
        },
    )
    rows = rng.standard_normal((2, 5, 16)).astype(np.float32)
    matrices = net(
        "matrices",
        [
            ("MatMul", ["x", "w"], ["a"], {}),
            ("LayerNormalization", ["a", "scale", "bias"], ["b"], {}),
            ("Transpose", ["b"], ["c"], {"perm": [0, 2, 1]}),
            ("MatMul", ["left", "c"], ["d"], {}),
            ("Unsqueeze", ["d", "axes"], ["e"], {}),
            ("Squeeze", ["e", "axes"], ["f"], {}),
            ("Reshape", ["f", "shape"], ["g"], {}),
            ("Mul", ["g", "half"], ["h"], {}),
            ("Sigmoid", ["h"], ["i"], {}),
            ("MatMul", ["i", "vector"], ["y"], {}),
        ],
        {"x": rows},
        {
            "w": weights(rng, 16, 40),
            "scale": weights(rng, 40),
            "bias": weights(rng, 40),
            "left": weights(rng, 2, 6, 40),
            "axes": np.array([1], np.int64),
            "shape": np.array([-1, 2, 15], np.int64),
            "half": np.array(0.5, np.float32),
            "vector": weights(rng, 15),
        },
    )
    times = rng.standard_normal((4, 3, 10)).astype(np.float32)
    cells = net(
        "cells",
        [
            ("LSTM", ["x", "w", "r", "", "lengths", "h"], ["a", "b"], {"hidden_size": 9, "direction": "bidirectional"}),
            ("Transpose", ["a"], ["c"], {"perm": [0, 2, 1, 3]}),
            ("Reshape", ["c", "shape"], ["d"], {}),
            ("GRU", ["d", "gw", "gr"], ["e", "f"], {"hidden_size": 7}),
            ("GRU", ["x", "lw", "lr"], ["g", "i"], {"hidden_size": 7, "linear_before_reset": 1}),
            ("Add", ["f", "i"], ["y"], {}),
        ],
        {"x": times, "lengths": np.array([4, 1, 3], np.int32), "h": rng.standard_normal((2, 3, 9)).astype(np.float32)},
        {
            "w": weights(rng, 2, 36, 10),
            "r": weights(rng, 2, 36, 9),
            "shape": np.array([0, 0, 18], np.int64),
            "gw": weights(rng, 1, 21, 18),
            "gr": weights(rng, 1, 21, 7),
            "lw": weights(rng, 1, 21, 10),
            "lr": weights(rng, 1, 21, 7),
        },
        outputs=("y", "b"),
    )
    line = net(
        "line",
        [("Conv", ["x", "w"], ["a"], {"pads": [3, 3]}), ("Clip", ["a", "low", "high"], ["y"], {})],
        {"x": rng.standard_normal((1, 6, 30)).astype(np.float32)},
        {"w": weights(rng, 40, 6, 7), "low": np.array(-1, np.float32), "high": np.array(1, np.float32)},
    )
    parts = net(
        "parts",
        [
            ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]}),
            ("InstanceNormalization", ["a", "scale", "bias"], ["b"], {}),
            ("Slice", ["b", "one", "six", "one"], ["c"], {}),
            ("Softmax", ["c"], ["d"], {"axis": 1}),
            ("ReduceMax", ["d"], ["e"], {}),
            ("Expand", ["e", "target"], ["f"], {}),
            ("Add", ["d", "f"], ["g"], {}),
            ("Conv", ["g", "v"], ["y"], {}),
        ],
        {"x": rng.standard_normal((1, 4, 6, 5)).astype(np.float32)},
        {
            "w": weights(rng, 8, 4, 3, 3),
            "scale": weights(rng, 8),
            "bias": weights(rng, 8),
            "one": np.array([1], np.int64),
            "six": np.array([6], np.int64),
            "target": np.array([1, 5, 1, 1], np.int64),
            "v": weights(rng, 6, 5, 1, 1),
        },
    )
    attention = net(
        "attention",
        [
            ("MatMul", ["x", "w"], ["q"], {}),
            ("Transpose", ["q"], ["k"], {"perm": [0, 2, 1]}),
            ("MatMul", ["q", "k"], ["s"], {}),
            ("Mul", ["s", "half"], ["h"], {}),
            ("Softmax", ["h"], ["p"], {}),
            ("MatMul", ["p", "q"], ["y"], {}),
        ],
        {"x": rng.standard_normal((2, 5, 8)).astype(np.float32)},
        {"w": weights(rng, 8, 20), "half": np.array(0.5, np.float32)},
    )
    ids = net(
        "ids",
        [
            ("Shape", ["i"], ["t"], {"start": 1}),
            ("Squeeze", ["t"], ["n"], {}),
            ("Range", ["zero", "n", "one"], ["r"], {}),
            ("Add", ["i", "r"], ["a"], {}),
            ("Less", ["a", "i"], ["l"], {}),
            ("Where", ["l", "i", "a"], ["c"], {}),
            ("CumSum", ["c", "one"], ["u"], {}),
            ("Mod", ["u", "nine"], ["m"], {}),
            ("Gather", ["table", "m"], ["g"], {}),
            ("Cast", ["u"], ["f"], {"to": TensorProto.FLOAT}),
            ("Unsqueeze", ["f", "two"], ["d"], {}),
            ("Mul", ["g", "d"], ["e"], {}),
            ("ScatterND", ["e", "places", "row"], ["v"], {}),
            ("Mul", ["t", "none"], ["pads"], {}),
            ("Pad", ["v", "pads"], ["o"], {}),
            ("MatMul", ["o", "w"], ["q"], {}),
            ("GroupQueryAttention", ["q", "k", "k", "pk", "pk", "s", "total", "cos", "sin"], ["y", "nk", "nv"], {**GROUPED}),
        ],
        {
            "i": rng.integers(0, 9, (2, 3)),
            "k": rng.standard_normal((2, 3, 8)).astype(np.float32),
            "pk": rng.standard_normal((2, 1, 4, 8)).astype(np.float32),
            "s": np.array([6, 5], np.int32),
        },
        {
            **{name: np.array(number) for name, number in (("zero", 0), ("one", 1), ("nine", 9))},
            **{name: rng.standard_normal((9, width)).astype(np.float32) for name, width in (("table", 8), ("cos", 4), ("sin", 4))},
            "two": np.array([2]),
            "none": np.zeros(6, np.int64),
            "places": np.array([[0, -1]]),
            "row": rng.standard_normal((1, 8)).astype(np.float32),
            "total": np.array(7, np.int32),
            "w": weights(rng, 8, 16),
        },
        ("y", "nk"),
        opset=20,
    )
    volume = net(
        "volume",
        [("Conv", ["x", "w"], ["y"], {"auto_pad": "SAME_UPPER"})],
        {"x": rng.standard_normal((1, 3, 4, 5, 6)).astype(np.float32)},
        {"w": weights(rng, 5, 3, 3, 2, 3)},
    )
    narrow = net(
        "narrow",
        [("MatMul", ["x", "w"], ["a"], {}), ("Cast", ["a"], ["b"], {"to": TensorProto.BFLOAT16}), ("Cast", ["b"], ["y"], {"to": 1})],
        {"x": rng.standard_normal((3, 20)).astype(np.float16)},
        {"w": weights(rng, 20, 12).astype(np.float16)},
    )
    whole = rng.integers(-3, 4, (2, 6, 6, 3, 3)).astype(np.int8)
    integers = net(
        "integers",
        [
            ("QLinearConv", ["x", "s", "z", "w0", "s", "w_z", "s", "z"], ["a"], {"pads": [1] * 4}),
            ("QLinearAdd", ["a", "s", "z", "x", "s", "z", "t", "z"], ["b"], {"domain": "com.microsoft"}),
            ("QLinearSigmoid", ["b", "t", "z", "s", "z"], ["c"], {"domain": "com.microsoft"}),
            ("DequantizeLinear", ["c", "s", "z"], ["d"], {}),
            ("DynamicQuantizeLinear", ["d"], ["q", "q_s", "q_z"], {}),
            ("ConvInteger", ["q", "w1", "q_z"], ["i"], {"pads": [1] * 4}),
            ("Cast", ["i"], ["f"], {"to": TensorProto.FLOAT}),
            ("Mul", ["f", "q_s"], ["y"], {}),
        ],
        {"x": rng.integers(0, 256, (2, 6, 7, 5)).astype(np.uint8)},
        {
            "s": np.float32(0.02),
            "t": np.float32(0.05),
            "z": np.uint8(7),
            "w_z": np.int8(0),
            "w0": whole[0],
            "w1": whole[1],
        },
    )
    return tuple(
        images + matrices + cells + line + parts + attention + ids + volume + narrow + integers + on_bytes + [steps_on_bytes(rng, isa)]
    )


def steps_on_bytes(rng, isa) -> Seed:
    """Return a program of the steps between products of bytes."""
    inputs = {"x": rng.integers(0, 256, (2, 4, 6, 6)).astype(np.uint8), "f": rng.standard_normal((2, 4, 6, 6)).astype(np.float32)}
    numbers = np.arange(1, 5, dtype=np.float32)
    steps = (
        Step(StepKind.CARRY, 1, 2, spec=Carry(zero__c=numbers, scale__c=numbers / 9, axis=1)),
        Step(StepKind.COMBINE, 0, 3, 2, spec=Combine(False, 0.0, 0.5, 0.0, 0.75, -3.0, 0.0, -255.0, 255.0)),
        Step(StepKind.POOL, 3, 4, spec=Pool(Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1)), is_max=True)),
        Step(StepKind.LOOK_UP, 4, 5, spec=LookUp(np.arange(256, dtype=np.float32)[::-1].copy(), 0.0)),
        Step(StepKind.PAD, 5, 6, spec=Pad((0, 0, 1, 1), (0, 0, 1, 1), 7.0)),
        Step(StepKind.RESIZE, 6, 7, spec=Resize(Interpolation.FLOOR, Coordinates.ASYMMETRIC, (2.0, 2.0))),
        Step(StepKind.SHUFFLE, 7, 8, spec=Shuffle((2, 2), to_depth=True)),
        Step(StepKind.CONCAT, 8, 9, spec=Concat(1, begins=True)),
        Step(StepKind.CONCAT, 8, 9, spec=Concat(1)),
        Step(StepKind.PART, 9, 10, spec=Part((1,), (3,), (20,), (2,))),
        Step(StepKind.TRANSPOSE, 10, 11, spec=Transpose((0, 2, 3, 1))),
        Step(StepKind.RESHAPE, 11, 12, spec=Reshape((0, -1, 9))),
        Step(StepKind.REDUCE, 12, 13, spec=Reduce((1,), Op.ADD, zero=3.0)),
    )
    types = dict.fromkeys((0, *range(2, 13)), ElementType.UINT8)
    program = ProgramSpec(14, {"x": 0, "f": 1}, {"y": 13}, steps=steps, types=types, ranks=(4, 4))
    return Seed("steps on bytes", bytes(compiled.encode(compiled.Compiled(isa.name, ("x", "f"), ("y",), program))), inputs)


def blobs_of(model: onnx.ModelProto) -> list[bytes]:
    """The programs in a model, compiled."""
    options = sparse.session_options({"policy": "always"})
    whole = onnxruntime.ModelCompiler(options, model.SerializeToString(), embed_compiled_data_into_model=True).compile_to_bytes()
    nodes = [node for node in onnx.load_from_string(whole).graph.node if node.op_type == "EPContext"]
    return [attribute.s for node in nodes for attribute in node.attribute if attribute.name == "ep_cache_context"]


# mutations


def taken_apart(blob: bytes) -> tuple[dict, bytes]:
    """The header and what follows it."""
    (size,) = compiled.FRAME.unpack(blob)
    begin, end = compiled.FRAME.head.size, compiled.FRAME.head.size + size
    return json.loads(blob[begin:end]), blob[end + -end % compiled.ALIGNMENT :]


def put_together(header: dict, data: bytes) -> bytes:
    """A blob with a checksum that fits."""
    text = json.dumps(header).encode()
    blob = bytearray(compiled.FRAME.pack(len(text)) + text)
    if data:
        blob += bytes(-len(blob) % compiled.ALIGNMENT) + data
    return signed(blob)


def signed(blob: bytes | bytearray) -> bytes:
    """With a checksum that fits."""
    blob = bytearray(blob)
    if len(blob) >= compiled.FRAME.head.size:
        compiled.FRAME.sign(blob)
    return bytes(blob)


def places(tree: object) -> list[tuple[object, object]]:
    """Every (container, key) in a tree of JSON."""
    found: list[tuple[object, object]] = []
    stack = [tree]
    while stack:
        top = stack.pop()
        members = top.items() if isinstance(top, dict) else enumerate(top) if isinstance(top, list) else ()
        for key, member in members:
            found.append((top, key))
            stack.append(member)
    return found


def mutations(seed: int, programs: tuple[Seed, ...]) -> Iterator[tuple[Seed, bytes]]:
    """Endlessly, the same ones for the same `seed`."""
    chance = random.Random(seed)
    parts = [taken_apart(program.blob) for program in programs]
    while True:
        i = chance.randrange(len(programs))
        header, data = parts[i]
        if chance.random() < 0.1:
            yield programs[i], _bytes(chance, programs[i].blob)
            continue
        header = copy.deepcopy(header)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            if chance.random() < 0.2:
                data = _flipped(chance, data)
            else:
                _tree(chance, header)
        yield programs[i], put_together(header, data)


def _bytes(chance: random.Random, blob: bytes) -> bytes:
    kind, place = chance.randrange(5), chance.randrange(len(blob))
    if kind == 0:
        return blob[:place]
    if kind == 1:
        return blob[:place] + chance.randbytes(chance.randrange(1, 100)) + blob[place:]
    if kind == 2:
        return signed(blob[:place])
    flipped = bytearray(blob)
    for _ in range(chance.randrange(1, 4)):
        flipped[chance.randrange(min(len(blob), 4096) if kind == 3 else len(blob))] ^= 1 << chance.randrange(8)
    return signed(flipped) if kind == 3 else bytes(flipped)


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] = chance.choice((0, 1, 2, 31, 127, 128, 255, chance.randrange(256)))
    return bytes(changed)


def _tree(chance: random.Random, header: dict) -> None:
    """Change one member of the header, unless changes before have left none."""
    if not (members := places(header)):
        return
    container, key = chance.choice(members)
    kind = chance.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = copy.deepcopy(chance.choice(ODD))
    elif kind == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif kind == 3:
        other, other_key = chance.choice(places(header))
        other[other_key] = copy.deepcopy(container[key])
    elif isinstance(container[key], int) and kind < 6:
        container[key] += chance.choice((-2, -1, 1, 2, 8, 32))
    else:
        container[key] = chance.choice(NUMBERS)


# what may happen


def outcome(seed: Seed, blob: bytes, run: bool, folder: Path | None = None) -> str:
    """`refused`, `accepted`, `failed` or `ran`. Any other exception than those that are meant leaves this function.

    With a `folder` the bytes are mapped from a file there, which is gone before the program runs.
    """
    try:
        found = compiled.decode(blob if folder is None else mapped(blob, folder))
    except ValueError:
        return "refused"
    if not run or not small(taken_apart(blob)[0]):
        return "accepted"
    isa = isa_named(kernels.available_isas()[0])
    try:
        # steps run in bands where they can, sometimes for several workers, and images are smaller now and then
        tables = {"byte_table": kernels.byte_table(isa.name), "far_floats": 0}
        program = Program(compiled.for_isa(found, isa), kernels.table(isa.name), 1 + len(blob) % 3, **tables)
        arrays = [seed.inputs.get(name, np.zeros(1, np.float32)) for name in found.program.inputs]
        program.run(*[array[..., : max(1, array.shape[-1] - len(blob) % 4)] if array.ndim == 4 else array for array in arrays])
    except (ValueError, RuntimeError):
        return "failed"
    return "ran"


def mapped(blob: bytes, folder: Path) -> memoryview:
    """The bytes in a file that is mapped and deleted."""
    file = folder / "program.bin"
    file.write_bytes(blob)
    try:
        return memoryview(MappedFile(file))
    finally:
        file.unlink()


def small(header: dict) -> bool:
    """Whether running a program takes no time worth mentioning."""
    return all(abs(c[k]) <= LARGEST_RUN for c, k in places(header["compiled"]) if type(c[k]) in (int, float) and np.isfinite(c[k]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=float, default=0.1, help="the share of accepted programs that is run")
    parser.add_argument("--mapped", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    chance, counts, start = random.Random(arguments.seed), Counter(), time.perf_counter()
    for i, (seed, blob) in enumerate(mutations(arguments.seed, seeds())):
        if i == arguments.count:
            break
        try:
            counts[outcome(seed, blob, chance.random() < arguments.run, arguments.mapped)] += 1
        except BaseException:
            print(f"mutation {i} of seed {arguments.seed}, {seed.name}", flush=True)
            raise
    print(f"{arguments.count} programs in {time.perf_counter() - start:.0f} s: {dict(counts)}")


if __name__ == "__main__":
    main()
