"""Prunes dense models from calibration data alone: ONNX in, ONNX out.

It goes through a model layer by layer, chooses the weights that become zero and refits the others against the dense model's outputs.
It needs onnx, onnxruntime, scipy and threadpoolctl.

The package is also the function `sparse.prune(model, data, ...)`: calling it calls `engine.prune`, which has the documentation.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that can be called. Python sets a subpackage as an attribute of its parent, so a function cannot have that name."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from .engine import prune

        return prune(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
