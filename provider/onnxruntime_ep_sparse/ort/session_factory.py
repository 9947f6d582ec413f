"""Makes sessions in the process that runs them: workers of a cluster, of a prefork server, of a pool of processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING

from .. import options as option_table
from ..options import EP_NAME
from .sessions import Model, ask, make_session, ownership

if TYPE_CHECKING:
    import onnxruntime


class SessionFactory:
    """A model and how to run it, as a small object that can be pickled and sent to another process, which sessions cannot.

        factory = sparse.SessionFactory("model.onnx", threads=1)  # here, in the process that hands out work
        session = factory()                                       # there, once per worker
        (y,) = session.run(None, {"x": x})

    `model` is a path or the bytes of a model. A path is kept as an absolute one and need not exist here; bytes are pickled with the
    factory. A model with external data has to be a path. `options` are provider options. `threads` is the number of threads of each
    session, the calling one included. None stands for as many as the worker can use at once: the CPUs of its affinity mask and of its
    container's quota, at most one per physical core.

    Each call registers the provider, unless this process has done so. It returns a new `onnxruntime.InferenceSession` with this provider
    first and the CPU provider after it. Its threads do not spin between runs, because workers of one host share its CPUs. Threads may call
    a factory at the same time. A child process may call a factory that its parent has made, and has called, before a fork; only the
    parent's sessions cannot run in the child, where their threads do not exist.

    With `require_owned`, a call fails if the provider takes no node of the model.

    ValueError for an option or a number of threads that is not valid, TypeError for another kind of model. A call raises FileNotFoundError
    if there is no file at the path, and RuntimeError if `require_owned` is not met. It raises onnxruntime's exceptions for a model that
    onnxruntime cannot load.
    """

    def __init__(
        self, model: Model, options: Mapping[str, object] | None = None, threads: int | None = None, *, require_owned: bool = False
    ) -> None:
        self.options = {key: str(value) for key, value in (options or {}).items()}
        if "threads" in self.options:
            raise ValueError("option 'threads': give the number of threads as SessionFactory(model, options, threads=...)")
        option_table.parse(self.options, {})
        if threads is not None and index(threads) < 1:
            raise ValueError(f"threads: {threads} is not valid; valid: a whole number of at least 1, or None for all that can be used")
        self.model = model if isinstance(model, bytes) else os.path.abspath(os.fspath(model))
        self.threads = None if threads is None else index(threads)
        self.require_owned = require_owned

    def __repr__(self) -> str:
        model = f"<{len(self.model)} bytes>" if isinstance(self.model, bytes) else repr(self.model)
        return f"SessionFactory({model}, {self.options}, threads={self.threads}, require_owned={self.require_owned})"

    def __call__(self) -> onnxruntime.InferenceSession:
        """Return a new session."""
        if not isinstance(self.model, bytes) and not os.path.isfile(self.model):
            raise FileNotFoundError(f"no file {self.model!r} on this host: copy it to each host, or give SessionFactory the model's bytes")
        session = make_session(self.model, EP_NAME, self.options, self.threads or option_table.expected_threads())
        if self.require_owned and not ownership(session).owned:
            raise RuntimeError(f"{EP_NAME} takes no node of {self!r}: {_most_frequent_reason(session)}")
        return session


def _most_frequent_reason(session: onnxruntime.InferenceSession) -> str:
    """Return why most of the nodes with a weight (of all nodes, if none has one) were not taken, in the words for the first of these."""
    decisions = [decision for decisions in ask(session, "explain").values() for decision in decisions]
    counted = [decision for decision in decisions if decision["shape"] is not None] or decisions
    codes = Counter(decision["code"] for decision in counted)
    if not codes:
        return "it has no nodes"
    ((code, count),) = codes.most_common(1)
    reason = next(decision["reason"] for decision in counted if decision["code"] == code)
    return f"{reason} ({count} of {len(counted)} nodes; explain() tells about all)"
