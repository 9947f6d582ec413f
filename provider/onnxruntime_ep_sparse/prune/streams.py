"""Runs a model piece by piece, up to each layer, for all batches: once as it was given, once as far as it is pruned."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from ..ort.sessions import CPU, make_session
from .batches import Batch, Batches
from .layers import Site
from .source import Changes, names_read, typed
from .store import Arrays, Store
from .workers import Workers


class Stream:
    """The values of a model at one point of its list of nodes, for all batches.

    Before that point all nodes have run. Only values that later nodes read are kept, and the model's outputs.
    """

    def __init__(self, changes: Changes, batches: Batches, watched: Collection[str], workers: Workers, store: Store) -> None:
        """Begin before the first node. Values whose names are in `watched` must be finite."""
        self.changes = changes
        self.position = 0
        self.live: dict[str, Arrays] = {}
        self._batches: Sequence[int] = range(len(batches))
        self._probe: tuple[int, Piece] | None = None
        self._watched, self._workers, self._store = watched, workers, store
        self.live.update(batches.inputs)

    def __getitem__(self, name: str) -> Arrays:
        return self.live[name]

    def has(self, names: Sequence[str]) -> bool:
        """Return whether all of these values are constants, or live."""
        return all(name in self.live or self.changes.source.is_constant(name) for name in names)

    def site(self, index: int, batch: int) -> Site:
        """Return a node, whose inputs are constants or live, with a batch."""
        node = self.changes.nodes[index]

        def value(slot: int) -> NDArray | None:
            name = node.input[slot] if slot < len(node.input) else ""
            if not name:
                return None
            return self.live[name][batch] if name in self.live else self.changes.array(name)

        def output() -> NDArray:
            if self._probe is None or self._probe[0] != index:
                self._probe = index, self._probe_of(node)
            piece = self._probe[1]
            return piece.run({name: self.live[name][batch] for name in piece.inputs})[piece.outputs[0]]

        return Site(value, output)

    def _probe_of(self, node: NodeProto) -> Piece:
        """Return a session of a node alone, whose first output has a name in any case."""
        alone = NodeProto()
        alone.CopyFrom(node)
        alone.output[0] = alone.output[0] or "first output"
        return Piece(self.changes, [alone], [alone.output[0]], {name: values[0] for name, values in self.live.items()})

    def advance(self, position: int) -> None:
        """Run the nodes before `position` that have not run yet. ValueError if one fails, or makes a number that is not finite."""
        nodes = self.changes.nodes[self.position : position]
        needed = {name for names in self.changes.source.reads[position:] for name in names} | set(self.changes.source.outputs)
        made = {name: Arrays(self._store) for node in nodes for name in node.output if name in needed}
        if made:
            piece = Piece(self.changes, nodes, list(made), {name: values[0] for name, values in self.live.items()})

            def run(number: int) -> None:
                results = piece.run({name: self.live[name][number] for name in piece.inputs})
                for name, array in results.items():
                    if name in self._watched and array.dtype.kind == "f" and not np.isfinite(array).all():
                        raise ValueError(self._origin(nodes, name, number))
                    made[name][number] = array

            self._workers.map(run, self._batches)
        self.position = position
        for name in [name for name in self.live if name not in needed]:
            gone = self.live.pop(name)
            if name not in self.changes.source.inputs:  # other streams read the inputs too
                gone.drop()
        self.live |= made

    def _origin(self, nodes: Sequence[NodeProto], watched: str, batch: int) -> str:
        """Return a sentence about the node that first made the NaN or the infinity in a value."""
        leading = _leading_to(nodes, [watched])
        names = [name for node in leading for name in node.output if name]
        piece = Piece(self.changes, leading, names, {name: values[batch] for name, values in self.live.items()})
        results = piece.run({name: self.live[name][batch] for name in piece.inputs})
        test = np.isnan if np.isnan(results[watched]).any() else np.isinf
        for node in leading:
            if any(results[name].dtype.kind == "f" and test(results[name]).any() for name in node.output if name):
                what = "NaN" if test is np.isnan else "infinity"
                return f"node {node.name or node.output[0]!r} ({node.op_type}) makes {what} of the calibration data"
        raise AssertionError(f"{watched} is finite in a second run")

    def go_on_with(self, batches: Sequence[int]) -> None:
        """Run only `batches` from here on."""
        self._batches = batches


class Piece:
    """A session of some neighbouring nodes of a model."""

    def __init__(self, changes: Changes, nodes: Sequence[NodeProto], outputs: Sequence[str], examples: Batch) -> None:
        """Create the session. `examples` has all values that nodes before these ones make, of the types and ranks that they have.

        ValueError if onnxruntime cannot load the nodes.
        """
        source = changes.source
        self.outputs = list(outputs)
        nodes = _leading_to(nodes, outputs)
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(name for node in nodes for name in names_read(node) if name not in made))
        self.inputs = [name for name in read if name in examples]
        graph = GraphProto(name="piece", node=nodes, input=typed(self.inputs, examples))
        graph.output.extend(ValueInfoProto(name=name) for name in outputs)
        for name in read:
            if name in changes.constants or name in source.constants:
                graph.initializer.append(changes.tensor(name))
            elif name in source.sparse_constants:
                graph.sparse_initializer.append(source.sparse_constants[name])
        model = ModelProto(ir_version=source.model.ir_version, graph=graph)
        model.opset_import.extend(source.model.opset_import)
        model.functions.extend(source.model.functions)
        self._session = _session(model, source.path, nodes)

    def run(self, values: Batch) -> Batch:
        """Return the outputs for some values of the inputs. ValueError if a node fails, or makes something that is not a tensor."""
        try:
            results = self._session.run(self.outputs, values)
        except Exception as error:  # onnxruntime's own classes
            raise ValueError(f"onnxruntime cannot run the model on these data: {_one_line(error)}") from None
        for name, result in zip(self.outputs, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise ValueError(f"{name!r} is not a tensor, but has to be kept while a layer is pruned")
        return dict(zip(self.outputs, results, strict=True))


def _session(model: ModelProto, path: Any, nodes: Sequence[NodeProto]) -> Any:
    """Return a session of one thread. Batches run side by side instead: so results do not depend on the number of threads."""
    try:
        return make_session(model.SerializeToString(), CPU, threads=1, silent=True, folder=path and path.parent)
    except Exception as error:  # onnxruntime's own classes, or protobuf's for more than 2 GB
        where = f"nodes {nodes[0].name or nodes[0].output[0]!r} to {nodes[-1].name or nodes[-1].output[0]!r}"
        raise ValueError(f"onnxruntime cannot load {where}: {_one_line(error)}") from None


def _leading_to(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """Return those of the nodes whose results the outputs need, in the same order."""
    needed = set(outputs)
    found = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(names_read(node))
            found.append(node)
    return found[::-1]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
