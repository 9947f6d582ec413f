"""Agreement of outputs with those of the CPU provider."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest error of an output of a whole net, relative to the largest magnitude of the CPU provider's output."""
HALF_TOLERANCE = 2e-3
"""The same of a float16 output: both providers round it, and layers before it."""
STEPS = 1
"""Largest difference of 8-bit integers. One that was rounded from a float at a tie may fall on either side."""
BYTES = ("int8", "uint8")
SPREAD = 2
"""How many times as far an output may be as the CPU provider's own runs are from each other. Runs that round otherwise are about as far."""


@dataclass(frozen=True)
class Agreement:
    """The error of an output compared with the CPU provider's. `max_relative` is relative to `scale`, the largest magnitude there.

    `tolerance` is the one of the output's element type `dtype`, in numpy's words. `different` is the number of elements that differ.
    For integers `max_abs` counts steps.
    `argmax` is the share of positions along the class axis whose largest value is at the same place, or None without such an axis. A NaN
    or infinity that only one of the two has makes the errors infinite, and so do different shapes.

    `spread` is the largest difference between runs of the CPU provider with other settings, and `nearest` the error compared with the
    nearest of them, both relative to `scale`: see `measure/spread.py`. They are None where the tolerance was enough.
    """

    output: str
    shape: tuple[int, ...]
    scale: float
    max_abs: float
    mean_abs: float
    max_relative: float
    cosine: float
    argmax: float | None
    tolerance: float = TOLERANCE
    dtype: str = "float32"
    different: int = 0
    spread: float | None = None
    nearest: float | None = None

    def within(self, tolerance: float | None = None) -> bool:
        """Return whether max|y - y_ort| <= tolerance * max|y_ort|, by the tolerance of the element type unless another one is given.

        Without a tolerance, 8-bit integers may differ by one step, and any output by `SPREAD` times the `spread`.
        """
        if tolerance is not None:
            return self.max_relative <= tolerance
        near = self.max_abs <= STEPS if self.dtype in BYTES else self.max_relative <= self.tolerance
        return near or (self.spread is not None and math.isfinite(self.max_relative) and self.max_relative <= SPREAD * self.spread)

    @property
    def verdict(self) -> str:
        """Return in words whether it is near enough: "within 1e-04", or how far the CPU provider's own runs are from each other."""
        if self.spread is None:
            steps = f"{STEPS} step" if self.dtype in BYTES else f"{self.tolerance:.0e}"
            return f"within {steps}" if self.within() else f"DIFFERS, not within {steps}"
        apart = f"within {SPREAD} x {self.spread:.1e}, by which runs of the CPU provider with other settings differ"
        return f"{'' if self.within() else 'DIFFERS, not '}{apart}; the nearest is {self.nearest:.1e} away"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys. Numbers that are not finite become None."""
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in asdict(self).items()}


def agree(names: Sequence[str], ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[Agreement, ...]:
    """Compare the outputs of two runs one by one. Outputs that are not tensors of numbers are left out."""
    pairs = zip(names, ours, theirs, strict=True)
    return tuple(_agreement(name, y, y_ort) for name, y, y_ort in pairs if isinstance(y_ort, np.ndarray) and y_ort.dtype.kind in "fiub")


def agree_by_name(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Agreement, ...]:
    """Compare the outputs that have the same names."""
    both = [name for name in theirs if name in ours]
    return agree(both, [ours[name] for name in both], [theirs[name] for name in both])


def _agreement(name: str, y: NDArray, y_ort: NDArray) -> Agreement:
    if y.shape != y_ort.shape:
        largest = float(np.abs(y_ort.astype(np.float64)).max(initial=0.0))
        return Agreement(name, y_ort.shape, largest, math.inf, math.inf, math.inf, 0.0, None, dtype=str(y_ort.dtype), different=y_ort.size)
    a, b = y.astype(np.float64).ravel(), y_ort.astype(np.float64).ravel()
    if not a.size:
        return Agreement(name, y_ort.shape, 0.0, 0.0, 0.0, 0.0, 1.0, None, dtype=str(y_ort.dtype))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    error = np.where(same, 0.0, np.inf)
    np.subtract(a, b, out=error, where=finite)
    np.abs(error, out=error)
    a, b = a[finite], b[finite]
    scale = float(np.abs(b).max(initial=0.0))
    worst = float(error.max())
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Agreement(
        name,
        y_ort.shape,
        scale,
        worst,
        float(error.mean()),
        worst / scale if scale else (math.inf if worst else 0.0),
        float(a @ b) / norms if norms else float(np.array_equal(a, b)),
        _argmax_share(y, y_ort),
        HALF_TOLERANCE if y_ort.dtype == np.float16 else TOLERANCE,
        str(y_ort.dtype),
        y_ort.size - int(same.sum()),
    )


def class_axis(y: NDArray) -> int | None:
    """Return the axis of the classes of an output: axis 1 of images and classifier outputs, the last axis of sequences; or None."""
    axis = 1 if y.ndim in (2, 4, 5) else -1
    return None if y.ndim == 0 or y.shape[axis] < 2 or y.dtype.kind != "f" else axis


def _argmax_share(y: NDArray, y_ort: NDArray) -> float | None:
    axis = class_axis(y_ort)
    return None if axis is None else float((y.argmax(axis) == y_ort.argmax(axis)).mean())
