"""Resize of one to three dimensions, cubic Resize, Upsample and LRN against the CPU provider, behind a product by the identity."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from support.making import carried, dynamic, examples, noise
from support.promises import assert_close, cpu_session, owned_session

COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")


def check(nodes, shapes, weights, declared=None, opset=20):
    """Every node is ours, and results are the CPU provider's."""
    model = carried(nodes, shapes[0], weights, declared, opset)
    ours, theirs = owned_session(model), cpu_session(model)
    for i, shape in enumerate(shapes):
        feeds = {"x": noise(np.random.default_rng(i), *shape)}
        assert_close(ours.run(None, feeds)[0], theirs.run(None, feeds)[0])


@examples(60)
@given(st.data())
def test_resize(data):
    """Any number of spatial dimensions, by scales and by sizes; cubic with each of its attributes."""
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic", "cubic"]))
    rank = 4 if mode == "cubic" else data.draw(st.sampled_from([3, 5]))
    image = data.draw(st.lists(st.integers(2, 7), min_size=rank - 2, max_size=rank - 2))
    attributes = {"mode": mode, "coordinate_transformation_mode": data.draw(st.sampled_from(COORDINATES))}
    if mode == "cubic":
        attributes |= {"exclude_outside": data.draw(st.integers(0, 1)), "cubic_coeff_a": data.draw(st.sampled_from([-0.5, -0.75]))}
    shapes = [(2, 3, *image), (1, 2, *(size + 1 for size in image[:-1]), image[-1])]
    if data.draw(st.booleans()):
        sizes = [data.draw(st.integers(1, 12)) for _ in image]
        if mode == "cubic" and sizes == image:
            sizes[0] += 1
        weights, inputs, shapes = {"sizes": np.array([2, 3, *sizes])}, ["p", "", "", "sizes"], shapes[:1]
    else:
        scales = [
            data.draw(
                st.sampled_from([1.0, 2.0, 3.0, *([] if attributes["coordinate_transformation_mode"] == "align_corners" else [0.5, 1.5])])
            )
            for _ in image
        ]
        weights, inputs = {"scales": np.array([1, 1, *scales], np.float32)}, ["p", "", "scales"]
    nodes = [helper.make_node("Resize", inputs, ["q"], **attributes), helper.make_node("Neg", ["q"], ["y"])]
    check(nodes, shapes, weights, dynamic(shapes[0]) if len(shapes) > 1 else None)


@examples(20)
@given(st.data())
def test_upsample(data):
    """The operator of opsets 7 to 9, with scales as an attribute and as an input."""
    opset, rank = data.draw(st.sampled_from([8, 9])), data.draw(st.sampled_from([3, 4, 4, 5]))
    shape = (2, 2, *(data.draw(st.integers(2, 6)) for _ in range(rank - 2)))
    scales = np.array([1, 1, *(data.draw(st.sampled_from([1.0, 2.0, 3.0])) for _ in shape[2:])], np.float32)
    mode = data.draw(st.sampled_from(["nearest", "linear"]))
    if opset == 9:
        node, weights = helper.make_node("Upsample", ["p", "scales"], ["q"], mode=mode), {"scales": scales}
    else:
        node, weights = helper.make_node("Upsample", ["p"], ["q"], mode=mode, scales=scales.tolist()), {}
    check([node, helper.make_node("Neg", ["q"], ["y"])], [shape], weights, opset=opset)


@examples(20)
@given(st.data())
def test_lrn(data):
    """Windows wider than the channels, and any exponent."""
    shape = [data.draw(st.integers(1, most)) for most in (2, 9, 40, 30)]
    numbers = {"alpha": data.draw(st.sampled_from([1e-4, 0.5])), "beta": data.draw(st.sampled_from([0.75, 0.5])), "bias": 2.0}
    node = helper.make_node("LRN", ["p"], ["y"], size=data.draw(st.sampled_from([1, 3, 5, 7])), **numbers)
    check([node], [shape, [1, shape[1], *shape[2:]]], {}, dynamic(shape))
