"""Which convolutions ONNX Runtime runs in blocks of channels: what the expected times assume is what its optimiser does."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.ops.costs import is_blocked

CASES = (
    *((m, c, 1) for m in (2, 22, 64) for c in (3, 12, 17, 18, 20, 22, 24, 64)),
    *((channels, 1, channels) for channels in (10, 20, 22, 44, 64, 72)),
    *((128, 4, 32), (128, 16, 8), (128, 32, 4), (42, 6, 7), (48, 1, 24), (48, 16, 3)),
)
"""Outputs, input channels of a group, groups."""


def optimised(m, c, groups, folder):
    """The Conv that ONNX Runtime makes of one with a 3x3 window, and the outputs that its weight then has."""
    weight = numpy_helper.from_array(np.ones((m, c, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, pads=[1] * 4)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, c * groups, 8, 8]), ("y", None))]
    graph = helper.make_graph([node], "conv", ends[:1], ends[1:], [weight])
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    written = onnx.load(options.optimized_model_filepath).graph
    (conv,) = (node for node in written.node if node.op_type == "Conv")
    return conv, next(tensor.dims[0] for tensor in written.initializer if tensor.name == conv.input[1])


@pytest.mark.parametrize(("m", "c", "groups"), CASES)
def test_the_optimiser_blocks_the_same_convolutions(m, c, groups, tmp_path):
    """Whatever the number of channels; a block is what it makes of a single output."""
    single, block = optimised(1, 32, 1, tmp_path)
    if "nchwc" not in single.domain:
        pytest.skip("this ONNX Runtime has no blocked layout on this CPU")
    conv, _ = optimised(m, c, groups, tmp_path)
    assert is_blocked(block, (1, c * groups, 8, 8), (m, c, 3, 3), groups) == ("nchwc" in conv.domain)


def test_other_dimensions_have_no_blocks():
    """Only images of two dimensions do."""
    assert is_blocked(8, (1, 16, 9, 9), (16, 16, 3, 3), 1)
    assert not is_blocked(8, (1, 16, 9), (16, 16, 3), 1)
    assert not is_blocked(8, (1, 16, 9, 9, 9), (16, 16, 3, 3, 3), 1)
