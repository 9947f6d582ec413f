"""Masks in a training loop: parameters of a module of PyTorch that stay zero where they are pruned.

Parameters are used by their methods alone (`detach`, `float`, `cpu`, `numpy`, `data`, `new_tensor`, `copy_`, `mul_`), so that nothing here
imports torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
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
        arrays = {name: values_of(parameter) for name, parameter in parameters.items()}
        fingerprints = {name: entry.dense for name, entry in entries.items() if entry.dense is not None}
        pieces = match(arrays, fingerprints)
        missing = uncovered(fingerprints, pieces)
        pieces = {name: found for name, found in pieces.items() if not {piece.weight for piece in found} & {*missing}}
        masks, values = Masks(), {}
        without_bias = []
        for name, found in pieces.items():
            masks.add(name, _mask(arrays[name], found, entries))
            if all(entries[piece.weight].pruned is not None for piece in found):
                values[name] = _weights(arrays[name], found, entries)
            values |= (biases := _biases(name, arrays, found, entries))
            if not biases and any(_matters(piece, entries) for piece in found):
                without_bias.append(name)
        for name, entry in entries.items():
            if entry.dense is None:
                if name in arrays and arrays[name].shape == entry.kept.shape:
                    masks.add(name, entry.kept)
                    if entry.pruned is not None:
                        values[name] = entry.pruned
                else:
                    missing.append(name)
        if not masks:
            raise ValueError(
                f"no parameter of the module has the values of a weight with a mask, such as {next(iter(entries), 'none')!r}: "
                "attach masks to the module as it was exported, before it is trained further"
            )
        if missing:
            warnings.warn(f"masks without a parameter in the module, which stay unused: {', '.join(missing)}", stacklevel=3)
        if without_bias:
            warnings.warn(
                f"parameters whose layer has no bias that could take the shift of its mean: {', '.join(without_bias)}", stacklevel=3
            )
        return cls(parameters, masks, values, tuple(missing))

    def copy_weights(self) -> None:
        """Set the parameters to the pruned weights, and the biases beside them to those that belong to these.

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
        _rows(mask)[piece.rows] = arranged(entries[piece.weight].kept, piece.arrangement)[piece.weight_rows]
    return mask


def _weights(parameter: NDArray, pieces: list[Piece], entries: Mapping[str, Entry]) -> NDArray[np.float32]:
    weights = parameter.copy()
    for piece in pieces:
        pruned = entries[piece.weight].pruned
        assert pruned is not None
        _rows(weights)[piece.rows] = arranged(pruned, piece.arrangement)[piece.weight_rows] / piece.scales[:, None]
    return weights


def _biases(name: str, arrays: Mapping[str, NDArray], pieces: list[Piece], entries: Mapping[str, Entry]) -> dict[str, NDArray[np.float32]]:
    """Return the shifted bias of the layer, if it has one and some shift is known: `conv.bias` beside `conv.weight`, and so on."""
    head, dot, last = name.rpartition(".")
    bias = f"{head}{dot}{last.replace('weight', 'bias')}"
    shifts = {piece.weight: entries[piece.weight].shift for piece in pieces}
    if (
        bias == name
        or bias not in arrays
        or arrays[bias].shape != arrays[name].shape[:1]
        or all(shift is None for shift in shifts.values())
    ):
        return {}
    value = arrays[bias].copy()
    for piece in pieces:
        shift = shifts[piece.weight]
        if shift is not None:
            value[piece.rows] += shift[piece.weight_rows] / piece.scales
    return {bias: value}


def _matters(piece: Piece, entries: Mapping[str, Entry]) -> bool:
    """Return whether a shift needs a bias. A BatchNormalization, which shows in the scales, takes means away itself while it is trained."""
    shift = entries[piece.weight].shift
    return shift is not None and bool(shift.any()) and bool(np.allclose(piece.scales, 1, atol=1e-3))
