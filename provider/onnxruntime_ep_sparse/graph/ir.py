"""The graph representation between ONNX Runtime's C objects and everything that decides or lowers.

One small immutable copy of what `GetCapability` and `Compile` are shown. `ort/_graph_reader.pyx` builds it from an `OrtGraph`;
`partition/select.py` and `pipeline.py` know nothing else of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from .nonzeros import Nonzeros

FLOAT = 1
"""`ONNXTensorElementDataType` of float32, the one element type that products compute in (the same number in `onnx.TensorProto`)."""
UINT8 = 2
INT8 = 3
INT32 = 6
INT64 = 7
BOOL = 9
FLOAT16 = 10
FLOAT64 = 11
BFLOAT16 = 16
BYTES = (UINT8, INT8)
"""Those of 8-bit integers."""
INTEGERS = (INT64, INT32)
"""Those of integers that keep their type between steps: ids, positions, lengths."""
CARRIED = (*BYTES, BOOL)
"""Those that are floats between steps: truths are 0 and 1."""
TYPE_NAMES = (
    *("unknown", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64"),
    *("uint32", "uint64", "complex64", "complex128", "bfloat16"),
)
"""Names of the first element types, by these numbers."""
EP_CONTEXT = ("com.microsoft", "EPContext")
"""Domain and operator of the nodes in which compiled models keep what a provider has made of a region."""
CONTEXT_DATA = "ep_cache_context"
"""Their attribute that holds the bytes, or the name of the file that does."""
NOTES = "notes"
"""Their attribute that holds words for people."""
KEPT = 4
"""Number of computed constants that are kept for the next caller. All constants of a net would take more memory than the model."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the graph.

    `dtype` is the ONNX element type number (0 if it is unknown or no tensor); `shape` has one entry a dimension: an int, a symbolic
    name, or None where nothing is known; it is None as a whole when the rank is unknown.
    """

    name: str
    dtype: int
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call.

    `inputs` holds "" where an optional input is left out; `implicit_inputs` are the values that the node's subgraphs read from around it.
    `attributes` are decoded: int, float, str, tuples of one of these; a number for a tensor of one element. None where
    the attribute is of another kind (larger tensors, graphs).
    `ep_name` is the provider that has the node already, or "". `counts` says that the node computes only a few numbers, such as those of a
    shape, which a plan can hold; `integers`, that it makes or reads tensors of int64 or int32. `covers` holds the indices of other nodes
    whose work a pass has moved here.
    """

    index: int
    name: str
    op_type: str
    domain: str
    since_version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object]
    ep_name: str = ""
    implicit_inputs: tuple[str, ...] = ()
    covers: tuple[int, ...] = ()
    counts: bool = False
    integers: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, the values they name, and the constant ones among these.

    Names that ONNX Runtime shows of several tensors stand at nodes only, and in no mapping: such nodes cannot be run.

    `load` returns the data of a constant as a numpy view that is valid only during the ONNX Runtime call that built the graph;
    `constant_names` are the initializers that no graph input can override. `nonzeros` has those that are stored without their zeros
    in a form that spares making them dense, and None for all others. `defaults` are initializers that a graph input can override.
    `narrow` has the element types in the file of values of 16 bits, which are float32 in `values` and are computed so (`passes/widen.py`).
    """

    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    constant_names: frozenset[str]
    load: Callable[[str], np.ndarray] = field(repr=False)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_subgraph: bool = False
    nonzeros: Callable[[str], Nonzeros | None] = field(repr=False, default=lambda name: None)
    defaults: frozenset[str] = frozenset()
    narrow: Mapping[str, int] = field(default_factory=dict)

    def is_constant(self, name: str) -> bool:
        """Return whether `name` is an initializer that cannot change between runs."""
        return name in self.constant_names

    def constant(self, name: str) -> np.ndarray | None:
        """Return the array called `name`, or None if it is not a constant initializer."""
        return self.load(name) if name in self.constant_names else None

    def is_read(self, name: str) -> bool:
        """Return whether a node or the graph's caller reads `name`."""
        return name in self.consumers or name in self.outputs

    @cached_property
    def producer(self) -> dict[str, Node]:
        """Return the node that makes each value."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def places(self) -> dict[int, int]:
        """Return where each node stands in `nodes`, by its index."""
        return {node.index: place for place, node in enumerate(self.nodes)}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Return the nodes that read each value, in order; a node that reads it twice stands there once."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs + node.implicit_inputs):
                if name:
                    readers.setdefault(name, []).append(node)
        return readers


def printable(name: str) -> str:
    """Return a name as it can be shown: bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def derived(what: str, name: str) -> str:
    """Return a name for what is made of tensor `name`; it ends with NUL, as no name of a file's tensor does that a node may read."""
    return f"{what} of {name}\0"


def type_name(dtype: int) -> str:
    """Return the name of an ONNX element type for messages."""
    return TYPE_NAMES[dtype] if 0 <= dtype < len(TYPE_NAMES) else f"number {dtype}"


def subgraph(graph: Graph, indices: Collection[int]) -> Graph:
    """Return the graph of some nodes, as if they were one region: what it reads are its inputs, what others read its outputs.

    The time goes with the number of these nodes, so that a graph can be cut into many.
    """
    nodes = tuple(graph.nodes[place] for place in sorted(graph.places[i] for i in indices))
    made = {name for node in nodes for name in node.outputs if name}
    read = dict.fromkeys(name for node in nodes for name in node.inputs + node.implicit_inputs if name)
    leaving = {name for name in made if any(reader.index not in indices for reader in graph.consumers.get(name, ()))}
    leaving.update(graph.outputs)
    return replace(
        graph,
        nodes=nodes,
        inputs=tuple(name for name in read if name not in made and not graph.is_constant(name)),
        outputs=tuple(name for node in nodes for name in node.outputs if name and name in leaving),
    )


def shape_of(graph: Graph, name: str) -> tuple[int | str | None, ...]:
    """Shape of a value whose rank is known."""
    shape = graph.values[name].shape
    assert shape is not None
    return shape


def sizes_of(graph: Graph, name: str) -> tuple[int, ...]:
    """Shape of a constant."""
    return tuple(size for size in shape_of(graph, name) if isinstance(size, int))


def weight_of(graph: Graph, name: str) -> np.ndarray | Nonzeros:
    """Return a constant by its nonzeros if it is available so, else dense."""
    nonzeros = graph.nonzeros(name)
    return graph.load(name) if nonzeros is None else nonzeros


def input_of(node: Node, place: int) -> str:
    """Return the name of an input, "" if the node does not have it or `place` is negative."""
    return node.inputs[place] if 0 <= place < len(node.inputs) else ""


def attribute_of(node: Node, name: str, default: Any) -> Any:
    """Return an attribute, or the default if the node does not have it."""
    return node.attributes.get(name, default)


def number_of(node: Node, name: str, default: float) -> float:
    """Return a FLOAT or INT attribute as a float, or `default` if the node has no such number."""
    value = node.attributes.get(name)
    return float(value) if isinstance(value, int | float) else default


def with_constants(
    graph: Graph,
    nodes: tuple[Node, ...],
    computed: Mapping[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]],
    nonzeros: Mapping[str, Callable[[], Nonzeros | None]],
) -> Graph:
    """Return the graph with other nodes and more constants: name -> shape, and the function that computes one when it is loaded.

    `nonzeros` has functions that return constants by their nonzeros. The names are `derived` ones, of float32, or those of values that
    nodes make.
    """

    @lru_cache(KEPT)
    def result(name: str) -> np.ndarray:
        return computed[name][1]()

    @cache
    def nonzeros_of(name: str) -> Nonzeros | None:
        return nonzeros[name]() if name in nonzeros else graph.nonzeros(name)

    return replace(
        graph,
        nodes=nodes,
        values={
            **graph.values,
            **{
                name: Value(name, graph.values[name].dtype if name in graph.values else FLOAT, shape)
                for name, (shape, _) in computed.items()
            },
        },
        constant_names=graph.constant_names | computed.keys(),
        load=lambda name: result(name) if name in computed else graph.load(name),
        nonzeros=nonzeros_of,
    )
