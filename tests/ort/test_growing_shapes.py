"""Memory of sessions whose inputs grow from call to call: what is held follows the largest call, not the sum of all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import mobilenet_v1, resnet50
from support.making import pruned

CHILD = """
import ctypes, json, os, sys
import numpy as np
import onnxruntime
import onnxruntime_ep_sparse as sparse

path, provider, shapes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sparse.register()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
providers = [provider] if provider == "CPUExecutionProvider" else [provider, "CPUExecutionProvider"]
session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
if provider == sparse.EP_NAME:
    assert any(decision.taken for decision in sparse.explain(session))
name = session.get_inputs()[0].name

def resident():
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

session.run(None, {name: np.zeros(shapes[0], np.float32)})
before = resident()
for shape in shapes:
    session.run(None, {name: np.zeros(shape, np.float32)})
print((resident() - before) / 1e6)
"""
"""Prints by how many MB a process grows, beyond what malloc can give back."""


def chain():
    """Four MatMuls of 1024x1024 at 90 % zeros, over any number of rows."""
    rng = np.random.default_rng(0)
    nodes, constants, value = [], [], "x"
    for i in range(4):
        constants.append(numpy_helper.from_array(pruned(rng, (1024, 1024)), f"w{i}"))
        nodes += [helper.make_node("MatMul", [value, f"w{i}"], [f"a{i}"]), helper.make_node("Relu", [f"a{i}"], [f"b{i}"])]
        value = f"b{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1024]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETS = {
    "rows": (chain, [(8 * t, 1024) for t in range(20, 320)]),
    "images": (lambda: mobilenet_v1(0.9, classes=0), [(1, 3, 16 * t, 16 * t) for t in range(4, 30, 2)]),
    "batch": (lambda: resnet50(0.9, image=64), [(t, 3, 64, 64) for t in range(1, 17, 3)]),
}
"""Builders of nets, and the shapes of the calls."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux and glibc for the memory of a process")
@pytest.mark.parametrize("net", NETS)
def test_growing_shapes(net, tmp_path: Path):
    """A process of ours grows by at most 20 MB more than one of the CPU provider's."""
    build, shapes = NETS[net]
    path = tmp_path / "net.onnx"
    path.write_bytes(build().SerializeToString())
    grown = {}
    for provider in ("CPUExecutionProvider", sparse.EP_NAME):
        command = [sys.executable, "-c", CHILD, str(path), provider, json.dumps(shapes)]
        grown[provider] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown[sparse.EP_NAME] <= grown["CPUExecutionProvider"] + 20
