"""The one table of allocations: how sparse each layer becomes, for a sparsity of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from .layers import Layer

Allocation = Callable[[Sequence[Layer], float], dict[str, float]]
"""A function of layers and the sparsity wanted that returns the sparsity of each layer by its name."""


def uniform(layers: Sequence[Layer], sparsity: float) -> dict[str, float]:
    """Give all layers the same sparsity."""
    return {layer.name: sparsity for layer in layers}


ALLOCATIONS: Mapping[str, Allocation] = MappingProxyType({"uniform": uniform})
