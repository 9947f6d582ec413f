"""Measure ONNX Runtime's INT8 kernels, for `ops/quantized_costs.py`.

    python tests/benchmarks/int8_rates.py THREADS

Single nodes run with the CPU provider. Rates of products are fitted by least squares of relative errors, none negative; the others are
nanoseconds per element. Each line has what was measured: sizes, microseconds and multiply-adds a nanosecond. The machine must do nothing
else. An instruction set is that of the ONNX Runtime that runs this, as for `calibrate.py`.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.float32: TensorProto.FLOAT}
F32 = np.float32
CONVOLUTIONS = (
    *((64, 64, 56, 1, 1), (64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (64, 64, 56, 3, 1), (128, 128, 28, 3, 1)),
    *((256, 512, 28, 1, 2), (256, 256, 14, 3, 1), (1024, 256, 14, 1, 1), (512, 512, 7, 3, 1), (512, 2048, 7, 1, 1)),
)
"""Channels, outputs, size of the image, kernel, stride: ResNet-50's."""
MATRICES = ((128, 768, 768), (128, 768, 3072), (128, 3072, 768), (32, 768, 768), (1, 2048, 1000), (1, 768, 3072), (8, 1024, 1024))
"""Rows, depth, outputs."""
DEPTHWISE = ((32, 112, 1), (96, 112, 2), (144, 56, 1), (384, 14, 1), (960, 7, 1))
"""Channels, size of the image, stride: MobileNetV2's."""
LEAST_S = 0.12
"""Seconds that a node is run for, at least."""


def nanoseconds(threads, node, inputs, output, constants):
    """The median of the times of a node; `inputs` map names to arrays."""
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_tensor_value_info(name, TYPES[array.dtype.type], array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    spent, end = [], time.perf_counter() + LEAST_S
    while time.perf_counter() < end or len(spent) < 5:
        begin = time.perf_counter()
        session.run(None, inputs)
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent)) * 1e9


def parameters(dtype, outputs):
    """Scales and zero points."""
    return {"s": F32(0.01), "z": dtype(3), "ws": np.full(outputs, 0.01, F32), "wz": np.zeros(outputs, np.int8)}


def convolution(threads, dtype, sizes, *, group=1, loose=False):
    """Nanoseconds of a convolution, and its multiply-adds and bytes."""
    channels, outputs, size, kernel, stride = sizes
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (1, channels, size, size)).astype(dtype)
    constants = {"w": rng.integers(-60, 61, (outputs, channels // group, kernel, kernel)).astype(np.int8), **parameters(dtype, outputs)}
    names = ["x", "w", "z"] if loose else ["x", "s", "z", "w", "ws", "wz", "s", "z"]
    window = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": group}
    node = helper.make_node("ConvInteger" if loose else "QLinearConv", names, ["y"], **window)
    used = {name: constants[name] for name in constants if name in names}
    pixels = ((size + kernel // 2 * 2 - kernel) // stride + 1) ** 2
    spent = nanoseconds(threads, node, {"x": x}, TensorProto.INT32 if loose else TYPES[dtype], used)
    return spent, (pixels * constants["w"].size, x.size + outputs * pixels)


def matrix(threads, dtype, sizes):
    """Nanoseconds of a matrix product, and its multiply-adds, bytes and weights."""
    rows, depth, outputs = sizes
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (rows, depth)).astype(dtype)
    constants = {"w": rng.integers(-60, 61, (depth, outputs)).astype(np.int8), **parameters(dtype, outputs)}
    node = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"])
    spent = nanoseconds(threads, node, {"x": x}, TYPES[dtype], constants)
    return spent, (rows * depth * outputs, rows * (depth + outputs), depth * outputs)


def fitted(name, measured, sizes):
    """Print the rates of a kind of product."""
    shares = np.array([np.divide(work, spent) for spent, work in measured])
    rates, _ = nnls(shares, np.ones(len(measured)))
    each = ", ".join(
        f"{'x'.join(map(str, s))} {spent / 1e3:.1f} us {work[0] / spent:.1f}/ns" for s, (spent, work) in zip(sizes, measured, strict=True)
    )
    print(f"{name}: {' '.join(f'{rate:.4g}' for rate in rates)} ({each})", flush=True)


def elementwise(threads, count):
    """Print nanoseconds per element of operators without weights."""
    rng = np.random.default_rng(0)
    floats, whole = rng.standard_normal(count).astype(F32), rng.integers(0, 256, count).astype(np.uint8)
    given, two = {"s": F32(0.1), "z": np.uint8(3)}, {"s": F32(0.1), "z": np.uint8(3), "t": F32(0.2)}
    kinds = {
        "QuantizeLinear": (helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), {"x": floats}, TensorProto.UINT8, given),
        "DequantizeLinear": (helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"]), {"x": whole}, TensorProto.FLOAT, given),
        "QLinearAdd": (
            helper.make_node("QLinearAdd", ["x", "s", "z", "b", "s", "z", "t", "z"], ["y"], domain="com.microsoft"),
            {"x": whole, "b": whole},
            TensorProto.UINT8,
            two,
        ),
        "QLinearSigmoid": (
            helper.make_node("QLinearSigmoid", ["x", "s", "z", "t", "z"], ["y"], domain="com.microsoft"),
            {"x": whole},
            TensorProto.UINT8,
            two,
        ),
    }
    each = (f"{name} {nanoseconds(threads, *arguments) / count:.4g}" for name, arguments in kinds.items())
    print(f"{count} elements: {', '.join(each)}", flush=True)


def main():
    """Run the command."""
    threads = int(sys.argv[1])
    for dtype in (np.uint8, np.int8):
        name = np.dtype(dtype).name
        fitted(f"QLinearConv {name}", [convolution(threads, dtype, sizes) for sizes in CONVOLUTIONS], CONVOLUTIONS)
        fitted(f"QLinearMatMul {name}", [matrix(threads, dtype, sizes) for sizes in MATRICES], MATRICES)
        windows = [(channels, channels, size, 3, stride) for channels, size, stride in DEPTHWISE]
        fitted(f"depthwise {name}", [convolution(threads, dtype, sizes, group=sizes[0]) for sizes in windows], DEPTHWISE)
    fitted("ConvInteger", [convolution(threads, np.uint8, sizes, loose=True) for sizes in CONVOLUTIONS], CONVOLUTIONS)
    for count in (100_000, 1_000_000):
        elementwise(threads, count)


if __name__ == "__main__":
    main()
