"""ONNX Runtime execution provider that makes pruned models fast on CPUs.

    import onnxruntime as ort
    import onnxruntime_ep_sparse as sparse

    sparse.register()
    session = ort.InferenceSession("model.onnx", providers=[sparse.EP_NAME, "CPUExecutionProvider"])

Importing this package registers nothing and does not import onnxruntime.
"""

from ._version import __version__
from .diagnostics.explain import explain
from .diagnostics.step_times import StepTime, step_times
from .options import EP_NAME
from .ort.registration import get_ep_name, get_ep_names, get_library_path, register, session_options, unregister
from .partition.decision import NodeDecision

__all__ = [
    "EP_NAME",
    "NodeDecision",
    "StepTime",
    "__version__",
    "explain",
    "get_ep_name",
    "get_ep_names",
    "get_library_path",
    "register",
    "session_options",
    "step_times",
    "unregister",
]
