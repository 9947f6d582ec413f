"""Describes steps in a few words, for people."""

from __future__ import annotations

from collections.abc import Sequence

from .enums import StepKind
from .steps import Depthwise, GatherGroup, Product, Step


def description_of(step: Step) -> str:
    """What a step computes in a few words: `64->256 3x3/1, 90 % zeros`, `max 3x3/2`, `axis 1`."""
    product = step.product
    window = ""
    if step.window is not None:
        stride = step.window.stride
        window = f"{_sizes(step.window.kernel)}/{_sizes(stride[:1] if len(set(stride)) == 1 else stride)}"
    if isinstance(product, Depthwise):
        return f"{product.channels}->{product.m} {window}"
    if step.recurrent is not None:
        cell = f"{step.recurrent.cell.name} {step.recurrent.hidden}" + " both ways" * (len(step.recurrent.reverse) - 1)
        return f"{cell}, {100 * zeros_in([group for p in step.recurrent.products for group in p.groups]):.0f} % zeros"
    if isinstance(product, Product):
        matrices = f"{_sizes(product.batch)} times " if product.batch and max(product.batch) > 1 else ""
        return f"{matrices}{product.channels}->{product.m} {window}".rstrip() + f", {100 * zeros_in(product.groups):.0f} % zeros"
    if step.kind in (StepKind.POOL, StepKind.GLOBAL_POOL):
        return f"{'max' if step.is_max else 'average'} {window}".rstrip()
    if step.kind == StepKind.RESIZE:
        assert step.resize is not None
        return step.resize.interpolation.name.lower()
    return {
        StepKind.ACTIVATE: step.activation.act.name.lower(),
        StepKind.BINARY: step.op.name.lower(),
        StepKind.CONCAT: f"axis {step.axis}",
        StepKind.TRANSPOSE: " ".join(map(str, step.target)),
        StepKind.SHUFFLE: f"blocks of {step.block}",
    }.get(step.kind, "")


def zeros_in(groups: Sequence[GatherGroup]) -> float:
    """The share of zeros in packed weights."""
    return 1 - sum(group.nonzeros for group in groups) / sum(group.weights for group in groups)


def _sizes(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
