"""`ort-sparse check`: versions, CPU and devices of this machine, and whether the provider works on it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.table import Column, Table

import onnxruntime_ep_sparse_kernels as kernels

from .. import __version__, cpus, measure, options
from ..cpus import cpu_model
from ..options import EP_NAME
from ..ort import registration
from .common import JsonOption, Output


@dataclass(frozen=True)
class SelfTest:
    """The result of one node on both providers."""

    operator: str
    owned: bool
    max_relative: float | None
    passed: bool
    message: str


def check(json: JsonOption = None) -> None:
    """Print versions, CPU and devices, and run a short self-test."""
    out = Output("check", json)
    ort = registration.runtime()
    error = ""
    try:
        given: options.Options | None = options.parse({})
        registration.register()
    except (ValueError, ImportError, RuntimeError) as problem:
        given, error = None, " ".join(str(problem).split())
    available = kernels.available_isas()
    chosen, byte_set = ("", "") if given is None else (options.isa_of(given).name, options.byte_set_of(given))
    tests = [SelfTest(op, False, None, False, error) if error else self_test(op) for op in ("Conv", "MatMul")]
    passed = all(test.passed for test in tests)
    supported = f">= {_dotted(registration.OLDEST)}, tested up to {_dotted(registration.NEWEST_TESTED)}"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    features = [name for name, there in kernels.cpu_features().items() if there]
    devices = [
        {"provider": d.ep_name, "vendor": d.ep_vendor, "type": d.device.type.name, "metadata": dict(d.ep_metadata)}
        for d in ort.get_ep_devices()
    ]

    facts = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for row in (
        ("onnxruntime-ep-sparse", __version__),
        ("onnxruntime", f"{ort.__version__} (supported: {supported})"),
        ("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("numpy", np.__version__),
        ("CPU", f"{cpu_model()}: {', '.join(features) or 'no extensions known'}"),
        ("instruction set", f"{chosen or 'none'} (compiled: {', '.join(kernels.compiled_isas())}; runs here: {', '.join(available)})"),
        ("kernels for bytes", f"{byte_set or 'none'} (run here: {', '.join(kernels.available_byte_sets())})"),
        ("", "override both: option isa=NAME or environment variable ORT_SPARSE_ISA=NAME"),
        ("cores", f"{os.cpu_count()}, available to this process: {len(cores)}: {_ranges(cores)}; usable at once: {cpus.usable()}"),
        *(("device", f"{d['provider']} on {d['type']} ({d['vendor']})") for d in devices),
        *((f"self-test {t.operator}", f"{'PASS' if t.passed else 'FAIL'}: {t.message}") for t in tests),
    ):
        facts.add_row(*row)
    out.print(facts)
    out.print("PASS" if passed else "FAIL")
    out.document(
        {
            "passed": passed,
            "versions": {
                "onnxruntime-ep-sparse": __version__,
                "onnxruntime": ort.__version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
            },
            "onnxruntime_supported": {"oldest": _dotted(registration.OLDEST), "newest_tested": _dotted(registration.NEWEST_TESTED)},
            "cpu": {"model": cpu_model(), "features": features},
            "isa": {"compiled": list(kernels.compiled_isas()), "available": list(available), "chosen": chosen or None},
            "byte_sets": {"available": list(kernels.available_byte_sets()), "chosen": byte_set or None},
            "cores": {"count": os.cpu_count(), "affinity": cores, "usable": cpus.usable()},
            "devices": devices,
            "self_test": [asdict(test) for test in tests],
        }
    )
    if not passed:
        raise typer.Exit(1)


def self_test(operator: str) -> SelfTest:
    """Run one pruned node with `policy=always`. It passes if the sparse provider takes it and agrees with the CPU provider."""
    model, feeds = _pruned_node(operator)
    try:
        ours, theirs = measure.make_session(model, EP_NAME, {"policy": "always"}), measure.make_session(model, measure.CPU)
        owned = measure.ownership(ours).owned == 1
        (agreement,) = measure.agree(["y"], ours.run(None, feeds), theirs.run(None, feeds))
    except Exception as error:  # any error is the result of the test
        return SelfTest(operator, False, None, False, " ".join(str(error).split()))
    passed = owned and agreement.within()
    message = f"max|y - y_ort| = {agreement.max_relative:.1e} max|y_ort|" if owned else f"{EP_NAME} did not take the node"
    return SelfTest(operator, owned, agreement.to_dict()["max_relative"], passed, message)


def _pruned_node(operator: str) -> tuple[bytes, dict[str, Any]]:
    rng = np.random.default_rng(0)
    shape, x_shape = {"Conv": ((64, 32, 3, 3), (2, 32, 28, 28)), "MatMul": ((256, 128), (50, 256))}[operator]
    weight = np.where(rng.random(shape) < 0.9, 0, rng.standard_normal(shape)).astype(np.float32)
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if operator == "Conv" else {}
    node = helper.make_node(operator, ["x", "w"], ["y"], name=operator, domain="", **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", x_shape), ("y", [None] * len(x_shape)))]
    graph = helper.make_graph([node], "self-test", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), {"x": rng.standard_normal(x_shape, np.float32)}


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _ranges(cores: list[int]) -> str:
    """Return numbers with ranges, for example 0-3,8."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
