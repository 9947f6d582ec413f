"""A small net of images with all that is quantised, and its files as `onnxruntime.quantization` writes them."""

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from support.making import model_of, noise, pruned

EXACT = {"session.x64quantprecision": "1"}
"""ONNX Runtime's own products of uint8 activations saturate without it, on some CPUs."""
SHAPE = (1, 3, 32, 32)


class Net:
    """Nodes and weights of a small image net."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights = [], {}

    def node(self, op_type, inputs, output, **attributes):
        """Add a node."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x, y, c, m, kernel, stride=1, group=1, act="Relu"):
        """Add a convolution, pruned unless it is depthwise, and an activation."""
        weight = pruned(self.rng, (m, c // group, kernel, kernel), 0.8 if group == 1 else 0.0) * np.float32(
            (c // group * kernel**2) ** -0.5
        )
        self.weights |= {f"{y}_w": weight.astype(np.float32), f"{y}_b": 0.1 * noise(self.rng, m)}
        last = y if act is None else f"{y}_conv"
        self.node("Conv", [x, f"{y}_w", f"{y}_b"], last, pads=[kernel // 2] * 4, strides=[stride] * 2, group=group)
        if act == "silu":
            self.node("Mul", [last, self.node("Sigmoid", [last], f"{y}_gate")], y)
        elif act is not None:
            self.node(act, [last], y)
        return y


def image_net():
    """Residuals, depthwise, SiLU, Concat, Resize, pools and a classifier."""
    net = Net()
    x = net.node("MaxPool", [net.conv("x", "first", 3, 16, 3, 2)], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    b = net.conv(net.conv(x, "b", 16, 16, 3), "c", 16, 16, 1, act=None)
    x = net.node("Relu", [net.node("Add", [b, x], "sum")], "residual")
    left = net.conv(net.conv(x, "d", 16, 16, 3, group=16, act="silu"), "e", 16, 24, 1, 2, act="HardSwish")
    x = net.node("Concat", [left, net.conv(x, "f", 16, 16, 1, 2)], "joined", axis=1)
    net.weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x = net.conv(net.node("Resize", [x, "", "scales"], "wide", **how), "g", 40, 32, 1)
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "mean")], "flat")
    net.weights |= {"classes_w": pruned(net.rng, (10, 32), 0.5), "classes_b": np.zeros(10, np.float32)}
    net.node("Gemm", [x, "classes_w", "classes_b"], "y", transB=1)
    return onnx.shape_inference.infer_shapes(model_of(net.nodes, {"x": SHAPE}, {"y": [1, 10]}, net.weights, opset=17))


class Reader(CalibrationDataReader):
    """Some random images."""

    def __init__(self):
        rng = np.random.default_rng(5)
        self.feeds = iter([{"x": noise(rng, *SHAPE)} for _ in range(3)])

    def get_next(self):
        """Return the next one."""
        return next(self.feeds, None)


KINDS = {
    "QDQ uint8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "per_channel": True},
    "QDQ int8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QInt8},
    "QOperator uint8": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8, "per_channel": True},
    "QOperator int8": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8},
    "uint8 weights": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "dynamic": None,
}


def quantise(source, target, kind):
    """Write a quantised file of a kind."""
    options = KINDS[kind]
    if options is None:
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    else:
        quantize_static(source, target, Reader(), **{"weight_type": QuantType.QInt8, **options})
