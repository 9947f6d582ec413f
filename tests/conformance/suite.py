"""ONNX's own backend cases, prepared so that our provider can own them.

In these cases the weights are inputs, so a provider of constant weights would take nothing and every case would pass on the CPU provider.
`fold` makes initializers of them; `carry` puts a product by the identity before a lone neighbour, which no region is built around; and the
outcome of a case says who had its nodes. `python suite.py` (with the package importable) writes `cases.txt` anew.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

LIST = Path(__file__).with_name("cases.txt")
RECURRENT = {"LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3)}
QUANTISED = {"QLinearConv": (3, 5), "QLinearMatMul": (3, 5), "ConvInteger": (1, 3), "MatMulInteger": (1, 3)}
"""The weight of a product of integers and its zero point, by operator."""
PRODUCTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    **RECURRENT,
    **{name: tuple(range(1, 9)) for name in QUANTISED},
}
"""Inputs that become initializers, by operator."""
PARAMETERS = {
    **PRODUCTS,
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), (1, 2)),
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization"), (1, 2)),
    **dict.fromkeys(("Expand", "Gather", "Pow", "PRelu", "Reshape", "RMSNormalization", "Split", "Squeeze", "Unsqueeze", "Upsample"), (1,)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare"), (1,)),
    "Slice": (1, 2, 3, 4),
    "Where": (0, 2),
    **dict.fromkeys(("Pad", "Resize"), (1, 2, 3)),
}
IDENTITY = "identity_"


@dataclass(frozen=True)
class Case:
    """A model and what it computes: `data` holds (inputs, outputs) by name."""

    name: str
    model: onnx.ModelProto
    data: tuple[tuple[dict[str, np.ndarray], dict[str, np.ndarray]], ...]
    rtol: float
    atol: float


@cache
def cases() -> dict[str, Case]:
    """Every case of ONNX's node, pytorch-converted and pytorch-operator series that has an operator of our table, weights folded."""
    from onnx.backend.test.loader import load_model_tests

    found = {}
    with warnings.catch_warnings():
        # the cases' own float overflows and the like
        warnings.simplefilter("ignore")
        for kind in ("node", "pytorch-converted", "pytorch-operator"):
            for case in load_model_tests(kind=kind):
                model = case.model if case.model is not None else onnx.load(Path(case.model_dir, "model.onnx"))
                if any(node.op_type in supported() for node in model.graph.node):
                    found[case.name] = fold(Case(case.name, *_data_of(case, model), case.rtol, case.atol))
    return dict(sorted(found.items()))


def supported() -> set[str]:
    """The operators of our table."""
    from onnxruntime_ep_sparse.ops.table import OPS

    return set(OPS)


def _data_of(case, model):
    """The model, and its data sets by name."""
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [name for name in inputs if name not in initialized]
    sets = case.data_sets
    if sets is None:
        sets = []
        for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
            sets.append(
                [[_tensor(folder / f"{kind}_{i}.pb") for i in range(n)] for kind, n in (("input", len(inputs)), ("output", len(outputs)))]
            )
    sets = [[[np.asarray(v) if isinstance(v, np.generic) else v for v in values] for values in pair] for pair in sets]
    return model, tuple((dict(zip(inputs, x, strict=False)), dict(zip(outputs, y, strict=True))) for x, y in sets)


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def fold(case: Case) -> Case:
    """Weights, biases and other parameters become initializers, where the case has one set of data."""
    if len(case.data) != 1:
        return case
    ((inputs, outputs),) = case.data
    names = {node.input[i] for node in case.model.graph.node for i in PARAMETERS.get(node.op_type, ()) if i < len(node.input)}
    # something must remain to be computed
    made = {name for name in names if name in inputs and isinstance(inputs[name], np.ndarray)}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for name in sorted(made):
        model.graph.initializer.append(numpy_helper.from_array(inputs[name], name))
    kept = [value for value in model.graph.input if value.name not in made]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Case(case.name, model, (({name: x for name, x in inputs.items() if name not in made}, outputs),), case.rtol, case.atol)


def carry(case: Case) -> Case | None:
    """The case with MatMul by the identity behind each float input, or before each float output if it has no such input.

    That is exact. None if there is no value that can take one.
    """
    (node,) = case.model.graph.node if len(case.model.graph.node) == 1 else (None,)
    if node is None or len(case.data) != 1:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    before, after = [], []
    for name, x in case.data[0][0].items():
        if isinstance(x, np.ndarray) and x.dtype == np.float32 and x.ndim and 0 < x.shape[-1] <= 1024 and np.isfinite(x).all():
            model.graph.initializer.append(numpy_helper.from_array(np.eye(x.shape[-1], dtype=np.float32), f"{IDENTITY}{name}"))
            before.append(helper.make_node("MatMul", [name, f"{IDENTITY}{name}"], [f"carried_{name}"]))
            for i, used in enumerate(model.graph.node[0].input):
                if used == name:
                    model.graph.node[0].input[i] = f"carried_{name}"
    for name, y in case.data[0][1].items() if not before else ():
        if isinstance(y, np.ndarray) and y.dtype == np.float32 and y.ndim and 0 < y.shape[-1] <= 1024 and np.isfinite(y).all():
            model.graph.initializer.append(numpy_helper.from_array(np.eye(y.shape[-1], dtype=np.float32), f"{IDENTITY}{name}"))
            after.append(helper.make_node("MatMul", [f"carried_{name}", f"{IDENTITY}{name}"], [name]))
            outputs = model.graph.node[0].output
            outputs[list(outputs).index(name)] = f"carried_{name}"
    if not before and not after:
        return None
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Case(case.name, model, case.data, case.rtol, case.atol)


def weights_of(node: onnx.NodeProto) -> list[str]:
    """The operands of a product, the weight of one of integers, the two weights of a recurrent node."""
    if node.op_type in QUANTISED:
        return [node.input[QUANTISED[node.op_type][0]]]
    return list(node.input[1:3] if node.op_type in RECURRENT else node.input[:2])


def masked(case: Case, zeros: float) -> onnx.ModelProto:
    """The model with this share of zeros in every folded weight of a product, always the same ones."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    weights = {name for node in model.graph.node if node.op_type in PRODUCTS for name in weights_of(node)}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros_of = {}
    for node in model.graph.node:
        place, zero = QUANTISED.get(node.op_type, (0, 0))
        if place:
            found = arrays.get(node.input[zero]) if zero < len(node.input) else None
            # per output channel or per column, where there are several
            axis_first = node.op_type.endswith("Conv") or node.op_type.startswith("Conv")
            rank = arrays[node.input[place]].ndim
            shape = (-1, *[1] * (rank - 1)) if axis_first else (-1,)
            zeros_of[node.input[place]] = np.int64(0) if found is None else found.reshape(shape if found.size > 1 else ())
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            array, zero = numpy_helper.to_array(tensor), zeros_of.get(tensor.name, np.float32(0))
            keep = np.random.default_rng(0).permutation(array.size).reshape(array.shape) >= round(zeros * array.size)
            tensor.CopyFrom(numpy_helper.from_array(np.where(keep, array, zero).astype(array.dtype), tensor.name))
    return model


def outcome(case: Case) -> str:
    """`owned`: our provider has every node. `carried`: the same behind a product by the identity. `shared: ...`: every product is ours, and
    the CPU provider has the operators named. `declined: reason`: nothing is ours. Results are checked wherever anything is ours.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

    from onnxruntime_ep_sparse import EP_NAME, explain
    from support.promises import assignment, make_session

    has_product = any(node.op_type in PRODUCTS for node in case.model.graph.node)
    carried = None if has_product else carry(case)
    try:
        session = make_session((carried or case).model)
    except NotImplemented:
        return "declined: ONNX Runtime has no kernel for it"
    nodes = assignment(session)
    if not nodes:
        return "declined: folded into a constant"
    theirs = sorted({operator for provider, operator in nodes if provider != EP_NAME})
    reasons = {f"{d.op_type}: {d.reason}" for d in explain(session) if not d.taken and (d.op_type in PRODUCTS or carried)}
    refused = f"declined: {'; '.join(sorted(reasons)) or 'no product in the graph'}"
    if all(provider != EP_NAME for provider, _ in nodes) or (carried and theirs):
        # ONNX Runtime's own kernels fail some cases of Resize
        return refused
    for feeds, expected in (carried or case).data:
        for got, (name, wanted) in zip(session.run(None, feeds), expected.items(), strict=True):
            np.testing.assert_allclose(got, wanted, case.rtol, case.atol, err_msg=f"{case.name}, {name}")
    if not theirs:
        return "carried" if carried else "owned"
    return f"shared: {', '.join(theirs)}"


@cache
def listed() -> dict[str, str]:
    """The checked-in outcome of every case."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(maxsplit=1) for line in lines)


def main() -> None:
    """Write the list."""
    import onnxruntime_ep_sparse

    onnxruntime_ep_sparse.register()
    head = f"# Outcome of every case of onnx {onnx.__version__}; written by suite.py, which explains the words.\n"
    LIST.write_text(head + "".join(f"{name} {outcome(case)}\n" for name, case in cases().items()))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
