"""Records what the command line prints, for the pictures of terminals: `python docs/terminals.py` with the package and its extra `[cli]`.

Each file in data/terminal/ begins with the command and has its output with colours as ANSI codes. pictures.py draws it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "data" / "terminal"
EXPLAIN = """\
import onnxruntime as ort, onnxruntime_ep_sparse as sparse
sparse.register()
session = ort.InferenceSession("pruned.onnx", providers=[("SparseExecutionProvider", {"threads": "1"}), "CPUExecutionProvider"])
for decision in sparse.explain(session):
    print(f"{decision.name:12} {decision.op_type:18} {'taken' if decision.taken else 'left':6} {decision.reason}")
"""
COMMANDS = {
    "analyze": (148, "ort-sparse analyze pruned.onnx --all --option threads=1"),
    "bench": (100, "ort-sparse bench pruned.onnx --threads 1"),
    "explain": (100, "python explain.py"),
}
"""Name of the picture: width of the terminal, and the command."""
LAYERS = (("stem", 32, 16, 3, 0.0), ("expand", 128, 32, 1, 0.9), ("wide", 128, 128, 3, 0.9), ("narrow", 128, 128, 1, 0.3))
"""Name, outputs, inputs, size of the window and share of zeros of each convolution."""


def model() -> onnx.ModelProto:
    """Return a small net with layers of which some are worth taking, on images of 56 x 56."""
    rng = np.random.default_rng(0)
    nodes, constants, x = [], [], "x"
    for name, outputs, inputs, size, zeros in LAYERS:
        weight = rng.standard_normal((outputs, inputs, size, size)).astype(np.float32) / np.float32(np.sqrt(inputs) * size)
        weight[rng.random(weight.shape) < zeros] = 0
        constants.append(numpy_helper.from_array(weight, f"{name}.weight"))
        nodes.append(helper.make_node("Conv", [x, f"{name}.weight"], [f"{name}.y"], name=name, pads=[size // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}.y"], [f"{name}.relu"], name=f"{name}.relu"))
        x = f"{name}.relu"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Softmax", ["pooled"], ["y"], name="softmax", axis=1))
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 56, 56]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Run the commands and write what they print."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model(), Path(folder, "pruned.onnx"))
        Path(folder, "explain.py").write_text(EXPLAIN)
        for name, (width, command) in COMMANDS.items():
            first, *rest = command.split()
            program = [sys.executable, *(rest if first == "python" else ["-m", "onnxruntime_ep_sparse", *rest])]
            environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(width)}
            done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=True)
            (FOLDER / f"{name}.txt").write_text(f"$ {command}\n{done.stdout.rstrip()}\n")


if __name__ == "__main__":
    main()
