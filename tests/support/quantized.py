"""What quantised operators compute, in exact integers and one float32 multiplication; and small quantised models."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8, np.dtype(np.float32): TensorProto.FLOAT}
F32 = np.float32


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
        rows, columns = (
            slice(t * e, t * e + (d - 1) * s + 1, s) for t, e, d, s in zip(tap, dilations, size, strides, strict=True)
        )
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
