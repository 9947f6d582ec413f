"""Conv and pooling: attributes, and why a node cannot run. Results are those of test_products.py and test_pools_and_elementwise.py."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import options, pipeline
from onnxruntime_ep_sparse.graph.ir import FLOAT
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.windows import is_padded, window_of
from onnxruntime_ep_sparse.program.enums import AutoPad
from onnxruntime_ep_sparse.program.windows import meeting_taps
from support.making import examples, model_of, noise, pruned
from support.nodes import C, one_node
from support.programs import Conv
from support.promises import assert_close, cpu_session, owned_session

IMAGE, WEIGHT = (1, 4, 8, 8), (C, 6, 4, 3, 3)


def test_window_has_the_defaults_of_onnx():
    """Stride and dilation 1, no padding."""
    _, node = one_node("Conv", [IMAGE, WEIGHT], IMAGE)
    window = window_of(node, (3, 3))
    assert (window.stride, window.dilation, window.pad_begin, window.pad_end) == ((1, 1), (1, 1), (0, 0), (0, 0))
    assert window.auto_pad == AutoPad.EXPLICIT
    assert not is_padded(window)


@pytest.mark.parametrize(
    ("attributes", "auto_pad", "padded"),
    [
        ({"pads": (0, 1, 2, 3)}, AutoPad.EXPLICIT, True),
        ({"auto_pad": "SAME_UPPER"}, AutoPad.SAME_UPPER, True),
        ({"auto_pad": "SAME_LOWER", "pads": (1, 1, 1, 1)}, AutoPad.SAME_LOWER, True),
        ({"auto_pad": "VALID", "pads": (1, 1, 1, 1)}, AutoPad.EXPLICIT, False),
    ],
)
def test_padding(attributes, auto_pad, padded):
    """`pads` count only without `auto_pad`."""
    _, node = one_node("Conv", [IMAGE, WEIGHT], IMAGE, attributes)
    window = window_of(node, (3, 3))
    assert (window.auto_pad, is_padded(window)) == (auto_pad, padded)
    assert window.pad_begin + window.pad_end == (attributes["pads"] if attributes.get("auto_pad") is None else (0,) * 4)


@pytest.mark.parametrize(
    ("inputs", "attributes", "code"),
    [
        ([IMAGE, (6, 4, 3, 3)], {}, "weight-not-constant"),
        ([IMAGE, WEIGHT, (6,)], {}, "parameter-not-constant"),
        ([(1, 4), (C, 6, 4)], {}, "unsupported-spatial-rank"),
        ([(1, 4, 8), WEIGHT], {}, "mismatched"),
        ([IMAGE, (C, 6, 4, 0, 3)], {}, "weight-empty"),
        ([IMAGE, WEIGHT], {"group": 2}, "mismatched"),
        ([IMAGE, WEIGHT], {"kernel_shape": (3, 5)}, "mismatched"),
        ([IMAGE, WEIGHT], {"strides": (1,)}, "mismatched"),
        ([IMAGE, WEIGHT], {"dilations": (1, 1, 1)}, "mismatched"),
        ([IMAGE, WEIGHT], {"pads": (1, 1, 1)}, "mismatched"),
        ([IMAGE, WEIGHT], {"pads": (1, 1, 1, 1, 1)}, "mismatched"),
        ([IMAGE, WEIGHT], {"auto_pad": "SAME"}, "unsupported-attribute"),
        ([IMAGE, WEIGHT], {"auto_pad": ""}, None),
        ([IMAGE, WEIGHT], {"auto_pad": "VALID", "pads": (0, 0, 0, 0)}, "pads-with-auto-pad"),
        ([IMAGE, WEIGHT], {"auto_pad": "SAME_UPPER", "strides": (4, 4)}, None),
        ([IMAGE, WEIGHT], {"auto_pad": "SAME_UPPER", "strides": (4, 5)}, "stride-beyond-window"),
        ([IMAGE, WEIGHT], {"auto_pad": "SAME_LOWER", "dilations": (1, 2)}, "same-with-dilation"),
        ([IMAGE, WEIGHT], {"strides": (0, 1)}, "out-of-range"),
        ([IMAGE, WEIGHT], {"pads": (0, 0, -1, 0)}, "out-of-range"),
        ([IMAGE, WEIGHT], {"dilations": (1 << 15, 1 << 15)}, None),
        ([IMAGE, (C, 6, 4, 64, 3)], {"dilations": (1 << 15, 1)}, "out-of-range"),
        ([("n", "c", None, "w"), WEIGHT, (C, 6)], {"auto_pad": "SAME_UPPER"}, None),
    ],
)
def test_convolutions_that_cannot_run(inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node("Conv", inputs, (None,) * len(inputs[0]), attributes))
    assert (finding and finding.code) == code


@pytest.mark.parametrize(
    ("kernel", "attributes", "image", "kept", "pads"),
    [
        ((3, 3), {"dilations": (24, 24), "pads": (24,) * 4}, (17, 17), ((1, 2), (1, 2)), (0, 0, 0, 0)),
        ((3, 3), {"dilations": (24, 24), "pads": (24,) * 4}, (17, None), ((1, 2), (0, 3)), (0, 24, 0, 24)),
        ((3, 3), {"dilations": (16, 17), "pads": (16, 17, 16, 17)}, (17, 17), ((0, 3), (1, 2)), (16, 0, 16, 0)),
        ((15,), {"pads": (7, 7)}, (4,), ((4, 11),), (3, 3)),
        ((15,), {"pads": (7, 7), "strides": (2,)}, (4,), ((5, 11),), (2, 3)),
        ((3,), {"dilations": (4,), "pads": (9, 2)}, (3,), ((1, 3),), (5, 2)),
        ((3, 3), {"pads": (1,) * 4}, (17, 17), ((0, 3), (0, 3)), (1, 1, 1, 1)),
        ((3, 3), {"auto_pad": "SAME_UPPER"}, (1, 1), ((0, 3), (0, 3)), (0, 0, 0, 0)),
    ],
)
def test_taps_that_never_meet_the_image(kernel, attributes, image, kept, pads):
    """They are left out where the size of the image is known, with as much padding."""
    _, node = one_node("Conv", [IMAGE, WEIGHT], IMAGE, attributes)
    window, slices = meeting_taps(window_of(node, kernel), image)
    assert tuple((s.start or 0, s.stop) for s in slices) == kept
    assert (window.kernel, window.pad_begin + window.pad_end) == (tuple(stop - start for start, stop in kept), pads)
    assert window.image == () or all(fixed in (0, size) for fixed, size in zip(window.image, image, strict=True))


@examples(300)
@given(st.data())
def test_convolutions_of_small_images(data):
    """Windows that are far wider than the image: the CPU provider's results, and the same bits where the size is not known."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rank = data.draw(st.sampled_from([1, 2, 2, 3]))

    def sizes(least, most, count=rank):
        return [data.draw(st.integers(least, most)) for _ in range(count)]

    kernel, strides, dilations, pads = sizes(1, 5), sizes(1, 3), sizes(1, 8), sizes(0, 23, 2 * rank)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    image = [max(n, r - a - b) for n, r, a, b in zip(sizes(1, 7), reach, pads[:rank], pads[rank:], strict=True)]
    group = data.draw(st.sampled_from([1, 1, 2, 4]))
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=strides, dilations=dilations, pads=pads, group=group)
    weights = {"w": pruned(rng, (4, 4 // group, *kernel), 0.3)}
    x = noise(rng, 2, 4, *image)
    results = []
    for declared in (["n", 4, *image], ["n", 4, *(f"d{i}" for i in range(rank))]):
        model = model_of([node], {"x": declared}, ["y"], weights)
        results.append(owned_session(model).run(None, {"x": x})[0])
    assert np.array_equal(*results)
    assert_close(results[0], cpu_session(model).run(None, {"x": x})[0])


def test_other_images_than_the_model_says():
    """A window without taps that never meet images of the declared size is refused others."""
    conv = Conv(6, 8, (3, 3), known=(7, "w"), dilations=(9, 1), pads=(9, 1, 9, 1))
    program = pipeline.lower(conv.graph, options.parse({}))
    conv.check(program, noise(np.random.default_rng(0), 1, 8, 7, 5))
    with pytest.raises(RuntimeError, match="an image has the size 8, the model says 7"):
        program.run(noise(np.random.default_rng(0), 1, 8, 8, 5))


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "code"),
    [
        ("MaxPool", (1, 4, 8, 8, 8, 8), {"kernel_shape": (2, 2, 2, 2)}, "unsupported-spatial-rank"),
        ("MaxPool", (1, 4, 8, 8, 8), {"kernel_shape": (2, 2, 2)}, None),
        ("MaxPool", IMAGE, {"kernel_shape": (2, 2), "storage_order": 1}, "unsupported-attribute"),
        ("MaxPool", IMAGE, {"kernel_shape": (2,)}, "mismatched"),
        ("MaxPool", IMAGE, {"kernel_shape": (2, 2), "ceil_mode": 1}, None),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "ceil_mode": 1}, None),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "auto_pad": "SAME"}, "unsupported-attribute"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "pads": (1, 1, 1)}, "mismatched"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "pads": (2, 0, 0, 0)}, "pads-cover-window"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "dilations": (2, 2), "pads": (2, 0, 0, 0)}, "pads-cover-window"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "auto_pad": "VALID", "pads": (2, 0, 0, 0)}, "pads-cover-window"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "auto_pad": "VALID", "pads": (1, 0, 0, 0)}, None),
        ("MaxPool", IMAGE, {"kernel_shape": (2, 2), "auto_pad": "SAME_UPPER", "dilations": (2, 1)}, "same-with-dilation"),
        ("AveragePool", IMAGE, {"kernel_shape": (2, 2), "strides": (3, 1), "auto_pad": "SAME_UPPER"}, "stride-beyond-window"),
        ("GlobalMaxPool", (1, 4), {}, "unsupported-rank"),
        ("GlobalAveragePool", (1, 4, 8), {}, None),
        ("ReduceMean", IMAGE, {"axes": (2, 3)}, None),
        ("ReduceMean", IMAGE, {"axes": (-1, -2)}, None),
        ("ReduceMean", IMAGE, {"axes": (4,)}, "mismatched"),
    ],
)
def test_pools_that_cannot_run(op_type, shape, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, [shape], (None,) * len(shape), attributes))
    assert (finding and finding.code) == code


def test_axes_of_a_mean_may_be_an_input():
    """Since opset 18; they must be constant."""
    assert ops.can_run(*one_node("ReduceMean", [IMAGE, (2,)], IMAGE, arrays={1: np.array([2, 3])})) is None
    assert ops.can_run(*one_node("ReduceMean", [IMAGE, (2,)], IMAGE)).code == "parameter-not-constant"


def test_only_the_weight_is_packed():
    """A bias is constant as well, and an initializer that an input can override is not."""
    assert ops.weights_of(*one_node("Conv", [IMAGE, WEIGHT, (C, 6)], IMAGE)) == ("x1",)
    assert ops.weights_of(*one_node("Conv", [(C, 1, 4, 8, 8), (6, 4, 3, 3)], IMAGE)) == ()
    assert ops.output_axis(*one_node("Conv", [IMAGE, WEIGHT], IMAGE, dtypes={0: FLOAT})) == 0


@pytest.mark.parametrize("isa", kernels.available_isas())
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_windows_of_any_pads(isa, side, stride):
    """Pads of either side, images around one and two vectors: the kernels for narrow images and for pairs of strips fit some of them."""
    rng = np.random.default_rng(0)
    weight = noise(rng, 2, 1, side, side)
    for left, right in itertools.product(range(side), repeat=2):
        pads = [side // 2, left, side // 2, right]
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, kernel_shape=[side, side], strides=[stride, stride], pads=pads)
        model = model_of([node], {"x": [1, 2, "h", "w"]}, ["y"], {"w": weight})
        ours, theirs = owned_session(model, {"policy": "always", "isa": isa}, threads=1), cpu_session(model, threads=1)
        for width in (5, *(lanes + more for lanes in (8, 16, 24, 32) for more in (-3, -2, -1, 0, 1, 4))):
            feeds = {"x": noise(rng, 1, 2, 9, width)}
            assert_close(ours.run(None, feeds)[0], theirs.run(None, feeds)[0])
