"""What quantised operators compute, in exact integers and one float32 multiplication; and small quantised models."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.graph.ir import Graph, Node, Value
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.passes.quantized import read_quantized
from onnxruntime_ep_sparse.program.serialize import Compiled, decode, encode
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.kernel_sets import byte_table_of, table_of

TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8, np.dtype(np.float32): TensorProto.FLOAT}
F32 = np.float32
ELEMENTS = {
    np.dtype(name): number
    for name, number in (("float32", 1), ("uint8", 2), ("int8", 3), ("int32", 6), ("uint16", 4), ("int16", 5), ("float16", 10))
}
"""ONNX's numbers of element types."""


def along(array, axis, rank):
    """Numbers along an axis, so that they broadcast; one number as it is."""
    array = np.asarray(array)
    return array.reshape([-1 if i == axis % rank else 1 for i in range(rank)]) if array.size > 1 else array.reshape(())


def saturated(values, dtype):
    """Integers of a type, the nearest that it has."""
    info = np.iinfo(dtype)
    return np.clip(values, info.min, info.max).astype(dtype)


def requantized(sums, scale, zero, dtype):
    """Sums (int64) times a float32 scale, clamped, half to even, plus the zero point."""
    info = np.iinfo(dtype)
    scaled = sums.astype(np.int32).astype(F32) * np.asarray(scale, F32)
    limited = np.minimum(np.maximum(scaled, F32(info.min - int(zero))), F32(info.max - int(zero)))
    return (np.rint(limited).astype(np.int64) + int(zero)).astype(dtype)


def quantize(values, scale, zero, dtype):
    """QuantizeLinear per tensor."""
    with np.errstate(all="ignore"):
        return saturated(np.rint(values.astype(F32) / F32(scale)).astype(np.int64) + int(zero), dtype)


def conv_sums(x, weight, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), group=1):
    """Sums of a convolution of integers, from which zero points have been taken: int64."""
    x = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    n, channels = x.shape[:2]
    m, each, *kernel = weight.shape
    size = [(d - (k - 1) * e - 1) // s + 1 for d, k, e, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)]
    weight = weight.astype(np.int64).reshape(group, m // group, each, *kernel)
    x = x.reshape(n, group, channels // group, *x.shape[2:])
    sums = np.zeros((n, group, m // group, *size), np.int64)
    for tap in np.ndindex(*kernel):
        rows, columns = (slice(t * e, t * e + (d - 1) * s + 1, s) for t, e, d, s in zip(tap, dilations, size, strides, strict=True))
        sums += np.einsum("gmc,ngcyx->ngmyx", weight[(..., *tap)], x[..., rows, columns])
    return sums.reshape(n, m, *size)


def qlinear_conv(x, xs, xz, w, ws, wz, ys, yz, b=None, **attributes):
    """QLinearConv."""
    sums = conv_sums(x.astype(np.int64) - int(xz), w.astype(np.int64) - along(wz, 0, w.ndim).astype(np.int64), **attributes)
    if b is not None:
        sums = sums + along(b, 1, 4).astype(np.int64)
    return requantized(sums, along(F32(xs) * np.asarray(ws, F32) / F32(ys), 1, 4), yz, np.asarray(yz).dtype)


def qlinear_matmul(a, sa, za, b, sb, zb, ys, yz):
    """QLinearMatMul with the weight on the right."""
    sums = (a.astype(np.int64) - int(za)) @ (b.astype(np.int64) - along(zb, -1, b.ndim).astype(np.int64))
    return requantized(sums, F32(sa) * np.asarray(sb, F32) / F32(ys), yz, np.asarray(yz).dtype)


def qlinear_add(a, sa, za, b, sb, zb, ys, yz):
    """QLinearAdd: ONNX Runtime's two fused multiply-adds."""
    dtype = np.asarray(yz).dtype
    ra, rb = F32(sa) / F32(ys), F32(sb) / F32(ys)

    def fma(x, y, z):
        return (np.asarray(x, np.float64) * np.float64(y) + np.asarray(z, np.float64)).astype(F32)

    shift = F32(int(yz)) - fma(F32(int(za)), ra, F32(rb * F32(int(zb))))
    return saturated(np.rint(fma(a, ra, fma(b, rb, shift))).astype(np.int64), dtype)


def model(nodes, inputs, outputs, constants, opset=17, domains=("com.microsoft",)):
    """A model; `inputs` map names to (dtype, shape), `outputs` names to element types of numpy."""
    infos = [helper.make_tensor_value_info(name, TYPES[np.dtype(dtype)], shape) for name, (dtype, shape) in inputs.items()]
    results = [
        helper.make_tensor_value_info(name, TensorProto.INT32 if dtype == np.int32 else TYPES[np.dtype(dtype)], None)
        for name, dtype in outputs.items()
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    graph = helper.make_graph(nodes, "test", infos, results, tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


# --- random cases


def integers(rng, dtype, shape):
    """Activations over the whole range of a type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def scales(rng, count=None):
    """One positive scale, or so many."""
    return np.exp(rng.uniform(-6, 0, count)).astype(F32)


def zero_of(rng, dtype):
    """A zero point: often the usual ones, else any."""
    info = np.iinfo(dtype)
    usual = (0, info.min, 128 if dtype == np.uint8 else 0, info.max)
    return int(usual[rng.integers(4)]) if rng.random() < 0.5 else int(rng.integers(info.min, info.max + 1))


def weights(rng, dtype, shape, m, axis):
    """Weights with many that equal their zero point, that zero point, and whether each output has its own."""
    info = np.iinfo(dtype)
    apart = rng.random() < 0.4
    zero = np.array([zero_of(rng, dtype) for _ in range(m if apart else 1)])
    if rng.random() < 0.5:
        zero[:] = 128 if dtype == np.uint8 else 0
    values = integers(rng, dtype, shape).astype(np.int64)
    if rng.random() < 0.3:
        values = rng.choice([info.min, info.max], shape)
    kept = rng.random(shape) < rng.choice([0.0, 0.05, 0.2, 0.5, 1.0])
    values = np.where(kept, values, np.broadcast_to(along(zero, axis, len(shape)), shape))
    return values.astype(dtype), zero.astype(dtype) if apart else dtype(zero[0])


def random_case(seed):
    """(nodes, inputs, element types of outputs, constants, feeds, expected) of one operator or chain; a function of the number."""
    rng = np.random.default_rng(seed)
    kind = ("conv", "conv", "conv", "matmul", "gemm", "add", "chain", "qdq", "integer")[rng.integers(9)]
    x_type, y_type = (np.dtype((np.uint8, np.int8)[rng.integers(2)]).type for _ in range(2))
    if kind in ("conv", "qdq", "gemm", "matmul", "add"):
        y_type = x_type
    w_type = np.dtype((np.uint8, np.int8)[rng.integers(2)]).type
    xs, ys, xz, yz = scales(rng), scales(rng), x_type(zero_of(rng, x_type)), y_type(zero_of(rng, y_type))
    named = {"xs": xs, "xz": xz, "ys": ys, "yz": yz}
    if kind == "add":
        shape = tuple(rng.integers(1, 6, rng.integers(1, 5)))
        other = tuple(d if rng.random() < 0.7 else 1 for d in shape)[int(rng.integers(len(shape))) :] if rng.random() < 0.4 else shape
        a, b = integers(rng, x_type, shape), integers(rng, x_type, other)
        bs, bz = scales(rng), x_type(zero_of(rng, x_type))
        node = helper.make_node("QLinearAdd", ["x", "xs", "xz", "b", "bs", "bz", "ys", "yz"], ["y"], domain="com.microsoft")
        expected = qlinear_add(a, xs, xz, b, bs, bz, ys, yz)
        inputs = {"x": (x_type, shape), "b": (x_type, other)}
        return [node], inputs, {"y": y_type}, {**named, "bs": bs, "bz": bz}, {"x": a, "b": b}, expected
    if kind in ("matmul", "gemm"):
        rows, depth, m = (int(rng.integers(1, n)) for n in (40, 130, 40))
        w, wz = weights(rng, w_type, (depth, m), m, 1)
        ws = scales(rng, m) if rng.random() < 0.6 or np.ndim(wz) else scales(rng)
        x = integers(rng, x_type, (rows, depth))
        constants = {**named, "w": w, "ws": ws, "wz": wz}
        expected = qlinear_matmul(x, xs, xz, w, ws, wz, ys, yz)
        names = ["x", "xs", "xz", "w", "ws", "wz"]
        if kind == "gemm":
            b = rng.integers(-5000, 5000, m).astype(np.int32)
            sums = (x.astype(np.int64) - int(xz)) @ (w.astype(np.int64) - along(wz, 1, 2).astype(np.int64)) + b
            expected = requantized(sums, along(F32(xs) * np.asarray(ws, F32) / F32(ys), 1, 2), yz, y_type)
            node = helper.make_node("QGemm", [*names, "bias", "ys", "yz"], ["y"], domain="com.microsoft")
            constants["bias"] = b
        else:
            node = helper.make_node("QLinearMatMul", [*names, "ys", "yz"], ["y"])
        return [node], {"x": (x_type, x.shape)}, {"y": y_type}, constants, {"x": x}, expected
    group = int(rng.choice([1, 1, 1, 2, 4]))
    each, per = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    if group == 4 and rng.random() < 0.5:
        each = 1
    k = [int(rng.integers(1, 4)) for _ in range(2)]
    attributes = {
        "strides": [int(rng.integers(1, 3)) for _ in range(2)],
        "pads": [int(rng.integers(0, 3)) for _ in range(4)],
        "dilations": [int(rng.integers(1, 3)) for _ in range(2)],
        "group": group,
    }
    shape = (int(rng.integers(1, 3)), group * each, *(int(rng.integers(5, 24)) for _ in range(2)))
    m = group * per
    w, wz = weights(rng, w_type, (m, each, *k), m, 0)
    ws = scales(rng, m) if rng.random() < 0.6 or np.ndim(wz) else scales(rng)
    x, b = integers(rng, x_type, shape), rng.integers(-5000, 5000, m).astype(np.int32)
    inputs, feeds = {"x": (x_type, shape)}, {"x": x}
    constants = {**named, "w": w, "ws": ws, "wz": wz, "bias": b}
    sums = conv_sums(x.astype(np.int64) - int(xz), w.astype(np.int64) - along(wz, 0, 4).astype(np.int64), **attributes)
    with_bias = sums + b.reshape(-1, 1, 1)
    scale = along(F32(xs) * np.asarray(ws, F32) / F32(ys), 1, 4)
    if kind == "integer":
        node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], **attributes)
        used = {name: constants[name] for name in ("w", "xz", "wz")}
        return [node], inputs, {"y": np.int32}, used, feeds, sums.astype(np.int32)
    if kind == "conv":
        node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"], ["y"], **attributes)
        return [node], inputs, {"y": y_type}, constants, feeds, requantized(with_bias, scale, yz, y_type)
    if kind == "qdq":
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
            helper.make_node("DequantizeLinear", ["bias", "bs"], ["bf"], axis=0),
            helper.make_node("Conv", ["xf", "wf", "bf"], ["c"], **attributes),
            helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["y"]),
        ]
        if not np.ndim(wz):
            constants["wz"] = np.full(ws.shape, wz, w_type)
        return nodes, inputs, {"y": y_type}, {**constants, "bs": F32(xs) * ws}, feeds, requantized(with_bias, scale, yz, y_type)
    # as SparseML writes it: the scale is multiplied with, and the result is divided by its own
    factor = (F32(xs) * np.asarray(ws, F32)).reshape(-1, 1, 1)
    relu = rng.random() < 0.5
    if relu:
        named["yz"] = yz = y_type(np.iinfo(y_type).min)
    nodes = [
        helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["i"], **attributes),
        helper.make_node("Add", ["i", "bias"], ["a"]),
        helper.make_node("Cast", ["a"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["c", "factor"], ["s"]),
        *([helper.make_node("Relu", ["s"], ["r"])] if relu else []),
        helper.make_node("QuantizeLinear", ["r" if relu else "s", "ys", "yz"], ["y"]),
    ]
    floats = with_bias.astype(np.int32).astype(F32) * factor
    used = {name: constants[name] for name in ("w", "xz", "wz", "ys")} | {"yz": yz, "bias": b.reshape(-1, 1, 1), "factor": factor}
    return nodes, inputs, {"y": y_type}, used, feeds, quantize(np.maximum(floats, 0) if relu else floats, ys, yz, y_type)


def graph_of(case):
    """The graph of a case, as the provider reads it."""
    nodes, inputs, outputs, constants, _, expected = case
    element = ELEMENTS
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    values = {name: Value(name, element[array.dtype], array.shape) for name, array in arrays.items()}
    values |= {name: Value(name, element[np.dtype(dtype)], tuple(map(int, shape))) for name, (dtype, shape) in inputs.items()}
    made = []
    for i, node in enumerate(nodes):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
        made.append(Node(i, f"n{i}", node.op_type, node.domain, 17, tuple(node.input), tuple(node.output), attributes))
        for name in node.output:
            inner = np.int32 if node.op_type in ("ConvInteger", "MatMulInteger", "Add") and name not in outputs else np.float32
            dtype = outputs.get(name, inner)
            shape = arrays[node.input[0]].shape if node.input[0] in arrays else (None,) * expected.ndim
            values[name] = Value(name, element[np.dtype(dtype)], shape)
    return Graph(tuple(made), values, frozenset(arrays), arrays.__getitem__, tuple(inputs), tuple(outputs))


def reasons_of(case):
    """Why the nodes of a case cannot run."""
    graph = read_quantized(graph_of(case))
    found = (ops.can_run(graph, node) for node in graph.nodes)
    return [finding for finding in found if finding is not None]


def run(case, row, workers=1):
    """The result of a case on a set of kernels for bytes, in a program that has been written and read; or why it cannot run, as a code."""
    for finding in reasons_of(case):
        return finding.code
    spec = pipeline.lower_to_spec(graph_of(case), row.isa)
    if row.isa in ISAS:  # not emulated
        spec = decode(encode(Compiled(row.isa.name, tuple(spec.inputs), tuple(spec.outputs), spec))).program
    program = Program(spec, table_of(row.isa), workers, byte_table=byte_table_of(row))
    (y,) = program.run(*(case[4][name] for name in program.input_names))
    return y
