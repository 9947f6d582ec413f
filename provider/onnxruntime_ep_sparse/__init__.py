"""ONNX Runtime execution provider that makes pruned models fast on CPUs.

    import onnxruntime as ort
    import onnxruntime_ep_sparse as sparse

    sparse.register()
    session = ort.InferenceSession("model.onnx", providers=[sparse.EP_NAME, "CPUExecutionProvider"])

Importing this package registers nothing and does not import onnxruntime.
`SessionFactory("model.onnx")` makes sessions in other processes: it can be pickled, sessions cannot.
`bench(model)` measures the speed of a model, `explain(model)` says which nodes are taken and why,
`trace(model, feeds)` shows runs in Perfetto, `annotate(model, copy)` decisions in Netron,
`compare_nodes(model)` from which node on the results differ from those of the CPU provider.
`what_if(model, "0.9")` tells how fast a model would be with more zeros. `report(model)` collects all of this, and makes a page of it.
`prune(model, data, sparsity=0.6)` makes a sparse model of a dense one; `Masks`, `Gradual` and `Cubic` are for training loops.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .diagnostics.explain import Decisions, explain
from .diagnostics.step_times import StepTime, step_times
from .options import EP_NAME
from .ort.registration import get_ep_name, get_ep_names, get_library_path, register, session_options, unregister
from .ort.session_factory import SessionFactory
from .partition.decision import NodeDecision
from .prune import prune

if TYPE_CHECKING:
    from .diagnostics.annotate import annotate
    from .diagnostics.trace import trace
    from .measure.bench import Bench, bench
    from .measure.node_results import NodeComparison
    from .measure.nodes import compare_nodes
    from .prune.gradual import Cubic, Gradual
    from .prune.masks import Masks
    from .prune.what_if import WhatIf, what_if
    from .reporting.report import Report, report

__all__ = [
    "EP_NAME",
    "Bench",
    "Cubic",
    "Decisions",
    "Gradual",
    "Masks",
    "NodeComparison",
    "NodeDecision",
    "Report",
    "SessionFactory",
    "StepTime",
    "WhatIf",
    "__version__",
    "annotate",
    "bench",
    "compare_nodes",
    "explain",
    "get_ep_name",
    "get_ep_names",
    "get_library_path",
    "prune",
    "register",
    "report",
    "session_options",
    "step_times",
    "trace",
    "unregister",
    "what_if",
]

_LATER = {
    "annotate": ".diagnostics.annotate",
    "trace": ".diagnostics.trace",
    **dict.fromkeys(("Bench", "bench"), ".measure.bench"),
    **dict.fromkeys(("Cubic", "Gradual"), ".prune.gradual"),
    "Masks": ".prune.masks",
    **dict.fromkeys(("WhatIf", "what_if"), ".prune.what_if"),
    **dict.fromkeys(("Report", "report"), ".reporting.report"),
    "NodeComparison": ".measure.node_results",
    "compare_nodes": ".measure.nodes",
}
"""Names that sessions do not need, and their modules, which are imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
