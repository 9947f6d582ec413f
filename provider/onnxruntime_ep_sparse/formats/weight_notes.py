"""Notes that `pack` leaves in the metadata of tensors and nodes, for `unpack`: how they were written before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onnx import NodeProto, TensorProto

from .constants import remove
from .onnx_file import text_of

NOTE = "ep.sparse.was"
"""Key of a note in JSON: the position of a tensor in its list of the graph, and how it was written."""
DENSE_NOTE = {"at": int, "external": bool, "index": str}
NODE_NOTE = {"domain": str}
SPARSE_NOTE = {"at": int, "linear": bool, "raw": bool, "name": str}


def set_note(holder: TensorProto | NodeProto, note: dict[str, Any] | None) -> None:
    remove(holder.metadata_props, {at for at, entry in enumerate(holder.metadata_props) if entry.key == NOTE})
    if note is not None:
        holder.metadata_props.add(key=NOTE, value=json.dumps(note))


def note_of(holder: TensorProto | NodeProto, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """Return the note that `pack` left, or None. ValueError if its entries are not of these `kinds`."""
    texts = [entry.value for entry in holder.metadata_props if entry.key == NOTE]
    if not texts:
        return None
    try:
        note = json.loads(texts[0])
        damaged = {key: type(value) for key, value in note.items()} != kinds or note.get("at", 0) < 0
    except (ValueError, AttributeError, RecursionError):  # RecursionError: lists within lists
        damaged = True
    if damaged:
        raise ValueError(f"{text_of(holder.name)!r}: the note {NOTE} in its metadata is damaged")
    return note
