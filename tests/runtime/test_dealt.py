"""Images that are dealt to the lanes of vectors between steps: the same bits as in ONNX's order, and which values stand so."""

import gc

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.runtime._arenas import held
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import isa_named
from support.kernel_sets import table_of
from support.making import noise, pruned
from support.programs import EVERY_SET, graph_of

NEVER, ALWAYS = 1 << 40, 0
"""`dealt_pixels` of a program."""


class Net:
    """A graph that grows node by node from an image of 3 channels, or a volume with `axes=3`; the channels of every value are known."""

    def __init__(self, axes=2):
        self.axes = axes
        self.rng = np.random.default_rng(5)
        self.nodes, self.constants, self.channels = [], {}, {"x": 3}

    def node(self, op, inputs, output, channels, **attributes):
        self.nodes.append((op, inputs, output, ("n", channels, *[None] * self.axes), attributes))
        self.channels[output] = channels
        return output

    def conv(self, x, output, m, kernel=3, act=None, zeros=0.8, stride=1):
        c = self.channels[x]
        window = [kernel] * self.axes if isinstance(kernel, int) else kernel
        self.constants[f"w_{output}"] = pruned(self.rng, (m, c, *window), zeros)
        self.constants[f"b_{output}"] = noise(self.rng, m)
        result = f"sum_{output}" if act else output
        inputs = (x, f"w_{output}", f"b_{output}")
        self.node("Conv", inputs, result, m, pads=[k // 2 for k in window] * 2, strides=[stride] * self.axes)
        return self.node(act, (result,), output, m) if act else result

    def pool(self, x, output):
        return self.node("MaxPool", (x,), output, self.channels[x], kernel_shape=[2, 2], strides=[2, 2])

    def double(self, x, output):
        self.constants["scales"] = np.array([1, 1, 2, 2], np.float32)
        return self.node("Resize", (x, "scales"), output, self.channels[x], mode="nearest")

    def concat(self, values, output):
        return self.node("Concat", tuple(values), output, sum(self.channels[v] for v in values), axis=1)

    def graph(self, outputs=("y",)):
        return graph_of(self.nodes, {"x": ("n", 3, *"dhw"[-self.axes :])}, self.constants, outputs)


def unet():
    """Two levels, with an activation that no kernel computes, a residual, and an output that another node reads too."""
    net = Net()
    skip = net.conv(net.conv("x", "a", 9, act="Relu"), "b", 9, act="Relu")
    deep = net.conv(net.pool(skip, "pooled"), "c", 21, act="Sigmoid")
    deep = net.node("Add", (net.conv(deep, "d", 21), deep), "sum", 21)
    wide = net.concat([net.double(deep, "doubled"), skip], "wide")
    net.conv(net.conv(wide, "e", 10, zeros=0, act="LeakyRelu"), "y", 2, kernel=1)
    return net.graph()


def ends():
    """Steps that need ONNX's order: stride, another pool, an addition of a value by another maker, a Concat of an input, Flatten."""
    net = Net()
    a = net.conv("x", "a", 6)
    b = net.conv(a, "b", 6, kernel=1)
    strided = net.conv(b, "strided", 5, stride=2)
    average = net.node("AveragePool", (b,), "average", 6, kernel_shape=[2, 2], strides=[2, 2])
    joined = net.concat([strided, average, net.pool("x", "pooled")], "joined")
    net.conv(net.conv(joined, "c", 7), "y", 3)
    net.node("Flatten", (net.conv(b, "d", 4, kernel=1),), "flat", 4, axis=1)
    net.node("Add", (a, "x0"), "z", 6)
    net.constants["x0"] = noise(net.rng, 1, 6, 1, 1)
    return net.graph(("y", "flat", "z"))


def parts():
    """Parts of values that may stand dealt, which are runs of them for a single image, and reductions and normalizations of them."""
    net = Net()
    a = net.conv(net.conv("x", "a0", 8), "a", 8, act="Relu")
    front = net.node("Slice", (a,), "front", 3, starts=[0], ends=[3], axes=[1])
    back = net.node("Slice", (a,), "back", 5, starts=[3], ends=[8], axes=[1])
    net.constants["order"] = np.array([4, 2, 0], np.int64)
    some = net.node("Gather", (back, "order"), "some", 3, axis=1)
    whole = net.concat([net.conv(front, "f", 4), net.conv(back, "g", 4), some], "whole")
    net.constants["slope"] = noise(net.rng, 11, 1, 1)
    bent = net.node("PRelu", (net.conv(whole, "h", 11, kernel=1), "slope"), "bent", 11)
    net.constants["scale"], net.constants["shift"] = noise(net.rng, 11), noise(net.rng, 11)
    normal = net.node("InstanceNormalization", (bent, "scale", "shift"), "normal", 11)
    net.conv(net.node("Sum", (normal, whole, bent), "sums", 11), "y", 2)
    net.node("ReduceMean", (net.conv(normal, "k", 5),), "mean", 5, axes=[2, 3])
    return net.graph(("y", "mean"))


def leaving():
    """Results that leave the region, or that steps need in ONNX's order: with a residual, and an activation that no kernel computes."""
    net = Net()
    a = net.conv(net.conv("x", "a0", 9, act="Relu"), "a", 9, act="Relu")
    other = net.conv(a, "b", 6, act="Relu")
    joined = net.node("Add", (net.conv(a, "c", 6), other), "joined", 6)
    net.node("Sigmoid", (joined,), "y", 6)
    net.node("Relu", (net.node("Add", (net.conv(a, "d", 6, kernel=1), other), "both", 6),), "z", 6)
    net.node("ReduceMean", (net.conv(a, "e", 5, zeros=0, act="LeakyRelu"),), "mean", 5, axes=[2, 3])
    return net.graph(("y", "z", "mean"))


def volume():
    """Windows with and without depth, a residual, a Concat, and a result that leaves."""
    net = Net(axes=3)
    a = net.conv(net.conv("x", "a0", 8, act="Relu"), "a", 8, act="Relu")
    flat = net.conv(a, "flat", 8, kernel=(1, 3, 3), act="LeakyRelu")
    deep = net.node("Add", (net.conv(flat, "deep", 8, kernel=(3, 1, 1)), a), "sum", 8)
    wide = net.concat([net.conv(deep, "b", 5, kernel=1), a], "wide")
    net.conv(net.conv(wide, "c", 10, zeros=0, act="Relu"), "y", 3, act="Sigmoid")
    return net.graph()


def images(n, *size):
    x = noise(np.random.default_rng(3), n, 3, *size)
    x[0, 0, ..., 3, 5], x[-1, 1, ..., 2, 7], x[0, 2, ..., -1, 0] = np.nan, np.inf, -0.0
    return x


def bits(y):
    """The bits of an array with one NaN: which of two NaNs a sum keeps is the compiler's choice for each kernel."""
    return np.where(np.isnan(y), np.float32(np.nan), y).tobytes()


SIZES = [(1, 32, 32), (2, 64, 32), (1, 32, 160), (1, 96, 64), (1, 30, 32), (3, 18, 20), (1, 16, 112), (1, 32, 224)]
"""With 14 vectors in a row, channels are further apart."""
VOLUMES = [(1, 5, 16, 32), (2, 4, 32, 16), (1, 1, 16, 16), (1, 2, 6, 80), (2, 3, 18, 20), (1, 3, 16, 112)]


@EVERY_SET
@pytest.mark.parametrize(("build", "sizes"), [(unet, SIZES), (ends, SIZES), (parts, SIZES), (leaving, SIZES), (volume, VOLUMES)])
def test_same_bits(isa, build, sizes):
    """Dealt or not, and for any number of workers, the results are the same bits, also of numbers that are not finite."""
    spec = pipeline.lower_to_spec(build(), isa)
    plain = Program(spec, table_of(isa), 1, dealt_pixels=NEVER)
    for size in sizes:
        x = images(*size)
        expected = plain.run(x)
        for workers in (1, 3):
            program = Program(spec, table_of(isa), workers, dealt_pixels=ALWAYS)
            for _ in range(2):
                for y, e in zip(program.run(x), expected, strict=True):
                    assert bits(y) == bits(e)


@EVERY_SET
def test_which_values(isa):
    """All between the input and the last product of a U-Net stand dealt where the sizes divide; what leaves the region does not."""
    spec = pipeline.lower_to_spec(unet(), isa)
    program = Program(spec, table_of(isa), 1, dealt_pixels=ALWAYS)
    made = {step.y for step in spec.steps} - set(spec.outputs.values())
    for size in ((1, 32, 32), (2, 64, 96)):
        places = program.places((size[0], 3, *size[1:]))
        assert {v for v, place in enumerate(places) if place.dealt} == made
    plain = Program(spec, table_of(isa), 1, dealt_pixels=NEVER)
    assert not any(place.dealt for place in plain.places((1, 3, 32, 32)))


@EVERY_SET
def test_which_values_of_a_volume(isa):
    """All between the input and the output of a net of volumes stand dealt."""
    spec = pipeline.lower_to_spec(volume(), isa)
    made = {step.y for step in spec.steps} - set(spec.outputs.values())
    places = Program(spec, table_of(isa), 1, dealt_pixels=ALWAYS).places((2, 3, 4, 32, 16))
    assert {v for v, place in enumerate(places) if place.dealt} == made


@EVERY_SET
def test_products_that_leave(isa):
    """A product reads a dealt value although its own result may not stand so: only the first two values do."""
    spec = pipeline.lower_to_spec(leaving(), isa)
    recorded = []
    program = Program(spec, table_of(isa), 1, dealt_pixels=ALWAYS)
    program.run(images(1, 32, 32), recorded=recorded)
    assert sum(place.dealt for place in program.places((1, 3, 32, 32))) == 2
    assert sum(record.layout == "dealt" for record in recorded) == 6


@EVERY_SET
def test_operands_stand_in_the_result(isa):
    """The operands of a dealt Concat are written beside each other, also those of several images."""
    spec = pipeline.lower_to_spec(unet(), isa)
    places = Program(spec, table_of(isa), 1, dealt_pixels=ALWAYS).places((2, 3, 32, 32))
    joined = [step for step in spec.steps if step.kind.name == "CONCAT"]
    first = places[joined[0].y].offset
    begins = sorted(places[step.x].offset - first for step in joined)
    assert begins[0] == 0
    assert 21 * 32 <= begins[1] < places[joined[0].y].size // 4


def test_few_channels_keep_the_order():
    """A lone product between steps that need ONNX's order gains less than two conversions cost."""
    net = Net()
    net.conv(net.node("Sigmoid", ("x",), "s", 3), "a", 4)
    net.node("Sigmoid", ("a",), "y", 4)
    isa = isa_named("baseline")
    spec = pipeline.lower_to_spec(net.graph(), isa)
    places = Program(spec, table_of(isa), 1).places((1, 3, 256, 256))
    assert not any(place.dealt for place in places)


def test_memory_of_a_conversion():
    """An image in another order has its place for one step only: no more than two images stand in the arena at any time."""
    net = Net()
    net.conv(net.conv(net.conv("x", "a", 3, act="Relu"), "b", 3, act="Relu"), "y", 3)
    isa = isa_named("baseline")
    program = Program(pipeline.lower_to_spec(net.graph(), isa), table_of(isa), 1, dealt_pixels=ALWAYS)
    assert sum(place.dealt for place in program.places((1, 3, 512, 512))) == 2
    gc.collect()  # programs of other tests take their arenas along
    _, before = held()
    program.run(images(1, 512, 512))
    _, after = held()
    image = 3 * 514 * (512 + 8) * 4
    assert after - before < 2.5 * image
