"""Masks in a training loop: parameters of a module of PyTorch that stay zero where they are pruned.

Parameters are used by their methods alone (`detach`, `float`, `cpu`, `numpy`, `data`, `new_tensor`, `copy_`, `mul_`), so that nothing here
imports torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .masks import Entry, Masks
from .matching import Piece, arranged, match, uncovered


class Bound:
    """Masks that are bound to the parameters of a module.

    `masks` has them by the names of the parameters, in their shapes. `unmatched` are the weights without a parameter.
    """

    def __init__(
        self, parameters: Mapping[str, Any], masks: Masks, values: Mapping[str, NDArray[np.float32]], unmatched: tuple[str, ...]
    ) -> None:
        """Bind `masks` to the parameters of the same names. `values` are what `copy_weights` writes, to some of all parameters."""
        self.masks, self.unmatched = masks, unmatched
        self._parameters, self._values = parameters, values
        self._factors: dict[str, Any] = {}

    @classmethod
    def of(cls, module: Any, entries: Mapping[str, Entry]) -> Bound:
        """Find weights among the parameters of a module: by their content if it is known, else by name."""
        parameters = dict(module.named_parameters())
        buffers = dict(module.named_buffers()) if hasattr(module, "named_buffers") else {}
        arrays = {name: values_of(parameter) for name, parameter in parameters.items()}
        known = arrays | {name: values_of(buffer) for name, buffer in buffers.items()}
        fingerprints = {name: entry.dense for name, entry in entries.items() if entry.dense is not None}
        pieces = match(arrays, fingerprints)
        missing = uncovered(fingerprints, pieces)
        masks, values, homeless = Masks(), {}, []
        for name, found in pieces.items():
            if {piece.weight for piece in found} & {*missing}:
                continue
            if any(entries[piece.weight].kept is not None for piece in found):
                masks.add(name, _mask(arrays[name], found, entries))
            if all(entries[piece.weight].pruned is not None for piece in found):
                values[name] = _weights(arrays[name], found, entries)
                shifted = _shifted(name, _shift(len(arrays[name]), found, entries), found, known)
                values |= shifted or {}
                homeless += [name] if shifted is None else []
        for name in entries.keys() - fingerprints.keys():
            entry = entries[name]
            if entry.kept is not None and name in arrays and arrays[name].shape == entry.kept.shape:
                masks.add(name, entry.kept)
                values |= {} if entry.pruned is None else {name: entry.pruned}
            else:
                missing.append(name)
        if not masks:
            raise ValueError(
                f"no parameter of the module has the values of a weight with a mask, such as {next(iter(entries), 'none')!r}: "
                "attach masks to the module as it was exported, before it is trained further"
            )
        if missing:
            warnings.warn(f"masks without a parameter in the module, which stay unused: {', '.join(sorted(missing))}", stacklevel=3)
        if homeless:
            words = "parameters without a bias or a BatchNormalization that could take the shift of their outputs"
            warnings.warn(f"{words}: {', '.join(homeless)}", stacklevel=3)
        return cls(parameters | buffers, masks, values, tuple(missing))

    def copy_weights(self) -> None:
        """Set the parameters to the pruned weights, and biases, or means of a BatchNormalization, to what belongs to these.

        ValueError if the masks have no weights.
        """
        if not self._values:
            raise ValueError("these masks have no weights: only those of a pruned model do")
        for name, value in self._values.items():
            data = self._parameters[name].data
            data.copy_(data.new_tensor(value))

    def apply(self) -> None:
        """Set to zero what is pruned: call it after each step of the optimizer."""
        for name, mask in self.masks.items():
            data = self._parameters[name].data
            factor = self._factors.get(name)
            if factor is None or factor.device != data.device or factor.dtype != data.dtype:
                factor = self._factors[name] = data.new_tensor(mask)
            data.mul_(factor)

    def replace(self, masks: Masks) -> None:
        """Bind other masks to the same parameters, by their names."""
        self.masks = masks
        self._factors = {}


def values_of(parameter: Any) -> NDArray[np.float32]:
    """Return a copy of a parameter's values as float32."""
    return np.array(parameter.detach().float().cpu().numpy(), np.float32)


def _rows(array: NDArray) -> NDArray:
    return array.reshape(len(array), -1)


def _mask(parameter: NDArray, pieces: list[Piece], entries: Mapping[str, Entry]) -> NDArray[np.bool_]:
    mask = np.ones(parameter.shape, np.bool_)
    for piece in pieces:
        kept = entries[piece.weight].kept
        if kept is not None:
            _rows(mask)[piece.rows] = arranged(kept, piece.arrangement)[piece.weight_rows]
    return mask


def _weights(parameter: NDArray, pieces: list[Piece], entries: Mapping[str, Entry]) -> NDArray[np.float32]:
    weights = parameter.copy()
    for piece in pieces:
        pruned = entries[piece.weight].pruned
        assert pruned is not None
        _rows(weights)[piece.rows] = arranged(pruned, piece.arrangement)[piece.weight_rows] / piece.scales[:, None]
    return weights


def _shift(outputs: int, pieces: list[Piece], entries: Mapping[str, Entry]) -> NDArray[np.float32]:
    """Return what pruning added to the outputs of a parameter's layer, as they are before a BatchNormalization."""
    shift__o = np.zeros(outputs, np.float32)
    for piece in pieces:
        entry = entries[piece.weight]
        if entry.shift is None or entry.dense is None:
            continue
        if entry.shift.size != len(entry.dense.signatures[piece.arrangement]):  # rows are inputs, as in Conv1D of transformers
            return entry.shift
        shift__o[piece.rows] = entry.shift[piece.weight_rows] / piece.scales
    return shift__o


def _shifted(
    name: str, shift__o: NDArray[np.float32], pieces: list[Piece], arrays: Mapping[str, NDArray]
) -> dict[str, NDArray[np.float32]] | None:
    """Return the new value of what takes a shift: the bias beside the parameter, or the mean of its BatchNormalization. None without both.

    Where a BatchNormalization is trained, it takes means away itself. So a shift in its bias would count twice.
    """
    if not shift__o.any():
        return {}
    head, dot, last = name.rpartition(".")
    bias = f"{head}{dot}{last.replace('weight', 'bias')}"
    if bias != name and bias in arrays and arrays[bias].shape == shift__o.shape:
        return {bias: arrays[bias] + shift__o}
    scale__o = np.ones(len(arrays[name]), np.float32)
    for piece in pieces:
        scale__o[piece.rows] = piece.scales
    means = list(_normalizations(scale__o, arrays)) if shift__o.shape == scale__o.shape else []
    return {means[0]: arrays[means[0]] - shift__o} if len(means) == 1 else None


def _normalizations(scale__o: NDArray[np.float32], arrays: Mapping[str, NDArray]) -> Iterator[str]:
    """Yield the running means of each BatchNormalization that scales by `scale__o`, which is weight / sqrt(variance + epsilon).

    Epsilon is not known, but it is the same for all outputs.
    """
    for name, variance__o in arrays.items():
        head, dot, last = name.rpartition(".")
        mean = f"{head}{dot}running_mean"
        if last == "running_var" and mean in arrays and variance__o.shape == arrays[mean].shape == scale__o.shape:
            squares__o = np.square(arrays.get(f"{head}{dot}weight", np.float32(1)) / scale__o)
            epsilon__o = squares__o - variance__o
            if np.all(np.abs(epsilon__o - np.median(epsilon__o)) <= 1e-4 * squares__o):
                yield mean
