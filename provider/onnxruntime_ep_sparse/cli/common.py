"""What the commands share: their errors, their output, the model and options they are given."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table
from typer.core import TyperGroup

from .. import measure, options
from ..files import check_target, write
from ..options import EP_NAME
from ..ort import registration

SCHEMA = 1

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ONNX file, or model:NAME[:SPARSITY[:PATTERN]] for one built here.")]
JsonOption = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write a JSON document; - is stdout.")]
ProviderOptions = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Provider option; can be given several times.")
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Intra-op threads of both providers; 0 lets ONNX Runtime choose.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="First dimension of the inputs where the model leaves it open.")]
Shapes = Annotated[
    list[str] | None, typer.Option("--shape", metavar="NAME=1x3x224x224", help="Shape of an input; can be given several times.")
]
Inputs = Annotated[str | None, typer.Option("--inputs", metavar="FILE.npz", help="Inputs by name, instead of random ones.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the random inputs.")]


class UsageError(Exception):
    """What the user gave cannot be used: one line on stderr, exit code 2."""


class FailedError(Exception):
    """The command could not do its work: one line on stderr, exit code 1."""


class Group(TyperGroup):
    """All commands: what they raise on purpose becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (UsageError, FailedError, ImportError) as error:
            message = " ".join(str(error).split())
            typer.echo(f"ort-sparse: {message}", err=True)
            raise typer.Exit(1 if isinstance(error, FailedError) else 2) from None


class Output:
    """Where a command writes: tables to stdout, steps to stderr, the document to `json_file`, which is none of the other `files`."""

    def __init__(self, command: str, json_file: str | None, *files: str | Path) -> None:
        self.command, self.json_file = command, json_file
        if json_file not in (None, "-"):
            try:  # now, not after minutes of measuring
                check_target(Path(str(json_file)), dict.fromkeys(map(Path, files), "a file of the command"), special=True)
            except ValueError as error:
                raise UsageError(f"--json: {error}") from None
        self._console = Console(markup=False, highlight=False, quiet=json_file == "-")
        if not self._console.is_terminal:
            self._console.width = 200
        self.steps = Steps()

    def print(self, *what: Any) -> None:
        """Text or tables for people."""
        self._console.print(*what)

    def table(self, *columns: str) -> Table:
        """An empty table; a column whose title begins with > is aligned to the right."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in columns:
            justify: Any = "right" if title.startswith(">") else "left"
            table.add_column(title.removeprefix(">"), justify=justify, overflow="fold", no_wrap=title == "provider" or title[0] == ">")
        return table

    def document(self, content: Mapping[str, Any]) -> None:
        """The JSON document, if one is wanted."""
        if self.json_file is None:
            return
        text = json.dumps({"schema": SCHEMA, "command": self.command, **content}, indent=2, allow_nan=False)
        if self.json_file == "-":
            print(text)
            return
        try:
            write(Path(self.json_file), f"{text}\n".encode(), special=True)
        except OSError as error:
            raise FailedError(f"cannot write {self.json_file}: {error.strerror}") from None


class Steps:
    """Long work step by step on stderr: a bar while one runs, one line with its duration when it is done; lines only where piped."""

    REFRESH_S = 0.25

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = self._shown = 0.0

    def __call__(self, step: str, share: float) -> None:
        """A `measure.Progress`."""
        now = time.perf_counter()
        if share <= 0:
            self._began = now
            if self._console.is_terminal:
                # drawn only between two runs: a thread that refreshes would take part in what is measured
                self._bar = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    TaskProgressColumn(),
                    console=self._console,
                    transient=True,
                    auto_refresh=False,
                )
                self._bar.start()
                self._task = self._bar.add_task(step, total=1.0)
                self._bar.refresh()
                self._shown = now
        elif share < 1:
            if self._bar is not None and now - self._shown > self.REFRESH_S:
                self._bar.update(self._task, completed=share, refresh=True)
                self._shown = now
        else:
            self.close()
            self.seconds[step] = now - self._began
            self._console.print(f"{step:<32}{duration(self.seconds[step]):>10}")

    def close(self) -> None:
        """Take the bar away, also of a step that did not end."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


@dataclass(frozen=True)
class GivenModel:
    """The model of the command line: a file's path, or the bytes of one that was built."""

    name: str
    source: str | bytes

    @classmethod
    def of(cls, text: str, steps: Steps) -> GivenModel:
        """Find the file, or build the model."""
        if text.startswith("model:"):
            return cls(text, _built(text, steps))
        if not os.path.exists(text):
            raise UsageError(f"no such file: {text}")
        if not os.path.isfile(text):
            raise UsageError(f"not a file: {text}")
        return cls(text, text)

    def session(self, provider: str, given: Mapping[str, str] | None = None, threads: int = 0) -> Any:
        """A session as `measure` makes them. UsageError if the CPU provider cannot load the model, FailedError if only ours cannot."""
        try:
            return measure.make_session(self.source, provider, given, threads)
        except ImportError:
            raise
        except Exception as error:
            message = f"{provider} cannot load {self.name}: {_without_noise(error)}"
        if provider == EP_NAME:
            self.session(measure.CPU, threads=threads)
            raise FailedError(message)
        raise UsageError(message)


def run(session: Any, feeds: measure.Feeds, provider: str) -> list[Any]:
    """All outputs of one run. UsageError if the CPU provider cannot run these inputs, FailedError if ours cannot."""
    try:
        return session.run(None, dict(feeds))
    except Exception as error:
        raise (FailedError if provider == EP_NAME else UsageError)(f"{provider} cannot run it: {_without_noise(error)}") from None


def _without_noise(error: Exception) -> str:
    return str(error).removeprefix("[ONNXRuntimeError] : ") or type(error).__name__


def _built(text: str, steps: Steps) -> bytes:
    from .. import models

    name, sparsity, pattern = (*text.removeprefix("model:").split(":", 2), "", "")[:3]
    if name not in models.BUILDERS:
        raise UsageError(f"no built-in model {name!r}; there are {', '.join(sorted(models.BUILDERS))}")
    arguments: dict[str, Any] = {"pattern": pattern} if pattern else {}
    if sparsity:
        try:
            arguments["sparsity"] = float(sparsity)
        except ValueError:
            arguments["sparsity"] = -1.0
        if not 0 <= arguments["sparsity"] <= 1:
            raise UsageError(f"{text}: the sparsity must be a number from 0 to 1")
    steps("build the model", 0)
    try:
        model = models.BUILDERS[name](**arguments).SerializeToString()
    except ValueError as error:  # the pattern
        steps.close()
        raise UsageError(f"{text}: {error}") from None
    steps("build the model", 1)
    return model


def provider_options(given: list[str] | None) -> dict[str, str]:
    """The provider options of the command line, checked. UsageError for an unknown key or a bad value."""
    result = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--option {text}: KEY=VALUE is wanted")
        result[key] = value
    try:
        options.parse(result)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return result


def environment() -> dict[str, Any]:
    """What a measurement depends on, for the document."""
    import onnxruntime_ep_sparse_kernels as kernels

    from .. import __version__
    from .check import cpu_model

    chosen = options.parse({}).isa
    return {
        "version": __version__,
        "onnxruntime": registration.runtime().__version__,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": kernels.available_isas()[0] if chosen == "auto" else chosen,
    }
