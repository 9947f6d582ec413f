"""A graph under construction whose activations will stay near unit size.

Weights are random and then pruned, so nothing would hold activations through fifty layers. Every convolution is therefore followed by a
BatchNormalization whose statistics are measured, after masking, in one run over random images: ONNX Runtime's CPU provider has the
training mode of that operator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .inputs import IMAGE, inputs_for
from .masks import mask

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
EPSILON = 1e-5
PIXELS = 4 * IMAGE**2
"""Pixels of the images over which statistics are measured, and at most MEASURED of them."""
MEASURED = 64


class Network:
    """Nodes and weights of one model. Methods add nodes and return the name of their output; `name` is the scope, as exporters write it.

    `channels` knows the size of axis 1 of values. `weights`, if given, are what `parameter` takes in place of its values.
    """

    def __init__(
        self,
        name: str,
        sparsity: float,
        pattern: str = "unstructured",
        seed: int = 0,
        *,
        fold_batchnorm: bool = False,
        weights: Mapping[str, NDArray] | None = None,
    ) -> None:
        self.name, self.sparsity, self.pattern, self.fold_batchnorm = name, sparsity, pattern, fold_batchnorm
        self.weights = weights
        self.rng = np.random.default_rng(seed)
        self.channels: dict[str, int] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._scaled: set[str] = set()  # BatchNormalizations that only bring what a Gemm computes to unit size

    # --- graph

    def input(self, name: str, shape: Sequence[int | str], dtype: str = "FLOAT") -> str:
        """Add a graph input."""
        self.inputs.append(_value_info(name, shape, dtype))
        if len(shape) > 1 and isinstance(shape[1], int):
            self.channels[name] = shape[1]
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Make the value `name` a float output of the graph."""
        self.outputs.append(_value_info(name, shape, "FLOAT"))

    def node(self, op_type: str, inputs: Sequence[str], name: str, *, channels: int | None = None, **attributes: Any) -> str:
        """Add a node with one output, whose channels are those of the first input unless given."""
        from onnx import helper

        scope = f"/{name.replace('.', '/')}/{op_type}"
        output = f"{scope}_output_0"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=scope, **attributes))
        self.channels[output] = channels or self.channels.get(inputs[0], 0)
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add an initializer; a name stands for one value."""
        self.constants.setdefault(name, np.asarray(value, dtype))
        return name

    def parameter(self, name: str, value: NDArray) -> str:
        """Add a learnt initializer: `value`, or the given weight of that name. ValueError if given weights lack it or its shape differs."""
        if self.weights is None:
            return self.constant(name, value)
        if name not in self.weights:
            raise ValueError(f"the weights lack {name}")
        if self.weights[name].shape != value.shape:
            raise ValueError(f"{name} has the shape {self.weights[name].shape}, not {value.shape}")
        return self.constant(name, self.weights[name])

    def model(self) -> onnx.ModelProto:
        """Return the finished model. ValueError if weights were given that it does not use."""
        if unused := (self.weights or {}).keys() - self.constants.keys():
            raise ValueError(f"nothing uses {', '.join(sorted(unused))}")
        normalised = [node for node in self.nodes if node.op_type == "BatchNormalization"]
        if normalised:
            self._settle(normalised)
        return self._model(self.nodes, self.outputs)

    def _model(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        from onnx import helper, numpy_helper

        initializers = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(nodes, self.name, self.inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="onnxruntime-ep-sparse")

    # --- statistics

    def _settle(self, normalised: Sequence[onnx.NodeProto]) -> None:
        """Give every BatchNormalization the statistics of random images, then fold what is to be."""
        for node, (mean__c, measured__c) in zip(normalised, self._measured(normalised), strict=True):
            _, gamma, beta, running_mean, running_var = node.input
            alive = measured__c > 0  # an output without weights is constant
            variance__c = np.where(alive, measured__c, 1)
            if node.name in self._scaled and alive.any():
                variance__c[:] = measured__c[alive].mean()  # over few images one class's variance says little
            self.constants[running_mean], self.constants[running_var] = mean__c, variance__c
            if self.fold_batchnorm or node.name in self._scaled:
                self._fold(node, self.constants[gamma] / np.sqrt(variance__c + EPSILON), self.constants[beta], mean__c)

    def _fold(self, norm: onnx.NodeProto, scale__c: NDArray, beta__c: NDArray, mean__c: NDArray) -> None:
        """Move a BatchNormalization into the weight and bias of the product before it."""
        product = next(n for n in self.nodes if n.output[0] == norm.input[0])
        weight, bias = product.input[1], f"{product.input[1].removesuffix('weight')}bias"
        self.constants[weight] = self.constants[weight] * scale__c.reshape(-1, *[1] * (self.constants[weight].ndim - 1))
        self.constants[bias] = beta__c - mean__c * scale__c
        product.input.append(bias)
        self.nodes.remove(norm)
        for parameter in norm.input[1:]:
            del self.constants[parameter]
        for node in self.nodes:
            node.input[:] = [product.output[0] if name == norm.output[0] else name for name in node.input]
        for value in self.outputs:
            value.name = product.output[0] if value.name == norm.output[0] else value.name

    def _measured(self, normalised: Sequence[onnx.NodeProto]) -> list[list[NDArray]]:
        """Mean and variance (C,) float32 of what each of these nodes gets, over random images."""
        import onnxruntime
        from onnx import NodeProto, helper

        draft, statistics = [], []
        for node in self.nodes:
            copy = NodeProto()
            copy.CopyFrom(node)
            if node.op_type == "BatchNormalization":
                copy.output.extend([f"{node.name}_mean", f"{node.name}_var"])
                copy.attribute.extend([helper.make_attribute("training_mode", 1), helper.make_attribute("momentum", 0.0)])
                statistics += [_value_info(name, [self.channels[node.output[0]]], "FLOAT") for name in copy.output[1:]]
            draft.append(copy)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        model = self._model(draft, statistics).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (images,) = session.get_inputs()
        size = [d if isinstance(d, int) else IMAGE // 2 // 16 * 16 for d in images.shape[1:]]
        batch = min(MEASURED, max(2, PIXELS // math.prod(size[1:])))
        values = session.run(None, inputs_for(session, shapes={images.name: (batch, *size)}))
        return [values[i : i + 2] for i in range(0, len(values), 2)]

    # --- weights

    def weight(self, shape: tuple[int, ...], *, axis: int = 0, prune: bool = True) -> NDArray[np.float32]:
        """Return a Kaiming-normal weight, pruned; `axis` is that of the outputs."""
        weight = self.rng.standard_normal(shape, np.float32)
        weight *= np.float32(np.sqrt(2 * shape[axis] / weight.size))
        weight[weight == 0] = 1e-3  # a draw in some millions is 0, and zeros are counted exactly
        return mask(weight, self.sparsity, self.pattern, self.rng, axis=axis) if prune else weight

    def unit_weight(self, shape: tuple[int, ...], *, axis: int = 0, prune: bool = True, gain: float = 1.0) -> NDArray[np.float32]:
        """Return a weight, pruned, whose outputs have standard deviation `gain` if its inputs are standard normal."""
        weight = self.weight(shape, axis=axis, prune=prune)
        norm = np.sqrt(np.sum(weight**2, axis=tuple(i for i in range(weight.ndim) if i != axis), keepdims=True))
        weight *= gain / np.where(norm > 0, norm, 1)
        return weight

    def bias(self, size: int) -> NDArray[np.float32]:
        """Small biases (size,)."""
        return np.float32(0.1) * self.rng.standard_normal(size, np.float32)

    # --- layers

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: int | Sequence[int],
        name: str,
        *,
        rank: int = 2,
        stride: int | Sequence[int] = 1,
        dilation: int = 1,
        pad: int | None = None,
        groups: int = 1,
        prune: bool = True,
        batchnorm: bool = True,
        gain: float = 1.0,
    ) -> str:
        """Add a convolution of `rank` axes, of the same size along all unless given for each, and BatchNormalization to standard deviation
        `gain`; without it a bias, and `gain` is that of `unit_weight`. It is padded by half of the window, unless `pad` says otherwise.
        Grouped ones are not pruned."""
        kernels, strides = ([size] * rank if isinstance(size, int) else list(size) for size in (kernel, stride))
        shape = (outputs, self.channels[x] // groups, *kernels)
        pruned = prune and groups == 1
        weight = self.weight(shape, prune=pruned) if batchnorm else self.unit_weight(shape, prune=pruned, gain=gain)
        operands = [x, self.constant(f"{name}.weight", weight)]
        if not batchnorm:
            operands.append(self.constant(f"{name}.bias", self.bias(outputs)))
        attributes = {
            "dilations": [dilation] * rank,
            "group": groups,
            "kernel_shape": kernels,
            "pads": [size // 2 * dilation if pad is None else pad for size in kernels] * 2,
            "strides": strides,
        }
        y = self.node("Conv", operands, name, channels=outputs, **attributes)
        return self._normalise(y, name, gain) if batchnorm else y

    def classifier(self, x: str, classes: int, name: str) -> str:
        """Global average pooling and a Gemm, (N, classes)."""
        return self.gemm(self.node("Flatten", [self.node("GlobalAveragePool", [x], name)], name), classes, name)

    def gemm(self, x: str, outputs: int, name: str) -> str:
        """Add a Gemm whose results differ from image to image by about unit size, (N, outputs)."""
        weight = self.weight((outputs, self.channels[x]))
        y = self.node("Gemm", [x, self.constant(f"{name}.weight", weight)], name, channels=outputs, transB=1)
        y = self._normalise(y, name)
        self._scaled.add(self.nodes[-1].name)
        return y

    def linear(self, x: str, inputs: int, outputs: int, name: str, *, gain: float = 1.0) -> str:
        """MatMul and Add along the last axis; the weight is (inputs, outputs)."""
        weight = self.parameter(f"{name}.weight", self.unit_weight((inputs, outputs), axis=1, gain=gain))
        y = self.node("MatMul", [x, weight], name)
        return self.node("Add", [self.parameter(f"{name}.bias", self.bias(outputs)), y], name)

    def layer_norm(self, x: str, size: int, name: str, *, epsilon: float) -> str:
        """LayerNormalization along the last axis, of `size` elements."""
        scale = self.parameter(f"{name}.weight", self.rng.uniform(0.8, 1.2, size))
        bias = self.parameter(f"{name}.bias", self.bias(size))
        return self.node("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=epsilon)

    def gelu(self, x: str, name: str) -> str:
        """x * (erf(x / sqrt(2)) + 1) / 2, node by node."""
        y = self.node("Erf", [self.node("Div", [x, self.constant("sqrt2", np.sqrt(2))], name)], name)
        y = self.node("Mul", [x, self.node("Add", [y, self.constant("one", 1)], name)], name)
        return self.node("Mul", [y, self.constant("half", 0.5)], f"{name}.half")

    def _normalise(self, x: str, name: str, gain: float = 1.0) -> str:
        channels = self.channels[x]
        values = {
            "weight": gain * self.rng.uniform(0.8, 1.2, channels),
            "bias": self.bias(channels),
            "running_mean": np.zeros(channels),
            "running_var": np.ones(channels),
        }
        norm = name.replace("conv", "bn") if "conv" in name else f"{name}.bn"
        parameters = [self.constant(f"{norm}.{key}", value) for key, value in values.items()]
        return self.node("BatchNormalization", [x, *parameters], norm, epsilon=EPSILON)

    def relu6(self, x: str, name: str) -> str:
        """min(max(x, 0), 6), as a Clip."""
        return self.node("Clip", [x, self.constant("zero", 0), self.constant("six", 6)], name)

    def silu(self, x: str, name: str) -> str:
        """x * Sigmoid(x): two nodes, as exporters write it."""
        return self.node("Mul", [x, self.node("Sigmoid", [x], name)], name)

    def upsample(self, x: str, name: str) -> str:
        """Twice the height and width, nearest neighbour."""
        scales = self.constant("upsample.scales", [1, 1, 2, 2])
        return self.node("Resize", [x, "", scales], name, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _value_info(name: str, shape: Sequence[int | str], dtype: str) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.DataType.Value(dtype), shape)
