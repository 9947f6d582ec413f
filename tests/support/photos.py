"""Images, models and expected results for the tests of batch jobs."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import mobilenet_v1
from onnxruntime_ep_sparse.prune.images import ImageOptions
from support.making import pruned

IMAGENET = "mean=0.485,0.456,0.406,std=0.229,0.224,0.225"


def by_single_session(folder, model=None, text=IMAGENET, providers=(sparse.EP_NAME, "CPUExecutionProvider")):
    """Return the first output for each readable image below `folder` by its path: one session, one image a run."""
    session = onnxruntime.InferenceSession(model or mobilenet_v1(0.9).SerializeToString(), providers=list(providers))
    options = ImageOptions.of(text, session.get_inputs())
    count = session.get_inputs()[0].shape[0]
    outputs = {}
    for path in sorted(folder.rglob("*.jpg")):
        try:
            sample = options.read(path)
        except ValueError:
            continue
        batch = np.stack([sample] * (count if isinstance(count, int) else 1))
        outputs[path.relative_to(folder).as_posix()] = session.run(None, {options.name: batch})[0][0].reshape(-1)
    return outputs


def fixed_batch_model():
    """Return the bytes of a small model of 4 images of 40 x 48 pixels, channels last: nine tenths of its weights are zero."""
    weights = numpy_helper.from_array(pruned(np.random.default_rng(0), (64, 3, 5, 5)), "w")
    more = numpy_helper.from_array(pruned(np.random.default_rng(1), (128, 64, 3, 3)), "v")
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    x = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [4, 40, 48, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 128, 1, 1])
    graph = helper.make_graph(nodes, "fixed", [x], [y], [weights, more])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
