"""The masks of a pruned model by the names of its weights, with what finds these weights again in a module of PyTorch.

A file of masks is an `.npz`. `kept:NAME` is the mask in the weight's shape, `values:NAME` its kept values. `shift:NAME` was added to the
bias of each output. `rows:NAME`, `columns:NAME` and `stacked:NAME` are signatures of the dense weight (`prune/matching.py`). A weight
that stays dense but was refitted has all its values as `fitted:NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..files import NewFiles, check_target, shown
from ..models.inputs import load_arrays
from .matching import ARRANGEMENTS, PROJECTIONS, Fingerprint

if TYPE_CHECKING:
    from .bound import Bound


@dataclass(frozen=True, slots=True)
class Entry:
    """One weight: its mask, None if it is not pruned; its values, zero where the mask is False; shifts of biases; its dense fingerprint."""

    kept: NDArray[np.bool_] | None
    pruned: NDArray[np.float32] | None
    shift: NDArray[np.float32] | None
    dense: Fingerprint | None


class Masks(Mapping[str, NDArray[np.bool_]]):
    """Masks by the names of weights, as boolean arrays in the weights' shapes: True is kept."""

    def __init__(
        self, masks: Mapping[str, NDArray[np.bool_]] | None = None, weights: Mapping[str, NDArray[np.float32]] | None = None
    ) -> None:
        """Take masks of weights that are found by their names, and the pruned values if there are some."""
        self._entries: dict[str, Entry] = {}
        for name, mask in (masks or {}).items():
            self.add(name, mask, None, (weights or {}).get(name))

    def add(
        self,
        name: str,
        mask: NDArray[np.bool_],
        dense: NDArray[np.float32] | None = None,
        pruned: NDArray[np.float32] | None = None,
        shift: NDArray[np.float32] | None = None,
    ) -> None:
        """Add the mask of a weight.

        `dense` are the values before pruning, by which `attach` finds the weight, else it goes by the name. `pruned` are those after it.
        `shift` is what pruning added to the bias of each output, (O,) in the order of the outputs. ValueError if they do not fit together.
        """
        kept = np.ascontiguousarray(mask, np.bool_)
        if name in self._entries:
            raise ValueError(f"the weight {name!r} was added before")
        if any(array is not None and array.shape != kept.shape for array in (dense, pruned)):
            raise ValueError(f"{name!r}: the mask and the values have different shapes")
        if pruned is not None and np.any(pruned[~kept]):
            raise ValueError(f"{name!r}: a value is not zero where the mask is False")
        values = None if pruned is None else np.asarray(pruned, np.float32)
        self._entries[name] = Entry(kept, values, _flat(shift), None if dense is None else Fingerprint.of(dense))

    def add_fitted(
        self, name: str, dense: NDArray[np.float32], fitted: NDArray[np.float32], shift: NDArray[np.float32] | None = None
    ) -> None:
        """Add a weight that has no mask, but other values than before. ValueError if there is one of this name."""
        if name in self._entries:
            raise ValueError(f"the weight {name!r} was added before")
        self._entries[name] = Entry(None, np.asarray(fitted, np.float32), _flat(shift), Fingerprint.of(dense))

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        kept = self._entries[name].kept
        if kept is None:
            raise KeyError(name)
        return kept

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in self._entries.items() if entry.kept is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Masks of {len(self)} weights, {self.sparsity:.1%} of {sum(mask.size for mask in self.values())} elements pruned"

    @property
    def sparsity(self) -> float:
        """Return the share of elements that are pruned, over all masks."""
        pruned = sum(mask.size - int(mask.sum()) for mask in self.values())
        return pruned / max(sum(mask.size for mask in self.values()), 1)

    def entries(self) -> Mapping[str, Entry]:
        """Return everything that is known of each weight, those without a mask included."""
        return dict(self._entries)

    def attach(self, module: Any) -> Bound:
        """Find the weights among the parameters of a `torch.nn.Module`, which must have the values that were exported.

        Only `named_parameters()` is used. Weights are found by their values: as they are, transposed, scaled by row as where a
        BatchNormalization is folded, in another order of rows, cut or joined along the rows. Masks without dense values go by name. A
        warning lists weights that are not found. ValueError if none is found, or where parameters of the same values would want
        different masks.
        """
        from .bound import Bound

        return Bound.of(module, self._entries)

    def save(self, path: str | Path) -> None:
        """Write all of it to an `.npz` file, which appears when it is complete. ValueError or OSError if it cannot be written."""
        target = Path(path)
        check_target(target, {})
        with NewFiles() as files:
            self.write(files.open(target))
            files.commit()

    def write(self, file: BinaryIO) -> None:
        """Write what `save` writes to an open file. Equal masks give equal bytes."""
        arrays: dict[str, Any] = {}
        for name, entry in self._entries.items():
            if entry.kept is None:
                arrays[f"fitted:{name}"] = entry.pruned
            else:
                arrays[f"kept:{name}"] = entry.kept
                if entry.pruned is not None:
                    arrays[f"values:{name}"] = entry.pruned[entry.kept]
            if entry.shift is not None:
                arrays[f"shift:{name}"] = entry.shift
            if entry.dense is not None:
                arrays |= {f"{arrangement}:{name}": rows for arrangement, rows in entry.dense.signatures.items()}
        np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Masks:
        """Read a file of masks. ValueError if it cannot be read, or is not a file of masks."""
        arrays = load_arrays(Path(path), "masks")
        masks = cls()
        for key in arrays:
            kind, _, name = key.partition(":")
            if kind in ("kept", "fitted"):
                masks._entries[name] = _entry(name, arrays, shown(path))
        if not masks:
            raise ValueError(f"{shown(path)} has no masks: no array in it is called kept:NAME")
        return masks


def _flat(shift: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if shift is None else np.asarray(shift, np.float32).reshape(-1)


def _entry(name: str, arrays: Mapping[str, NDArray], file: str) -> Entry:
    """Return what a file says of one weight. ValueError if it does not fit together."""
    kept, values, fitted, shift = (arrays.get(f"{kind}:{name}") for kind in ("kept", "values", "fitted", "shift"))
    signatures = {way: arrays[f"{way}:{name}"] for way in ARRANGEMENTS if f"{way}:{name}" in arrays}
    floats = [array for array in (values, fitted, shift, *signatures.values()) if array is not None]
    if (kept is not None and kept.dtype != np.bool_) or any(array.dtype != np.float32 for array in floats):
        raise ValueError(f"{file}: the arrays of {name!r} have other types than those of masks")
    if kept is not None and values is not None and values.shape != (int(kept.sum()),):
        raise ValueError(f"{file}: {name!r} keeps {int(kept.sum())} values, and there are {values.size}")
    size = next(array.size for array in (kept, fitted) if array is not None)
    if any(rows.shape[1:] != (PROJECTIONS + 1,) or not len(rows) or size % len(rows) for rows in signatures.values()):
        raise ValueError(f"{file}: the signatures of {name!r} do not fit its mask")
    if kept is not None and values is not None:
        fitted = np.zeros(kept.shape, np.float32)
        fitted[kept] = values
    return Entry(kept, fitted, shift, Fingerprint(size, signatures) if signatures else None)
