"""Random graphs of the operators that may stand in regions: what single-operator tests do not combine, they do.

Each operator is a function of `RandomGraph` that adds nodes behind a value it likes, or does nothing if there is none.
"""

import numpy as np
from onnx import helper

from support.making import model_of, pruned

OPSETS = (11, 13, 17, 18, 20, 22, 24)
OPERATORS = []
MAX_ELEMENTS = {False: 200_000, True: 3_000_000}
MAX_DEPTH = 10_000
"""Of a product: a Reshape leaves dimensions so large that weights of them would be gigabytes."""


def operator(share=1):
    """Registers a function that adds an operator; `share` says how often it comes."""

    def register(function):
        OPERATORS.extend([function] * share)
        return function

    return register


class RandomGraph:
    """A graph that grows from the input `x`, with the shape of every value; `big` ones have many tiles and K blocks."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.big, self.opset = self.chance(0.2), self.choice(*OPSETS)
        self.nodes, self.weights = [], {}
        self.shape = self._input_shape()
        self.values = {"x": self.shape}
        for _ in range(self.integer(2, 14)):
            self.choice(*OPERATORS)(self)
        if not self.nodes:
            activation(self)

    def _input_shape(self):
        n, c, h, w = (self.integer(1, most) for most in ((6, 160, 60, 60) if self.big else (3, 24, 20, 20)))
        shapes = ([n, c, h, w], [n, c, h, w], [n, c, h, w], [n, c, h * 10], [n, h, 2 * c], [h, c * 4], [n, 8, 5, h // 3 + 1, w // 3 + 1])
        return list(shapes[self.integer(0, len(shapes) - 1)])

    def chance(self, share):
        return self.rng.random() < share

    def integer(self, low, high):
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def integers(self, count, low, high):
        return [self.integer(low, high) for _ in range(count)]

    def choice(self, *options):
        return options[self.integer(0, len(options) - 1)]

    def pick(self, ranks=range(1, 9)):
        """A value of one of these ranks, mostly the latest, and its shape; None if there is none."""
        names = [name for name, shape in self.values.items() if len(shape) in ranks]
        if not names:
            return None, None
        name = names[-1] if self.chance(0.7) else self.choice(*names)
        return name, list(self.values[name])

    def weight(self, array):
        name = f"w{len(self.weights)}"
        array = np.asarray(array)
        self.weights[name] = np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float64 else array)
        return name

    def noise(self, *shape):
        return self.weight(self.rng.standard_normal(shape))

    def pruned(self, *shape):
        """A weight whose first axis is the output, scaled so that results stay near 1."""
        pattern = self.choice("unstructured", "unstructured", "unstructured", "blocks", "rows", "columns", "2:4", "dense", "all zero")
        weight = pruned(self.rng, shape, self.choice(0.5, 0.8, 0.9, 0.97), pattern if len(shape) > 1 else "unstructured")
        return weight / np.sqrt(max(1.0, 0.3 * np.prod(shape[1:])))

    def node(self, op, inputs, shape, **attributes):
        """Adds a node of one output and returns that output's name, or None where it would be too large or empty."""
        if min(shape, default=1) < 1 or np.prod(shape) > MAX_ELEMENTS[self.big]:
            return None
        name = f"t{len(self.values)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values[name] = list(shape)
        return name

    def node_of_axes(self, op, x, shape, axes, since, **attributes):
        """A node whose axes are an input from opset `since` on, and an attribute before."""
        if self.opset < since:
            return self.node(op, [x], shape, axes=axes, **attributes)
        return self.node(op, [x, self.weight(np.array(axes, np.int64))], shape, **attributes)

    def above_tail(self, x, shape):
        """The value, or one of at least -2 if it has few elements: Gelu of a lower one is a difference of numbers near 1, and all of few
        may be lower, which leaves no larger result to compare its error with."""
        return self.node("Max", [x, self.weight(np.float32(-2))], shape) if np.prod(shape) < 100 else x

    def model(self):
        """The model, whose outputs are what nothing else reads and sometimes a value within."""
        read = {name for node in self.nodes for name in node.input}
        outputs = [name for node in self.nodes for name in node.output if name not in read]
        if self.nodes and self.chance(0.3):
            outputs.append(self.choice(*(node for node in self.nodes if node.output[0] in self.values)).output[0])
        declared = [f"d{i}" if self.chance(0.3) else size for i, size in enumerate(self.shape)] if self.chance(0.5) else self.shape
        domains = {node.domain for node in self.nodes} - {""}
        return model_of(self.nodes, {"x": declared}, list(dict.fromkeys(outputs)), self.weights, opset=self.opset, domains=domains)


def window(g, spatial, most, dilated):
    """Attributes of a random window and the spatial sizes of the result."""
    rank = len(spatial)
    kernel = g.integers(rank, 1, most) if g.chance(0.5) else [g.integer(1, most)] * rank
    strides = [g.choice(1, 1, 1, 2, 3) for _ in spatial]
    dilations = [g.choice(1, 1, 1, 2) if dilated else 1 for _ in spatial]
    attributes = {"kernel_shape": kernel, "strides": strides, **({"dilations": dilations} if dilated else {})}
    fits = max(dilations) == 1 and all(stride <= k + 1 for stride, k in zip(strides, kernel, strict=True))
    if dilated and g.chance(0.15) and fits:
        attributes["auto_pad"] = g.choice("SAME_UPPER", "SAME_LOWER")
        return attributes, [-(-size // stride) for size, stride in zip(spatial, strides, strict=True)]
    pads = [[g.integer(0, k - 1) for k in kernel] for _ in range(2)]
    attributes["pads"] = pads[0] + pads[1]
    parts = zip(spatial, kernel, strides, dilations, *pads, strict=True)
    return attributes, [
        (size + before + after - (k - 1) * dilation - 1) // stride + 1 for size, k, stride, dilation, before, after in parts
    ]


@operator(share=4)
def convolution(g):
    x, shape = g.pick(range(3, 6))
    if x is None or shape[1] > MAX_DEPTH:
        return
    n, c, *spatial = shape
    groups = g.choice(1, 1, 1, c, *(k for k in range(1, c + 1) if c % k == 0))
    m = groups * (g.choice(1, 1, 1, 2) if groups == c else g.integer(1, max(1, (300 if g.big else 40) // groups)))
    attributes, out = window(g, spatial, 5, dilated=True)
    inputs = [x, g.weight(g.pruned(m, c // groups, *attributes["kernel_shape"])), *([g.noise(m)] if g.chance(0.6) else [])]
    g.node("Conv", inputs, [n, m, *out], group=groups, **attributes)


@operator()
def transposed_convolution(g):
    x, shape = g.pick(range(3, 6))
    if x is None or shape[1] > MAX_DEPTH:
        return
    n, c, *spatial = shape
    groups = g.choice(1, 1, c, *(k for k in range(1, c + 1) if c % k == 0))
    m = groups * g.integer(1, max(1, 20 // groups))
    kernel, strides, dilations = (g.integers(len(spatial), 1, most) for most in (4, 3, 2))
    more = [g.integer(0, stride - 1) for stride in strides]
    pads = [g.integer(0, min(1, k - 1)) for k in kernel * 2]
    parts = zip(spatial, kernel, strides, dilations, more, pads, pads[len(spatial) :], strict=False)
    out = [s * (size - 1) + extra + (k - 1) * d + 1 - before - after for size, k, s, d, extra, before, after in parts]
    weight = np.swapaxes(g.pruned(m // groups, c, *kernel), 0, 1)
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "output_padding": more, "pads": pads}
    g.node("ConvTranspose", [x, g.weight(weight), *([g.noise(m)] if g.chance(0.6) else [])], [n, m, *out], group=groups, **attributes)


@operator(share=2)
def matrix_product(g):
    x, shape = g.pick(range(2, 6))
    if x is None or max(shape[-2:]) > MAX_DEPTH:
        return
    n = g.integer(1, 700 if g.big else 70)
    if g.chance(0.25):
        g.node("MatMul", [g.weight(g.pruned(n, shape[-2])), x], [*shape[:-2], n, shape[-1]])
    else:
        batch = shape[-3:-2] if g.chance(0.2) else []
        weight = np.stack([g.pruned(n, shape[-1]).T for _ in range(batch[0] if batch else 1)])
        g.node("MatMul", [x, g.weight(weight if batch else weight[0])], [*shape[:-1], n])


@operator()
def gemm(g):
    x, shape = g.pick(range(2, 9))
    if x is None or np.prod(shape[1:]) > MAX_DEPTH:
        return
    if len(shape) > 2:
        shape = [shape[0], int(np.prod(shape[1:]))]
        x = g.node("Flatten", [x], shape, axis=1)
    n, transposed = g.integer(1, 900 if g.big else 60), g.integer(0, 1)
    weight = g.pruned(n, shape[1])
    inputs = [x, g.weight(weight if transposed else weight.T), *([g.noise(n)] if g.chance(0.7) else [])]
    g.node("Gemm", inputs, [shape[0], n], transB=transposed, alpha=g.choice(1.0, 0.5), beta=g.choice(1.0, 2.0))


@operator()
def recurrent(g):
    x, shape = g.pick([3])
    if x is None or shape[0] > 60 or shape[2] > MAX_DEPTH:
        return
    op, gates = g.choice(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    hidden, direction = g.integer(1, 130 if g.big else 40), g.choice("forward", "reverse", "bidirectional")
    directions = 2 if direction == "bidirectional" else 1
    weights = [np.stack([g.pruned(gates * hidden, k) for _ in range(directions)]) for k in (shape[2], hidden)]
    inputs = [x, *map(g.weight, weights), *([g.noise(directions, 2 * gates * hidden)] if g.chance(0.6) else [])]
    attributes = {"linear_before_reset": g.integer(0, 1)} if op == "GRU" else {}
    out = [shape[0], directions, shape[1], hidden]
    g.node(op, inputs, out, hidden_size=hidden, direction=direction, **attributes)


@operator(share=2)
def activation(g):
    x, shape = g.pick()
    smooth = ("Sigmoid", "Tanh", "HardSigmoid", "Erf", "Elu", "Selu", "Softplus", "Softsign", *(["HardSwish"] if g.opset >= 14 else []))
    op = g.choice("Relu", "Clip", "LeakyRelu", "Abs", "Neg", *smooth)
    bounds = [g.weight(np.float32(-0.5)) if g.chance(0.7) else "", g.weight(np.float32(g.rng.random() * 3))] if op == "Clip" else []
    g.node(op, [x, *bounds], shape)


@operator()
def rare_activation(g):
    """Behind what keeps it from magnifying errors.

    Sqrt and Log are steep near 0, Sin is steep far from it, ThresholdedRelu jumps where its alpha is not 0.
    """
    x, shape = g.pick()
    newer = [op for op, since in (("Mish", 18), ("Gelu", 20), ("Swish", 24)) if g.opset >= since]
    op = g.choice("Sqrt", "Reciprocal", "Log", "Exp", "Sin", "Cos", "ThresholdedRelu", "Pow", "QuickGelu", "com.microsoft.Gelu", *newer)
    if op in ("Sqrt", "Reciprocal", "Log"):
        g.node(op, [g.node("Add", [g.node("Abs", [x], shape), g.weight(np.float32(0.5))], shape)], shape)
    elif op == "Mish":
        g.node(op, [x], shape)
    elif op == "Swish":
        g.node(op, [x], shape, alpha=g.choice(1.0, 1.702))
    elif op in ("Exp", "Sin", "Cos"):
        g.node(op, [g.node("Tanh", [x], shape)], shape)
    elif op == "Pow":
        g.node("Pow", [g.node("Tanh", [x], shape), g.weight(np.float32(g.integer(1, 4)))], shape)
    elif op == "ThresholdedRelu":
        g.node(op, [x], shape, alpha=0.0)
    elif op == "QuickGelu":
        g.node(op, [x], shape, domain="com.microsoft", alpha=g.choice(1.702, 1.0))
    elif op == "Gelu":
        g.node("Gelu", [g.above_tail(x, shape)], shape, approximate=g.choice("none", "tanh"))
    else:
        g.node("Gelu", [g.above_tail(x, shape)], shape, domain="com.microsoft")


@operator()
def silu(g):
    x, shape = g.pick()
    gate = g.node("Sigmoid", [x], shape)
    g.node("Mul", [x, gate] if g.chance(0.5) else [gate, x], shape)


@operator()
def gelu(g):
    x, shape = g.pick()
    x = g.above_tail(x, shape)
    erf = g.node("Erf", [g.node("Div", [x, g.weight(np.float32(np.sqrt(2)))], shape)], shape)
    scaled = g.node("Mul", [x, g.node("Add", [erf, g.weight(np.float32(1))], shape)], shape)
    g.node("Mul", [scaled, g.weight(np.float32(0.5))], shape)


@operator(share=2)
def binary(g):
    x, shape = g.pick()
    fitting = [n for n, s in g.values.items() if len(s) == len(shape) and all(a == b or 1 in (a, b) for a, b in zip(s, shape, strict=True))]
    y = g.choice(*fitting)
    out = [max(pair) for pair in zip(shape, g.values[y], strict=True)]
    g.node(g.choice("Add", "Mul", "Sub", "Max", "Min"), [x, y] if g.chance(0.5) else [y, x], out)


@operator(share=2)
def binary_with_constant(g):
    x, shape = g.pick()
    sizes = [size if g.chance(0.5) else 1 for size in shape]
    if len(shape) > 2 and g.chance(0.5):
        sizes = [1, shape[1], *[1] * (len(shape) - 2)]
    sizes = sizes[g.choice(0, 0, len(sizes) // 2) :]
    constant = g.weight(g.rng.random(sizes) + 0.5)
    op = g.choice("Add", "Mul", "Sub", "Div", "Max", "Min")
    g.node(op, [x, constant] if op == "Div" or g.chance(0.7) else [constant, x], shape)


@operator()
def excitation(g):
    """Factors of the channels of an image, as of squeeze-and-excite, and often the pointwise convolution behind them."""
    x, shape = g.pick([4])
    if x is None:
        return
    means = g.node("GlobalAveragePool", [x], [*shape[:2], 1, 1])
    scaled = g.node("Mul", [x, g.node("Sigmoid", [means], [*shape[:2], 1, 1])], shape)
    if g.chance(0.7):
        weight = g.weight(g.pruned(g.integer(1, 24), shape[1], 1, 1))
        g.node("Conv", [scaled, weight], [shape[0], g.weights[weight].shape[0], *shape[2:]])


@operator()
def normalization(g):
    """Of eight and more: the fewer, the more it magnifies the errors of what it normalizes."""
    x, shape = g.pick(range(2, 9))
    if x is None or shape[-1] < 8:
        return
    scale, skips = g.weight(g.rng.random(shape[-1]) + 0.5), ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"]
    newer = [op for op, since in (("LayerNormalization", 17), ("RMSNormalization", 23)) if g.opset >= since]
    op = g.choice("SimplifiedLayerNormalization", *newer, *newer, *(skips if len(shape) == 3 else []))
    inputs = [x, g.choice(*[n for n, s in g.values.items() if s == shape]), scale] if op in skips else [x, scale]
    if op in ("LayerNormalization", "SkipLayerNormalization"):
        inputs.append(g.noise(shape[-1]))
    g.node(op, inputs, shape, epsilon=1e-3, **({"domain": "com.microsoft"} if op in skips else {}))


@operator()
def batch_normalization(g):
    x, shape = g.pick(range(3, 9))
    if x is not None:
        scale, variance = (g.weight(g.rng.random(shape[1]) + 0.5) for _ in range(2))
        g.node("BatchNormalization", [x, scale, g.noise(shape[1]), g.noise(shape[1]), variance], shape)


@operator()
def foreign(g):
    """Not ours: it cuts regions."""
    x, shape = g.pick()
    g.node("Asinh", [x], shape)


@operator()
def softmax(g):
    """Along one axis; before opset 13 along all from it on, which is the same of the last."""
    x, shape = g.pick()
    axis = g.choice(-1, g.integer(0, len(shape) - 1))
    if g.chance(0.5):
        g.node("Softmax", [x], shape, axis=axis)
        return
    name = f"t{len(g.values)}_log"  # which nothing else reads: all its values may stand in the tail of a Gelu
    g.nodes.append(helper.make_node("LogSoftmax", [x], [name], axis=axis))
    g.node("Add", [name, g.weight(np.full(1, 4.0))], shape)


@operator()
def group_normalization(g):
    """Of eight and more elements, as in `normalization`."""
    x, shape = g.pick(range(3, 9))
    if x is not None and np.prod(shape[2:]) >= 8:
        weights = [g.weight(g.rng.random(shape[1]) + 0.5), g.noise(shape[1])]
        g.node("InstanceNormalization", [x, *weights], shape, epsilon=1e-3)
        if g.opset >= 21:
            groups = g.choice(*(k for k in range(1, shape[1] + 1) if shape[1] % k == 0))
            g.node("GroupNormalization", [x, *weights], shape, epsilon=1e-3, num_groups=groups)


@operator()
def parametric_activation(g):
    x, shape = g.pick(range(2, 9))
    if x is not None:
        g.node("PRelu", [x, g.weight(g.rng.random([shape[1], *[1] * (len(shape) - 2)]))], shape)
        if g.opset >= 12:
            g.node("Celu", [x], shape, alpha=g.choice(1.0, 0.7))


@operator()
def reduction(g):
    x, shape = g.pick()
    axes = [axis for axis in range(len(shape)) if g.chance(0.4)] or [len(shape) - 1]
    keep = g.integer(0, 1)
    op = g.choice(("ReduceSum", 13), *((f"Reduce{name}", 18) for name in ("Mean", "Max", "Min", "L1", "L2", "SumSquare")))
    out = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    g.node_of_axes(op[0], x, out, axes, op[1], keepdims=keep)


@operator(share=2)
def slicing(g):
    x, shape = g.pick()
    axis = g.choice(min(1, len(shape) - 1), g.integer(0, len(shape) - 1))
    begin, step = g.integer(0, shape[axis] - 1), g.choice(1, 1, 1, 2, -1)
    end = g.integer(begin + 1, shape[axis]) if step > 0 else -shape[axis] - 1
    count = -(-(end - begin) // step) if step > 0 else begin + 1
    lists = [g.weight(np.array([number], np.int64)) for number in (begin, end, axis, step)]
    g.node("Slice", [x, *lists], [*shape[:axis], count, *shape[axis + 1 :]])


@operator()
def gathering(g):
    x, shape = g.pick()
    axis = g.integer(0, len(shape) - 1)
    place = g.weight(np.array([g.integer(-shape[axis], shape[axis] - 1)], np.int64))
    g.node("Gather", [x, place], [*shape[:axis], 1, *shape[axis + 1 :]], axis=axis)


@operator()
def masking(g):
    x, shape = g.pick()
    mask = g.weight(g.rng.random([size if g.chance(0.6) else 1 for size in shape]) < 0.7)
    number = g.weight(np.float32(g.rng.standard_normal()))
    g.node("Where", [mask, x, number] if g.chance(0.5) else [mask, number, x], shape)


@operator()
def attention(g):
    """Of a value by itself: products of two values, with a transposition that one of them may do."""
    x, shape = g.pick(range(2, 7))
    if x is None or max(shape[-2:]) > MAX_DEPTH:
        return
    scores_shape = [*shape[:-1], shape[-2]]
    if g.opset >= 12 and g.chance(0.3):
        batch = "abcde"[: len(shape) - 2]
        scores = g.node("Einsum", [x, x], scores_shape, equation=f"{batch}ik,{batch}jk->{batch}ij")
    else:
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        scores = g.node("MatMul", [x, g.node("Transpose", [x], [shape[axis] for axis in order], perm=order)], scores_shape)
    if scores is not None:
        scaled = g.node("Mul", [scores, g.weight(np.float32(1 / shape[-1]))], scores_shape)
        g.node("MatMul", [g.node("Softmax", [scaled], scores_shape, axis=len(shape) - 1), x], shape)


@operator()
def choosing(g):
    """By truths that no rounding changes."""
    x, shape = g.pick()
    low, nan, both, opposite = (f"t{len(g.values)}_{name}" for name in ("low", "nan", "both", "opposite"))
    g.nodes.append(helper.make_node("Less", [x, g.weight(np.float32(g.choice(-1e30, 1e30)))], [low]))
    g.nodes.append(helper.make_node("IsNaN", [x], [nan]))
    g.nodes.append(helper.make_node(g.choice("And", "Or", "Xor"), [low, nan], [both]))
    g.nodes.append(helper.make_node("Not", [both], [opposite]))
    number = g.weight(np.float32(g.rng.standard_normal()))
    g.node("Where", [opposite, x, number] if g.chance(0.5) else [opposite, number, x], shape)


@operator()
def repeating(g):
    x, shape = g.pick(range(1, 8))
    if x is not None:
        target = [*([2] if g.chance(0.3) else []), *(g.integer(1, 3) if size == 1 else size for size in shape)]
        given = [1 if g.chance(0.3) else size for size in target]  # 1 keeps the value's size
        given[: len(target) - len(shape)] = target[: len(target) - len(shape)]
        out = [max(pair) for pair in zip(given, [1] * (len(target) - len(shape)) + shape, strict=True)]
        g.node("Expand", [x, g.weight(np.array(given, np.int64))], out)


@operator()
def splitting(g):
    """Two results, of which the second may be read by nobody."""
    x, shape = g.pick()
    axis = g.choice(min(1, len(shape) - 1), g.integer(0, len(shape) - 1))
    if shape[axis] < 2:
        return
    first = g.integer(1, shape[axis] - 1)
    sizes = [first, shape[axis] - first]
    by_input = g.opset >= 13
    inputs = [x, g.weight(np.array(sizes, np.int64))] if by_input else [x]
    names = [f"t{len(g.values)}", f"t{len(g.values)}_rest"]
    g.nodes.append(helper.make_node("Split", inputs, names, axis=axis, **({} if by_input else {"split": sizes})))
    g.values |= {name: [*shape[:axis], size, *shape[axis + 1 :]] for name, size in zip(names, sizes, strict=True)}


@operator()
def many(g):
    x, shape = g.pick()
    fitting = [n for n, s in g.values.items() if s == shape]
    g.node(g.choice("Sum", "Mean", "Max", "Min"), [x, *(g.choice(*fitting) for _ in range(g.integer(0, 3)))], shape)


@operator()
def pooling(g):
    x, shape = g.pick(range(3, 6))
    if x is None:
        return
    if g.chance(0.3):
        g.node(g.choice("GlobalAveragePool", "GlobalMaxPool"), [x], shape[:2] + [1] * (len(shape) - 2))
    elif len(shape) == 4 and g.chance(0.3):
        keep = g.integer(0, 1)
        g.node_of_axes("ReduceMean", x, shape[:2] + [1, 1] * keep, g.choice([2, 3], [-2, -1]), 18, keepdims=keep)
    else:
        attributes, out = window(g, shape[2:], 3, dilated=False)
        op = g.choice("MaxPool", "AveragePool")
        g.node(op, [x], [*shape[:2], *out], **attributes, **({"count_include_pad": g.integer(0, 1)} if op == "AveragePool" else {}))


@operator()
def concatenation(g):
    x, shape = g.pick()
    axis = g.choice(min(1, len(shape) - 1), g.integer(0, len(shape) - 1))
    fitting = [n for n, s in g.values.items() if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == shape[:axis] + shape[axis + 1 :]]
    operands = [x, *(g.choice(*fitting) for _ in range(g.integer(1, 2)))]
    out = [*shape[:axis], sum(g.values[n][axis] for n in operands), *shape[axis + 1 :]]
    g.node("Concat", operands, out, axis=g.choice(axis, axis - len(shape)))


@operator()
def resizing(g):
    x, shape = g.pick([4])
    if x is None:
        return
    factors = np.array([1, 1, *(g.choice(1, 2, 0.5, 1.5, 3) for _ in range(2))], np.float32)
    out = [int(size) for size in np.floor(np.array(shape, np.float32) * factors)]
    modes = [{"mode": "nearest", "nearest_mode": m} for m in ("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")]
    coordinates = g.choice("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    mode = g.choice({"mode": "linear"}, {"mode": "linear"}, *modes)
    region = g.weight(np.zeros(0, np.float32)) if g.opset < 13 else ""
    g.node("Resize", [x, region, g.weight(factors)], out, coordinate_transformation_mode=coordinates, **mode)


@operator()
def padding(g):
    x, shape = g.pick()
    pads = np.array([[g.choice(0, 0, 1, 2) for _ in shape] for _ in range(2)], np.int64)
    out = [int(size) for size in np.array(shape) + pads.sum(axis=0)]
    g.node("Pad", [x, g.weight(pads.ravel()), g.weight(np.float32(g.rng.standard_normal()))], out)


@operator()
def shuffling(g):
    x, shape = g.pick([4])
    if x is None:
        return
    n, c, h, w = shape
    if c % 4 == 0:
        g.node("DepthToSpace", [x], [n, c // 4, 2 * h, 2 * w], blocksize=2, mode=g.choice("DCR", "CRD"))
    elif h % 2 == 0 and w % 2 == 0:
        g.node("SpaceToDepth", [x], [n, 4 * c, h // 2, w // 2], blocksize=2)


@operator()
def transposition(g):
    x, shape = g.pick()
    perm = [int(axis) for axis in g.rng.permutation(len(shape))]
    g.node("Transpose", [x], [shape[axis] for axis in perm], perm=perm)


@operator()
def reshaping(g):
    x, shape = g.pick(range(2, 9))
    if x is None:
        return
    rest = int(np.prod(shape[1:]))
    columns = g.choice(*(k for k in range(1, rest + 1) if rest % k == 0))
    first = g.choice(-1, 0, shape[0])
    g.node("Reshape", [x, g.weight(np.array([first, columns, rest // columns], np.int64))], [shape[0], columns, rest // columns])


@operator(share=2)
def computed_shape(g):
    """A shape that the graph computes from that of its operand, as exporters write it.

    Before opset 14 ONNX Runtime does not say how many dimensions the result has.
    """
    x, shape = g.pick(range(2, 7))
    if x is None or g.opset < 14:
        return

    def numbers(op, *inputs, **attributes):
        name = f"t{len(g.values)}_numbers{len(g.nodes)}"
        g.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def integers(*given):
        return g.weight(np.array(given, np.int64))

    op, dims = g.choice("Reshape", "Reshape", "Slice", "Expand", "ConstantOfShape"), numbers("Shape", x)
    if op == "Reshape":
        rest = int(np.prod(shape[1:]))
        columns = g.choice(*(k for k in range(1, rest + 1) if rest % k == 0))
        first = numbers("Gather", dims, integers(g.choice(0, -len(shape))))
        g.node(op, [x, numbers("Concat", first, integers(columns, -1), axis=0)], [shape[0], columns, rest // columns])
    elif op == "Slice":
        axis = g.integer(0, len(shape) - 1)
        size = numbers("Gather", dims, integers(axis), axis=0)
        half = numbers("Div", numbers("Add", size, integers(1)), integers(2))
        sizes = [*shape[:axis], (shape[axis] + 1) // 2, *shape[axis + 1 :]]
        g.node(op, [x, integers(0), half, integers(axis)], sizes)
    elif op == "Expand":
        g.node(op, [x, numbers("Where", numbers("Equal", dims, integers(1)), integers(1), dims)], shape)
    else:
        filled = g.node(op, [dims], shape, value=helper.make_tensor("number", 1, [1], [g.choice(0.0, -1.5, 0.5)]))
        if g.chance(0.5):
            g.node("Add", [filled, x], shape)
        else:  # what follows depends on shapes alone, unless it meets another value
            g.node("Mul", [filled, g.noise(*shape[1:])], shape)


@operator()
def squeezing(g):
    x, shape = g.pick(range(2, 6))
    if x is None:
        return
    ones = [axis for axis, size in enumerate(shape) if size == 1 and axis > 0]
    if ones and len(shape) > 2 and g.chance(0.6):
        axis = g.choice(*ones)
        g.node_of_axes("Squeeze", x, shape[:axis] + shape[axis + 1 :], [axis], 13)
    else:
        axis = g.integer(0, len(shape))
        g.node_of_axes("Unsqueeze", x, [*shape[:axis], 1, *shape[axis:]], [axis], 13)
