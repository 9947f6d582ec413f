"""EPContext nodes, in which ONNX Runtime's compiled models keep what providers have made of regions: what ours say, where their bytes are.

ONNX Runtime defines node and session entries (EP Context Design): the bytes are in the node (`embed_mode` 1) or in a file beside the model.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import ISAS

from .._version import __version__
from ..files import write
from ..graph.ir import CONTEXT_DATA, EP_CONTEXT, FLOAT, Graph, Node
from ..options import EP_NAME
from ..program import serialize as compiled

MAX_EMBEDDED = 2**31 - 1
"""Bytes of an attribute: ONNX Runtime counts them with an int, and protobuf's files end there."""
OPTIMAL, PREFER_RECOMPILATION, UNSUPPORTED = 1, 2, 3
"""`OrtCompiledModelCompatibility`."""


@dataclass(frozen=True)
class Request:
    """What a session asks for: a compiled model, its bytes within the nodes or beside it, and the path of the model.

    `writes_bytes`: the model goes to memory (`compile_to_bytes`), so that there is no place beside it.
    """

    wanted: bool
    embed: bool
    path: str
    writes_bytes: bool

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Request:
        """From a session's configuration entries."""
        path = entries.get("ep.context_file_path", "")
        return cls(
            entries.get("ep.context_enable") == "1",
            entries.get("ep.context_embed_mode", "0") == "1",
            path,
            entries.get("session.compile_only") == "1" and not path,
        )


def attributes_of(name: str, isa: str, blob: bytearray, request: Request, model_path: str) -> dict[str, int | bytes | bytearray]:
    """The attributes of the node for region `name`; without `embed` its bytes are written to a file. ValueError where neither can be."""
    if request.embed and len(blob) > MAX_EMBEDDED:
        raise ValueError(
            f"{len(blob)} bytes of packed weights do not fit into a model, which can have 2 GB: "
            "compile with ep.context_embed_mode=0 (ModelCompiler: embed_compiled_data_into_model=False), for a file beside it"
        )
    return {
        "main_context": 1,
        "embed_mode": int(request.embed),
        CONTEXT_DATA: blob if request.embed else _written(name, blob, request, model_path).encode(),
        "ep_sdk_version": __version__.encode(),
        "hardware_architecture": isa.encode(),
        "partition_name": name.encode(),
        "source": EP_NAME.encode(),
    }


def _written(name: str, blob: bytearray, request: Request, model_path: str) -> str:
    """The name of the new file with a region's bytes."""
    if request.writes_bytes or not (request.path or model_path):
        raise ValueError(
            "there is no path beside which packed weights could be written: "
            "compile with ep.context_embed_mode=1 (ModelCompiler: embed_compiled_data_into_model=True), or to a file"
        )
    # without a path ONNX Runtime writes beside the model, with _ctx behind its name
    target = Path(request.path) if request.path else Path(model_path).with_name(Path(model_path).stem + "_ctx")
    region = re.sub("[^A-Za-z0-9_.-]", "_", name.replace(f"{EP_NAME}_", ""))
    path = target.with_name(f"{target.stem}_{region}.bin")
    write(path, blob)
    return path.name


def read(graph: Graph, embedded: Callable[[], NDArray[np.uint8]], request: Request, model_path: str) -> compiled.Compiled:
    """The region in a graph of one EPContext node, by the names that its inputs and outputs have there.

    `embedded` gives the bytes of the attribute `ep_cache_context`. ValueError that names node and cause.
    """
    (node,) = graph.nodes
    try:
        if node.attributes.get("main_context", 1) != 1:
            raise ValueError("main_context is not 1: every region of ours has its own")
        blob = embedded()
        if node.attributes.get("embed_mode", 1) != 1:
            blob = _beside(blob.tobytes().decode("utf-8", "replace"), request, model_path)
        return _renamed(compiled.decode(blob.data), node, graph)
    except (ValueError, OSError) as error:
        raise ValueError(f"{EP_CONTEXT[1]} node {node.name!r}: {error}") from None


def _beside(name: str, request: Request, model_path: str) -> NDArray[np.uint8]:
    """The bytes in a file beside the model; nothing that a model says leads elsewhere."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts or not path.parts or "\0" in name:
            raise ValueError(f"ep_cache_context is no relative path below the model: {name[:80]!r}")
    if not (model_path or request.path):
        raise ValueError("the packed weights are in a file beside the model, whose path is not known: set ep.context_file_path")
    file = Path(model_path or request.path).parent / name
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError(f"{file} is not a file")
    return np.fromfile(file, np.uint8)


def _renamed(region: compiled.Compiled, node: Node, graph: Graph) -> compiled.Compiled:
    """The region with the names of the node's inputs and outputs, which stand in the order in which the region was compiled."""
    for kind, names, known in (("inputs", node.inputs, region.inputs), ("outputs", node.outputs, region.outputs)):
        if len(names) != len(known) or len(set(names)) != len(names):
            raise ValueError(f"the node has {len(names)} {kind}, the compiled region {len(known)} different ones")
    for name in node.outputs:
        if name not in graph.values or graph.values[name].dtype != FLOAT:
            raise ValueError(f"output {name!r} is not float32")
    return compiled.renamed(region, node.inputs, node.outputs)


# compatibility of compiled models


def compatibility(isa: str) -> str:
    """What a compiled model says of itself."""
    return f"{EP_NAME};format={compiled.VERSION};isa={isa}"


def verdict(text: str) -> int:
    """`OrtCompiledModelCompatibility` of a model that says this: the best instruction set of this CPU, another one, or another format."""
    found = re.fullmatch(f"{EP_NAME};format=([0-9]{{1,9}});isa=([a-z0-9]+)", text)
    if found is None or int(found[1]) != compiled.VERSION or found[2] not in {isa.name for isa in ISAS}:
        return UNSUPPORTED
    return OPTIMAL if found[2] == kernels.available_isas()[0] else PREFER_RECOMPILATION
