"""Writes and reads EPContext nodes, in which ONNX Runtime's compiled models keep the compiled regions of a provider.

ONNX Runtime defines the node and the session's configuration entries (EP Context Design). A region's bytes are in the node
(`embed_mode` 1) or in a file beside the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import ISAS

from .._version import __version__
from ..files import referred, shown, write
from ..graph.ir import CONTEXT_DATA, EP_CONTEXT, NOTES, Graph, Node
from ..options import EP_NAME
from ..program import serialize as compiled
from ..runtime._mapped_files import MappedFile

MAX_EMBEDDED = 2**31 - 1
"""At most as many bytes in an attribute: ONNX Runtime counts them with an int, and protobuf's files end there."""
SET_BY_MODEL_COMPILER = "session.disable_model_compile"
"""Entry by which a `ModelCompiler` of ONNX Runtime 1.25 can be told from a session; later versions set `session.compile_only` too."""
OPTIMAL, PREFER_RECOMPILATION, UNSUPPORTED = 1, 2, 3
"""`OrtCompiledModelCompatibility`."""


@dataclass(frozen=True)
class Request:
    """A session's request for a compiled model.

    `wanted`: the session writes one. `embed`: the regions' bytes go into its nodes, not into files beside it. `path`: where the model will
    be, or "". `writes_bytes`: the model goes to memory (`compile_to_bytes`), so no file can be beside it.
    """

    wanted: bool
    embed: bool
    path: str
    writes_bytes: bool

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Request:
        """Return the request in a session's configuration entries."""
        path = entries.get("ep.context_file_path", "")
        return cls(
            entries.get("ep.context_enable") == "1",
            entries.get("ep.context_embed_mode", "0") == "1",
            path,
            not path and (entries.get("session.compile_only") == "1" or SET_BY_MODEL_COMPILER in entries),
        )


def node_attributes(
    name: str, isa: str, blob: bytearray, request: Request, model_path: str, notes: str = ""
) -> dict[str, int | bytes | bytearray]:
    """Return the attributes of the node for region `name`. Without `embed`, write its bytes to a file beside the model.

    `notes` are words for people, if there are any: what was measured of the region.

    ValueError if the bytes are too many for an attribute, or if no file can be beside the model.
    """
    if request.embed and len(blob) > MAX_EMBEDDED:
        raise ValueError(
            f"{len(blob)} bytes of packed weights do not fit into a model, which can have 2 GB: "
            "compile with ep.context_embed_mode=0 (ModelCompiler: embed_compiled_data_into_model=False), for a file beside it"
        )
    return {
        "main_context": 1,
        "embed_mode": int(request.embed),
        CONTEXT_DATA: blob if request.embed else _write_beside(name, blob, request, model_path).encode(),
        "ep_sdk_version": __version__.encode(),
        "hardware_architecture": isa.encode(),
        "partition_name": name.encode(),
        "source": EP_NAME.encode(),
        **({NOTES: notes.encode()} if notes else {}),
    }


def _write_beside(name: str, blob: bytearray, request: Request, model_path: str) -> str:
    """Write a region's bytes to a file beside the model, and return its name."""
    if request.writes_bytes or not (request.path or model_path):
        raise ValueError(
            "there is no path beside which the packed weights could be written: "
            "compile with ep.context_embed_mode=1 (ModelCompiler: embed_compiled_data_into_model=True), or to a file"
        )
    # without a path, ONNX Runtime writes the compiled model beside the original one and adds _ctx to its name
    target = Path(request.path) if request.path else Path(model_path).with_name(Path(model_path).stem + "_ctx")
    region = re.sub("[^A-Za-z0-9_.-]", "_", name.replace(f"{EP_NAME}_", ""))
    import hashlib  # only here: it takes 7 ms of the first session, which writes nothing

    # The name depends on the content: an older model of the same name keeps its files, whatever happens before the new one is complete.
    path = target.with_name(f"{target.stem}_{region}_{hashlib.blake2b(blob, digest_size=8).hexdigest()}.bin")
    write(path, blob)
    return path.name


def load_region(graph: Graph, embedded: Callable[[], NDArray[np.uint8]], request: Request, model_path: str) -> compiled.Compiled:
    """Return the region in a graph of one EPContext node, with the names that its inputs and outputs have there.

    `embedded` returns the bytes of the attribute `ep_cache_context`. ValueError with node and cause if the region cannot be read.
    """
    (node,) = graph.nodes
    try:
        if node.attributes.get("main_context", 1) != 1:
            raise ValueError("main_context is not 1: every region has its own main context")
        data = embedded().data
        if node.attributes.get("embed_mode", 1) != 1:
            data = _beside(bytes(data).decode("utf-8", "replace"), request, model_path)
        return _renamed(compiled.decode(data), node, graph)
    except (ValueError, OSError) as error:
        raise ValueError(f"{EP_CONTEXT[1]} node {node.name!r}: {error}") from None


def _beside(name: str, request: Request, model_path: str) -> memoryview:
    """Return the bytes of a file beside the model, which is mapped: programs read their weights there.

    ValueError if `name`, which the model says, leads out of the model's folder.
    """
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts or not path.parts or "\0" in name:
            raise ValueError(f"ep_cache_context is not a relative path below the model: {shown(name)!r}")
    if not (model_path or request.path):
        raise ValueError("the packed weights are in a file beside the model, whose path is not known: set ep.context_file_path")
    try:
        file = referred(Path(model_path or request.path), name)
        return memoryview(MappedFile(file))
    except OSError as error:
        raise ValueError(f"cannot read ep_cache_context: {error.strerror or error}: {shown(name)!r}") from None


def _renamed(region: compiled.Compiled, node: Node, graph: Graph) -> compiled.Compiled:
    """Return the region with the names of the node's inputs and outputs, which have the order in which the region was compiled."""
    for kind, names, known in (("inputs", node.inputs, region.inputs), ("outputs", node.outputs, region.outputs)):
        if len(names) != len(known) or len(set(names)) != len(names):
            raise ValueError(f"the node has {len(names)} {kind}, the compiled region has {len(known)} different ones")
    for name, output in zip(node.outputs, region.outputs, strict=True):
        made = region.program.type_of(region.program.outputs[output])
        if name not in graph.values or graph.narrow.get(name, graph.values[name].dtype) != made.onnx:
            raise ValueError(f"output {name!r} is not {made.name.lower()}")
    return compiled.renamed(region, node.inputs, node.outputs)


# compatibility of compiled models


def compatibility_info(isa: str) -> str:
    """Return the text by which a compiled model says which provider, format and instruction set it needs."""
    return f"{EP_NAME};format={compiled.VERSION};isa={isa}"


def compatibility_level(text: str) -> int:
    """Return the `OrtCompiledModelCompatibility` of a model with the compatibility info `text`.

    OPTIMAL: compiled for the best instruction set of this CPU. PREFER_RECOMPILATION: for another one. UNSUPPORTED: another format.
    """
    found = re.fullmatch(f"{EP_NAME};format=([0-9]{{1,9}});isa=([a-z0-9]+)", text)
    if found is None or int(found[1]) != compiled.VERSION or found[2] not in {isa.name for isa in ISAS}:
        return UNSUPPORTED
    return OPTIMAL if found[2] == kernels.available_isas()[0] else PREFER_RECOMPILATION
