"""ONNX Runtime execution provider that makes pruned models fast on CPUs.

    import onnxruntime as ort
    import onnxruntime_ep_sparse as sparse

    sparse.register()
    session = ort.InferenceSession("model.onnx", providers=[sparse.EP_NAME, "CPUExecutionProvider"])

Importing this package registers nothing and does not import onnxruntime. `prune` and `Masks` are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .diagnostics.explain import explain
from .diagnostics.step_times import StepTime, step_times
from .options import EP_NAME
from .ort.registration import get_ep_name, get_ep_names, get_library_path, register, session_options, unregister
from .partition.decision import NodeDecision

if TYPE_CHECKING:
    from .prune.engine import prune
    from .prune.masks import Masks

__all__ = [
    "EP_NAME",
    "Masks",
    "NodeDecision",
    "StepTime",
    "__version__",
    "explain",
    "get_ep_name",
    "get_ep_names",
    "get_library_path",
    "prune",
    "register",
    "session_options",
    "step_times",
    "unregister",
]


def __getattr__(name: str) -> Any:
    """Import what few users need: the package `prune`, which can be called, and `Masks`."""
    if name == "prune":
        return import_module(f"{__name__}.prune")
    if name == "Masks":
        return import_module(f"{__name__}.prune.masks").Masks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
