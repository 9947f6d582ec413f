"""The model of the command line, and its sessions and runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import measure
from ..files import shown
from ..formats.onnx_file import load
from ..options import EP_NAME
from .common import FailedError, Steps, UsageError


@dataclass(frozen=True)
class GivenModel:
    """The model of the command line: the path of a file, or the bytes of a built-in model."""

    name: str
    source: str | bytes

    @classmethod
    def of(cls, text: str, steps: Steps) -> GivenModel:
        """Find the file, or build the model. UsageError if there is no such file or model."""
        if text.startswith("model:"):
            return cls(text, _built(text, steps))
        check_source(Path(text))
        check_name(Path(text))
        return cls(text, text)

    def session(
        self, provider: str, given: Mapping[str, str] | None = None, threads: int = 0, sizes: Mapping[str, int] | None = None
    ) -> Any:
        """Create a session by `measure.make_session`.

        UsageError if the CPU provider cannot load the model, FailedError if only the sparse provider cannot.
        """
        try:
            return measure.make_session(self.source, provider, given, threads, sizes)
        except ImportError:
            raise
        except Exception as error:
            message = f"{provider} cannot load {self.name}: {_without_noise(error)}"
        if isinstance(self.source, str):
            try:
                load(Path(self.source))
            except ValueError as error:  # not a model, or not to be read: this says it in plainer words than ONNX Runtime
                raise UsageError(str(error)) from None
        if provider == EP_NAME:
            self.session(measure.CPU, threads=threads)
            raise FailedError(message)
        raise UsageError(message)


def check_source(path: Path) -> None:
    """Raise UsageError if `path` is not a file."""
    if not os.path.exists(path):
        raise UsageError(f"no such file: {shown(path)}")
    if not os.path.isfile(path):
        raise UsageError(f"not a file: {shown(path)}")


def check_name(path: Path) -> None:
    """Raise UsageError if ONNX Runtime's Python interface does not take the name of a file: it wants UTF-8."""
    try:
        str(path).encode()
    except UnicodeError:
        raise UsageError(f"the name of a file is not UTF-8 text, as ONNX Runtime needs it: {shown(path)}") from None


def run(session: Any, feeds: measure.Feeds, provider: str) -> list[Any]:
    """Return all outputs of one run. UsageError if the CPU provider cannot run these inputs, FailedError if the sparse provider cannot."""
    try:
        return session.run(None, dict(feeds))
    except Exception as error:
        raise (FailedError if provider == EP_NAME else UsageError)(f"{provider} cannot run it: {_without_noise(error)}") from None


def _without_noise(error: Exception) -> str:
    return str(error).removeprefix("[ONNXRuntimeError] : ") or type(error).__name__


def _built(text: str, steps: Steps) -> bytes:
    from .. import models

    name, sparsity, pattern, stored = (*text.removeprefix("model:").split(":", 3), "", "", "")[:4]
    if name not in models.BUILDERS:
        raise UsageError(f"no built-in model {name!r}; choose one of {', '.join(sorted(models.BUILDERS))}")
    arguments: dict[str, Any] = {"pattern": pattern} if pattern else {}
    if sparsity:
        try:
            arguments["sparsity"] = float(sparsity)
        except ValueError:
            arguments["sparsity"] = -1.0
        if not 0 <= arguments["sparsity"] <= 1:
            raise UsageError(f"{text}: the sparsity must be a number from 0 to 1")
    if stored and stored not in models.FORMATS:
        raise UsageError(f"{text}: unknown format {stored!r}; choose one of {', '.join(models.FORMATS)}")
    steps("build the model", 0)
    try:
        built = models.BUILDERS[name](**arguments)
        model = (models.FORMATS[stored](built) if stored else built).SerializeToString()
    except ValueError as error:  # the pattern, or a net without layers for the format
        steps.close()
        raise UsageError(f"{text}: {error}") from None
    steps("build the model", 1)
    return model
