"""How large arenas are, and the least that they could be: the values that are needed at the same time, at the widest step.

    python tests/benchmarks/arenas.py [--threads 1] [--json FILE] [NET ...]

A line has MB of the largest region of a net at its own size, one image or sequence: of the arena without scratch, of the values alive at
the widest step, and the ratio of both. Inputs and results of the region, and values between steps that run in bands, are not in the arena.
"""

from __future__ import annotations

import argparse

import onnx
import onnxruntime as ort
from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for
from onnxruntime_ep_sparse.options import Options
from onnxruntime_ep_sparse.ort import _region
from onnxruntime_ep_sparse.program.steps import ProgramSpec, Step
from onnxruntime_ep_sparse.runtime._program import Place, Program

NETS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "unet", "convnext_tiny", "deeplab_v3", "bert_base")
MORE_VALUES = ("last_h", "last_c", "lengths", "initial_h", "initial_c")
FLOATS_PER_MB = 2**20 / 4
COLUMNS = (("net", "{net}"), ("arena MB", "{arena_mb:.2f}"), ("values at the widest step", "{least_mb:.2f}"), ("ratio", "{ratio:.3f}"))


def touched(step: Step) -> set[int]:
    """The values that a step reads or writes."""
    return {step.x, step.r, step.y, *(getattr(step.spec, name, -1) for name in MORE_VALUES)} - {-1}


def covered(places: list[Place]) -> int:
    """Floats of the arena that these values take together; some show the memory of others."""
    total = end = 0
    for place in sorted(places, key=lambda place: place.offset):
        total += max(0, place.offset + place.size - max(end, place.offset))
        end = max(end, place.offset + place.size)
    return total


def widths(spec: ProgramSpec, places: list[Place]) -> tuple[int, int]:
    """Floats up to the end of the last value, and floats of the values that are needed at the widest step."""
    life: dict[int, list[int]] = {}
    for s, step in enumerate(spec.steps):
        for value in touched(step):
            if places[value].storage == "arena":
                life.setdefault(value, [s, s])[1] = s
    alive = [[places[value] for value, (first, last) in life.items() if first <= s <= last] for s in range(len(spec.steps))]
    return max((places[value].offset + places[value].size for value in life), default=0), max(map(covered, alive), default=0)


def measured(name: str, threads: int) -> tuple[int, int]:
    """`widths` of the largest region of a net."""
    found: list[tuple[int, int]] = []
    model = BUILDERS[name](0.9)
    known = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = {value: array.shape for value, array in inputs_for(known).items()}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        shapes[value.name] = tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)

    def program_of(spec: ProgramSpec, options: Options) -> Program:
        program = pipeline.program_of(spec, options)
        if all(value in shapes for value in program.input_names):
            found.append(widths(spec, program.places(*(shapes[value] for value in program.input_names))))
        return program

    _region.program_of = program_of
    ort.InferenceSession(model.SerializeToString(), providers=[(sparse.EP_NAME, {"threads": str(threads)}), "CPUExecutionProvider"])
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET")
    parser.add_argument("--threads", type=int, default=1)
    add_json(parser)
    arguments = parser.parse_args()
    sparse.register()
    with Report(arguments.json) as report:
        report.table("", COLUMNS)
        for name in arguments.nets:
            arena, least = measured(name, arguments.threads)
            report.row(net=name, arena_mb=arena / FLOATS_PER_MB, least_mb=least / FLOATS_PER_MB, ratio=arena / max(least, 1))


if __name__ == "__main__":
    main()
