"""Prunes dense models from calibration data alone: ONNX in, ONNX out.

It goes through a model layer by layer, chooses the weights that become zero and refits the others against the dense model's outputs.
It needs onnx, onnxruntime, scipy and threadpoolctl. Masks for training need numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pruned import Pruned


def prune(model: Any, data: Any, **arguments: Any) -> Pruned:
    """Prune a model on calibration data: `engine.prune`, which has the arguments. ImportError if a package is missing."""
    try:
        from .engine import prune as run
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ImportError(f"pruning needs {package}: pip install {package}") from None
    return run(model, data, **arguments)
