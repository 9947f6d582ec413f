"""Depthwise, grouped and dilated convolutions against the CPU provider: each between two pruned 1x1 convolutions, and alone.

    python tests/benchmarks/windows.py depthwise|grouped|dilated ... [--threads 1] [--isa NAME] [--pairs 15] [--only TEXT] [--json FILE]

`region` is the speed-up of the three convolutions together, `alone` that of a model of the convolution itself: medians of paired ratios.
"ours ms" is the time of its step between the two others, "CPU provider ms" that of its node in ONNX Runtime's profile, `ratio` their ratio.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models.masks import mask

COLUMNS = (
    ("window", "{window}"),
    ("ours ms", "{ours_ms:.3f}"),
    ("CPU provider ms", "{cpu_ms:.3f}"),
    ("ratio", "{ratio:.2f}"),
    ("region", "{region:.2f}"),
    ("alone", "{alone:.2f}"),
)


class Case(NamedTuple):
    """A convolution."""

    image: int
    channels: int
    outputs: int
    groups: int
    kernel: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    zeros: float = 0.0

    def __str__(self) -> str:
        kernel = "x".join(map(str, self.kernel)) + f"/{self.stride}" + (f" dilation {self.dilation}" if self.dilation > 1 else "")
        return f"{self.channels}->{self.outputs} in {self.groups} {kernel} @{self.image}, {self.zeros:.0%} zeros"


def depthwise() -> Iterator[Case]:
    """Windows of MobileNetV3, NASNet, ConvNeXt, FastViT, DeepLab, RepLKNet and of one dimension."""
    for image, channels in ((7, 512), (14, 384), (28, 256), (56, 96), (112, 32)):
        for size, stride, dilation in (
            (3, 1, 1),
            (3, 2, 1),
            (5, 1, 1),
            (5, 2, 1),
            (3, 1, 2),
            (3, 1, 3),
            (3, 1, 4),
            (5, 1, 2),
            (7, 1, 1),
            (7, 2, 1),
            (9, 1, 1),
            (11, 1, 1),
            (31, 1, 1),
        ):
            yield Case(image, channels, channels, channels, (size, size), stride, dilation)
        for kernel in ((1, 7), (1, 11), (7, 1), (11, 1), (3, 7)):
            yield Case(image, channels, channels, channels, kernel)
        for size, stride in ((3, 1), (3, 2), (7, 2)):
            yield Case(image, channels, 2 * channels, channels, (size, size), stride)


def grouped() -> Iterator[Case]:
    """Convolutions of ResNeXt (4 to 32 channels a group), RegNet and ShuffleNet, dense and pruned."""
    for image, channels, groups in ((56, 128, 32), (28, 256, 32), (14, 512, 32), (7, 1024, 32), (28, 128, 64), (56, 64, 4), (14, 384, 8)):
        for zeros in (0.0, 0.5, 0.8, 0.9):
            yield Case(image, channels, channels, groups, (3, 3), zeros=zeros)
    for image, channels, groups in ((28, 240, 3), (14, 480, 3), (14, 480, 8)):
        for zeros in (0.0, 0.8):
            yield Case(image, channels, channels, groups, (1, 1), zeros=zeros)


def dilated() -> Iterator[Case]:
    """Convolutions whose dilation is near the size of the image, as in the head of DeepLab."""
    for image in (17, 33, 65):
        for dilation in (1, 2, 6, 12, 18, 24, 36):
            for zeros in (0.8, 0.9):
                yield Case(image, 320, 256, 1, (3, 3), dilation=dilation, zeros=zeros)


SETS = {"depthwise": depthwise, "grouped": grouped, "dilated": dilated}


def model(case: Case, between: bool) -> bytes:
    """The convolution as a model, alone or between two pruned 1x1 convolutions."""
    rng = np.random.default_rng(0)

    def weight(*shape: int, zeros: float) -> np.ndarray:
        dense = rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:]) * (1 - zeros)))
        return mask(dense, zeros, "unstructured", rng).astype(np.float32)

    pads = [(k - 1) * case.dilation // 2 for k in case.kernel] * 2
    weights = {"w": weight(case.outputs, case.channels // case.groups, *case.kernel, zeros=case.zeros)}
    window = {"pads": pads, "strides": [case.stride] * 2, "dilations": [case.dilation] * 2, "group": case.groups}
    nodes, channels = [helper.make_node("Conv", ["x", "w"], ["y"], name="window", **window)], case.channels
    if between:
        channels = 64
        weights |= {"a": weight(case.channels, 64, 1, 1, zeros=0.9), "b": weight(64, case.outputs, 1, 1, zeros=0.9)}
        nodes = [
            helper.make_node("Conv", ["x", "a"], ["p"], name="before"),
            helper.make_node("Conv", ["p", "w"], ["q"], name="window", **window),
            helper.make_node("Relu", ["q"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "b"], ["y"], name="after"),
        ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, case.image, case.image])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "window", [x], [y], [numpy_helper.from_array(a, name) for name, a in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def speed_up(built: bytes, feeds: dict[str, np.ndarray], options: dict[str, str], threads: int, pairs: int) -> float:
    """Median speed-up of the provider that owns all nodes."""
    cpu = measure.make_session(built, measure.CPU, {}, threads)
    ours = measure.make_session(built, sparse.EP_NAME, options, threads)
    owned = measure.ownership(ours)
    assert owned.owned == owned.nodes
    y, z = cpu.run(None, feeds)[0], ours.run(None, feeds)[0]
    assert np.abs(y - z).max() <= 1e-4 * np.abs(y).max()
    return measure.ratio(*measure.alternate(cpu, ours, feeds, pairs=pairs, budget_s=1)).median


def step_ms(built: bytes, feeds: dict[str, np.ndarray], options: dict[str, str], threads: int, runs: int) -> float:
    """Milliseconds of the step in a run."""
    session = measure.make_session(built, sparse.EP_NAME, {**options, "profile": "1"}, threads)
    for _ in range(3):
        session.run(None, feeds)
    before = sparse.step_times(session)
    for _ in range(runs):
        session.run(None, feeds)
    (own,) = (s.since(b) for s, b in zip(sparse.step_times(session), before, strict=True) if s.name.startswith("window"))
    return own.ns / runs / 1e6


def node_ms(built: bytes, feeds: dict[str, np.ndarray], threads: int, runs: int) -> float:
    """Median milliseconds of the second of three convolutions in the CPU provider's profile."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads = threads
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(built, chosen, providers=[measure.CPU])
        for _ in range(runs + 3):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    times = [e["dur"] for e in events if e["name"].endswith("kernel_time") and e["args"]["op_name"] in ("Conv", "FusedConv")]
    return median(times[1::3][3:]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose description has this text")
    add_json(parser)
    arguments = parser.parse_args()
    sparse.register()
    options = {"policy": "always", "isa": arguments.isa, "threads": str(arguments.threads)}
    rng = np.random.default_rng(1)
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        for case in (case for name in arguments.sets for case in SETS[name]() if arguments.only in str(case)):
            built = {between: model(case, between) for between in (True, False)}
            feeds = {
                between: {"x": rng.standard_normal((1, 64 if between else case.channels, case.image, case.image), np.float32)}
                for between in built
            }
            own = step_ms(built[True], feeds[True], options, arguments.threads, arguments.pairs)
            theirs = node_ms(built[True], feeds[True], arguments.threads, arguments.pairs)
            region, alone = (speed_up(built[b], feeds[b], options, arguments.threads, arguments.pairs) for b in built)
            report.row(window=str(case), ours_ms=own, cpu_ms=theirs, ratio=theirs / own, region=region, alone=alone)


if __name__ == "__main__":
    main()
