"""Shared by the commands: options, errors, output."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table
from typer.core import TyperGroup

from .. import options
from ..files import check_target, write

SCHEMA = 1

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ONNX file, or model:NAME[:SPARSITY[:PATTERN]] for a built-in model.")]
JsonOption = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write a JSON document; - is stdout.")]
ProviderOptions = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Provider option; can be repeated.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Intra-op threads of both providers; 0 lets ONNX Runtime choose.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="First dimension of the inputs, if the model leaves it open.")]
Shapes = Annotated[list[str] | None, typer.Option("--shape", metavar="NAME=1x3x224x224", help="Shape of an input; can be repeated.")]
Inputs = Annotated[str | None, typer.Option("--inputs", metavar="FILE.npz", help="File with the inputs by name; random inputs without it.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the random inputs.")]


class UsageError(Exception):
    """Wrong use of a command: one line on stderr, exit code 2."""


class FailedError(Exception):
    """A failure of a command: one line on stderr, exit code 1."""


class Group(TyperGroup):
    """The group of all commands. It turns the errors above into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except (UsageError, FailedError, ImportError) as error:
            message = " ".join(str(error).split())
            typer.echo(f"ort-sparse: {message}", err=True)
            raise typer.Exit(1 if isinstance(error, FailedError) else 2) from None


class Output:
    """The output of a command: tables on stdout, steps on stderr, the JSON document in `json_file`.

    UsageError if the document cannot be written, or if it would replace one of the command's other `files`.
    """

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
        """Print text or tables, unless the document goes to stdout."""
        self._console.print(*what)

    def table(self, *columns: str) -> Table:
        """Return an empty table. A column whose title begins with > is aligned to the right."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in columns:
            justify: Any = "right" if title.startswith(">") else "left"
            table.add_column(title.removeprefix(">"), justify=justify, overflow="fold", no_wrap=title == "provider" or title[0] == ">")
        return table

    def document(self, content: Mapping[str, Any]) -> None:
        """Write the JSON document if `--json` was given. FailedError if it cannot be written."""
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
    """Progress of long work on stderr: a bar while a step runs, and one line with its duration afterwards.

    There is no bar if stderr is not a terminal.
    """

    REFRESH_S = 0.25

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = self._shown = 0.0

    def __call__(self, step: str, share: float) -> None:
        """Show progress, as a `measure.Progress`."""
        now = time.perf_counter()
        if share <= 0:
            self._began = now
            if self._console.is_terminal:
                # drawn between runs only: a thread that refreshes the bar would disturb the measurement
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
        """Remove the bar, even if its step has not ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """Return a time in seconds or milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def provider_options(given: list[str] | None) -> dict[str, str]:
    """Return the provider options of the command line. UsageError for an unknown key or an invalid value."""
    result = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--option {text!r}: expected KEY=VALUE")
        result[key] = value
    try:
        options.parse(result)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return result
