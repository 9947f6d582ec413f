"""Measure ONNX Runtime's INT8 kernels, for `ops/quantized_costs.py`, and our products on bytes, for `ops/byte_costs.py`.

    python tests/benchmarks/int8_rates.py THREADS [SET]

Single nodes run with the CPU provider; with SET, kernels for bytes that `ort-sparse check` names, with ours and these. Rates of products
are fitted by least squares of relative errors, none negative; the others are nanoseconds per element. Each line has what was measured:
sizes, microseconds and multiply-adds a nanosecond, or how far a rate is from what was measured. The machine must do nothing else. ONNX
Runtime uses the instructions that it finds, as for `calibrate.py`.
"""

from __future__ import annotations

import sys
import time
from itertools import product

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops import byte_costs
from onnxruntime_ep_sparse.ops.costs import OUR_SPLIT, combined, scaled
from onnxruntime_ep_sparse.partition.cost import our_rates
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.float32: TensorProto.FLOAT}
F32 = np.float32
CONVOLUTIONS = (
    *((64, 64, 56, 1, 1), (64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (64, 64, 56, 3, 1), (128, 128, 28, 3, 1)),
    *((256, 512, 28, 1, 2), (256, 256, 14, 3, 1), (1024, 256, 14, 1, 1), (512, 512, 7, 3, 1), (512, 2048, 7, 1, 1)),
)
"""Channels, outputs, size of the image, kernel, stride: ResNet-50's."""
OURS = (*CONVOLUTIONS, (128, 128, 56, 3, 2))
"""Those by which our rates are fitted, and ..."""
FIRST = ((3, 64, 224, 7, 2), (3, 32, 224, 3, 2), (3, 64, 224, 3, 1), (4, 32, 112, 3, 1), (8, 32, 112, 3, 1))
"""... those of few channels: ours of three without zeros, whose columns are zipped."""
MATRICES = ((128, 768, 768), (128, 768, 3072), (128, 3072, 768), (32, 768, 768), (1, 2048, 1000), (1, 768, 3072), (8, 1024, 1024))
"""Rows, depth, outputs."""
DEPTHWISE = ((32, 112, 1), (96, 112, 2), (144, 56, 1), (384, 14, 1), (960, 7, 1))
"""Channels, size of the image, stride: MobileNetV2's."""
LEAST_S = 0.12
"""Seconds that a node is run for, at least."""
BLOCKS = 8
"""Blocks of runs of a step, of which the median counts."""
SPARSITIES = (0.5, 0.7, 0.9, 0.95)
"""Shares of zeros in the weights of our products."""


def model_of(node, inputs, output, constants):
    """A model of one node as bytes; `inputs` map names to arrays."""
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_tensor_value_info(name, TYPES[array.dtype.type], array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def session_of(threads, model, providers):
    """A session with so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=providers)


def nanoseconds(threads, node, inputs, output, constants):
    """The median of the times of a node; `inputs` map names to arrays."""
    session = session_of(threads, model_of(node, inputs, output, constants), ["CPUExecutionProvider"])
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


# --- our products


def step_nanoseconds(threads, row, model, inputs):
    """The median over blocks of runs of the mean time of the product on bytes in our region."""
    choice = {"policy": "always", "isa": row.name, "threads": str(threads), "profile": "1"}
    session = session_of(threads, model, [(sparse.EP_NAME, choice), "CPUExecutionProvider"])

    def step():
        (found,) = (each for each in sparse.step_times(session) if each.kind in ("byte_product", "byte_depthwise"))
        return found

    means, begin = [], time.perf_counter()
    session.run(None, inputs)
    runs = max(1, int(LEAST_S / BLOCKS / (time.perf_counter() - begin)))
    for _ in range(BLOCKS):
        before = step()
        for _ in range(runs):
            session.run(None, inputs)
        after = step().since(before)
        means.append(after.ns / after.runs)
    return float(np.median(means))


def pruned(rng, shape, zeros):
    """Weights with this share of zeros."""
    return np.where(rng.random(shape) < zeros, 0, rng.integers(-60, 61, shape)).astype(np.int8)


def our_convolution(threads, row, sizes, zeros):
    """Nanoseconds of a convolution on bytes, and its work."""
    channels, outputs, size, kernel, stride = sizes
    rng = np.random.default_rng(0)
    x, weight = rng.integers(0, 100, (1, channels, size, size)).astype(np.uint8), pruned(rng, (outputs, channels, kernel, kernel), zeros)
    window = {"pads": [kernel // 2] * 4, "strides": [stride] * 2}
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"], **window)
    model = model_of(node, {"x": x}, TensorProto.UINT8, {"w": weight, **parameters(np.uint8, outputs)})
    spent, after = step_nanoseconds(threads, row, model, {"x": x}), (size + kernel // 2 * 2 - kernel) // stride + 1
    pads = (kernel // 2,) * 2
    shape = Window((kernel,) * 2, (stride,) * 2, (1, 1), pads, pads)
    work = byte_costs.convolution(row.isa, x.shape, weight.shape, (1, outputs, after, after), shape, 1)
    return spent, work, np.count_nonzero(weight) / weight.size


def our_depthwise(threads, row, sizes, zeros):
    """Nanoseconds of a depthwise convolution on bytes, and its work."""
    channels, size, stride = sizes
    rng = np.random.default_rng(0)
    x, weight = rng.integers(0, 100, (1, channels, size, size)).astype(np.uint8), pruned(rng, (channels, 1, 3, 3), zeros)
    node = helper.make_node(
        "QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"], pads=[1] * 4, strides=[stride] * 2, group=channels
    )
    model = model_of(node, {"x": x}, TensorProto.UINT8, {"w": weight, **parameters(np.uint8, channels)})
    spent, after = step_nanoseconds(threads, row, model, {"x": x}), (size - 1) // stride + 1
    work = byte_costs.depthwise(row.isa, x.shape, weight.shape, (1, channels, after, after))
    return spent, (work, {}, 0), 1.0


def our_matrix(threads, row, sizes, zeros):
    """Nanoseconds of a matrix product on bytes, and its work."""
    rows, depth, outputs = sizes
    rng = np.random.default_rng(0)
    x, weight = rng.integers(0, 100, (rows, depth)).astype(np.uint8), pruned(rng, (depth, outputs), zeros)
    node = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"])
    model = model_of(node, {"x": x}, TensorProto.UINT8, {"w": weight, **parameters(np.uint8, outputs)})
    spent = step_nanoseconds(threads, row, model, {"x": x})
    return spent, byte_costs.matrix(row.isa, rows, depth, outputs), np.count_nonzero(weight) / weight.size


def ours(threads, name):
    """Print our rates with a set of kernels for bytes."""
    row = next(row for row in byte_sets_for(ISAS) if row.name == name)
    known = our_rates(row.isa, name)
    fixed = {"step": known["step"][threads - 1], "section": known["section"][threads - 1]}
    kinds = (
        (our_convolution, [*product(OURS, SPARSITIES), *product(FIRST[:3], (0,))]),
        (our_matrix, product([sizes for sizes in MATRICES if sizes[0] > 8], SPARSITIES)),
        (our_depthwise, product(DEPTHWISE, (0,))),
    )
    for measure, cases in kinds:
        rows, found = [], []
        for sizes, zeros in cases:
            spent, (whatever, whole, macs), share = measure(threads, row, sizes, zeros)
            splits = threads > 1 and (macs * share > OUR_SPLIT or measure is our_depthwise)
            amounts = combined({name: amount for name, amount in whatever.items() if name != "step"}, scaled(whole, share))
            rows.append((f"{'x'.join(map(str, sizes))} {zeros}", amounts))
            found.append(max(spent - fixed["step"] - (fixed["section"] if splits else 0), 1))
        names = sorted({name for _, amounts in rows for name in amounts})
        matrix_ = np.array([[amounts.get(name, 0) for name in names] for _, amounts in rows]) / np.array(found)[:, None]
        rates, _ = nnls(matrix_, np.ones(len(rows)))
        print({name: float(f"{rate:.4g}") for name, rate in zip(names, rates, strict=True)}, flush=True)
        for (about, _), spent, ratio in zip(rows, found, matrix_ @ rates, strict=True):
            print(f"  {about}: {spent / 1e3:.1f} us, expected {100 * ratio:.0f} %")


def main():
    """Run the command."""
    threads = int(sys.argv[1])
    if sys.argv[2:]:
        sparse.register()
        ours(threads, sys.argv[2])
        return
    for dtype in (np.uint8, np.int8):
        name = np.dtype(dtype).name
        fitted(f"QLinearConv {name}", [convolution(threads, dtype, sizes) for sizes in CONVOLUTIONS], CONVOLUTIONS)
        for sizes in FIRST:
            spent, (macs, moved) = convolution(threads, dtype, sizes)
            taps = macs // (sizes[0] * sizes[1])
            print(
                f"QLinearConv {name} of few channels, {'x'.join(map(str, sizes))}: {spent / 1e3:.1f} us, {macs=} {moved=} {taps=}",
                flush=True,
            )
        fitted(f"QLinearMatMul {name}", [matrix(threads, dtype, sizes) for sizes in MATRICES], MATRICES)
        windows = [(channels, channels, size, 3, stride) for channels, size, stride in DEPTHWISE]
        fitted(f"depthwise {name}", [convolution(threads, dtype, sizes, group=sizes[0]) for sizes in windows], DEPTHWISE)
    fitted("ConvInteger", [convolution(threads, np.uint8, sizes, loose=True) for sizes in CONVOLUTIONS], CONVOLUTIONS)
    windows = [(channels, channels, size, 3, stride) for channels, size, stride in DEPTHWISE]
    found = [convolution(threads, np.uint8, sizes, group=sizes[0], loose=True) for sizes in windows]
    fitted("depthwise ConvInteger", found, windows)
    for count in (100_000, 1_000_000):
        elementwise(threads, count)


if __name__ == "__main__":
    main()
