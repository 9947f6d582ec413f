"""Packed regions in the folder of the option `cache_dir`, from where all sessions of the same region map them.

An entry is the bytes of a compiled region (`program/serialize.py`) with its key inside. The key follows from all that packing depends on:
the region as ONNX Runtime shows it, the contents of its constants, the instruction set, the versions of the package and of the layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from onnxruntime_ep_sparse_kernels.isa import Isa

from .._version import __version__
from ..cache_folder import CacheFolder
from ..formats._digest import digest
from ..formats.schema import DOMAIN
from ..graph.ir import Graph
from ..options import Options, isa_of, workers_of
from ..pipeline import lower_to_spec
from ..program import serialize as compiled
from ..program.parallel import parallel_map
from ..runtime._mapped_files import MappedFile

KIND = "region"


def cached_region(options: Options, shown: Graph, graph: Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> compiled.Compiled:
    """Return a packed region from the folder `options.cache_dir`; without a whole entry pack it and keep it there.

    `shown` is the region as ONNX Runtime shows it, `graph` what is lowered; `inputs` and `outputs` are those of its node. Anything wrong
    with the folder or an entry costs the time of packing, and a warning if nothing can be written.
    """
    isa, workers = isa_of(options), workers_of(options)
    assert options.cache_dir is not None
    cache = CacheFolder(options.cache_dir, KIND, options.cache_max_mb)
    key = key_of(shown, inputs, outputs, isa, workers)
    read = partial(_read, key=key, inputs=inputs, outputs=outputs, isa=isa)
    found = cache.load(key, read)
    if found is not None:
        return found
    packed = compiled.Compiled(isa.name, inputs, outputs, lower_to_spec(graph, isa, workers), key)
    # from the file, so that this session shares its pages too
    return cache.keep(key, compiled.encode(packed), read) or packed


def key_of(shown: Graph, inputs: tuple[str, ...], outputs: tuple[str, ...], isa: Isa, workers: int) -> str:
    """Return the key of a region, made on `workers` threads."""
    names = dict.fromkeys(name for node in shown.nodes for name in (*node.inputs, *node.implicit_inputs, *node.outputs) if name)
    arrays = {name: shown.load(name) for name in names if shown.is_constant(name)}
    digests = parallel_map(workers, [(array.size, partial(digest, array)) for array in arrays.values()])
    about = {
        "versions": [__version__, compiled.VERSION],
        "isa": isa.name,
        "places": [inputs, outputs, shown.inputs, shown.outputs],
        "nodes": [
            (node.name, node.op_type, node.domain, node.since_version, node.inputs, node.outputs, sorted(node.attributes.items()))
            for node in shown.nodes
        ],
        "values": _values(shown, names),
        "defaults": sorted(shown.defaults),
        "constants": [
            (name, str(array.dtype), array.shape, content.hex()) for (name, array), content in zip(arrays.items(), digests, strict=True)
        ],
    }
    return digest(np.frombuffer(json.dumps(about).encode(), np.uint8))[:20].hex()


def _values(shown: Graph, names: Iterable[str]) -> list[tuple[str, int, tuple[int | str | None, ...] | None]]:
    """Return name, element type and shape of the values among `names`.

    Dimensions that compressed operators leave open have names that are new in every session (`ort/_custom_ops.pyx`). They are numbered.
    """
    number: dict[str, str] = {}

    def size(found: int | str | None) -> int | str | None:
        if isinstance(found, str) and found.startswith(f"{DOMAIN}."):
            return number.setdefault(found, f"{DOMAIN}.{len(number)}")
        return found

    values = [shown.values[name] for name in names if name in shown.values]
    return [(value.name, value.dtype, None if value.shape is None else tuple(map(size, value.shape))) for value in values]


def _read(file: Path, key: str, inputs: tuple[str, ...], outputs: tuple[str, ...], isa: Isa) -> compiled.Compiled:
    """Return the region in an entry's file, which stays mapped. OSError or ValueError if it is not this one, or not whole."""
    found = compiled.decode(memoryview(MappedFile(file)))
    if (found.key, found.isa, found.inputs, found.outputs) != (key, isa.name, inputs, outputs):
        raise ValueError("the entry is of another region")
    return found
