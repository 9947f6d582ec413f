"""Shared by the commands: options, errors, output."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from .. import options
from ..files import check_target, shown, write
from ..formats.onnx_file import load, referenced_files
from ..records import counted
from .tables import Grid

LOG = logging.getLogger("onnxruntime_ep_sparse")
SCHEMA = 1
STOPPED = 130
"""Exit code of a command that Ctrl-C has ended, as of any program."""
WIDE = 200
"""Width of tables in files and pipes, unless COLUMNS says another."""

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="ONNX file. model:NAME[:SPARSITY[:PATTERN[:FORMAT]]] is a built-in model.")
]
JsonOption = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write a JSON document; - is stdout.")]
ProviderOptions = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Provider option; can be repeated.")]
MOST_THREADS = 1024
"""More are taken for a mistake: ONNX Runtime would start them all."""
Threads = Annotated[
    int,
    typer.Option("--threads", metavar="N", min=0, max=MOST_THREADS, help="Intra-op threads of both providers. 0: as ONNX Runtime chooses."),
]
Batch = Annotated[
    int | None, typer.Option("--batch", metavar="N", min=1, help="First dimension of the inputs, if the model leaves it open.")
]
Shapes = Annotated[list[str] | None, typer.Option("--shape", metavar="NAME=1x3x224x224", help="Shape of an input; can be repeated.")]
Inputs = Annotated[str | None, typer.Option("--inputs", metavar="FILE.npz", help="File with the inputs by name; random inputs without it.")]
Budget = Annotated[float, typer.Option("--budget", metavar="SECONDS", min=0, help="Seconds after which a slow model gets fewer pairs.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the random inputs.")]


class UsageError(Exception):
    """Wrong use of a command: one line on stderr, exit code 2."""


class FailedError(Exception):
    """A failure of a command: one line on stderr, exit code 1."""


class Output:
    """The output of a command: tables on stdout, steps on stderr, the JSON document in `json_file`.

    UsageError if the document cannot be written, or if it would replace the command's `model`, a file that the model refers to, or one of
    the command's other `files`. With `quiet` no tables are printed, because something else goes to stdout.
    """

    def __init__(
        self,
        command: str,
        json_file: str | None,
        model: str | Path | None = None,
        files: Iterable[str | Path | None] = (),
        quiet: bool = False,
    ) -> None:
        self.command, self.json_file = command, json_file
        if json_file not in (None, "-"):  # now, not after minutes of measuring
            self.keep({**files_of(model), **{Path(file): "a file of the command" for file in files if file is not None}})
        self._console = _Console(markup=False, highlight=False, quiet=quiet or json_file == "-")
        self._lines_as_they_are = not self._console.is_terminal and not os.environ.get("COLUMNS")
        if self._lines_as_they_are:
            self._console.width = WIDE
        self.steps = Steps()
        LOG.addHandler(_Lines(self.steps))
        LOG.setLevel(logging.INFO)

    def keep(self, files: Mapping[Path, str]) -> None:
        """Raise UsageError if the document would replace one of these files. The values say what they are."""
        if self.json_file in (None, "-"):
            return
        try:
            check_target(Path(str(self.json_file)), files, special=True)
        except ValueError as error:
            raise UsageError(f"--json: {error}") from None

    def print(self, *what: Any) -> None:
        """Print text or tables, unless the document goes to stdout. Where the reader has closed it, as `head` does, nothing is printed.

        In files and pipes, lines of text are not broken.
        """
        unbroken = self._lines_as_they_are and all(isinstance(part, str) for part in what)
        try:
            self._console.print(*what, soft_wrap=unbroken)
        except BrokenPipeError:  # of versions of rich without on_broken_pipe
            close_stdout()

    @staticmethod
    def table(*columns: str) -> Grid:
        """Return an empty table. A column whose title begins with > is aligned to the right."""
        return Grid(*columns)

    def notes(self, notes: Iterable[tuple[str, str, int]], advice: Mapping[str, str]) -> None:
        """Print numbered notes of `Footnotes`, each with the advice for its key."""
        for number, (key, text, rows) in enumerate(notes, 1):
            self.print(f"{number}  {key} ({counted(rows, 'node')}): {text}")
            if advice.get(key):
                self.print(f"   {advice[key]}")

    def replaces(self, target: Path) -> Callable[[], None]:
        """Return a function that says on stderr that `target` was replaced, if it is there now: to be called once it is written."""
        there = os.path.exists(target)
        return lambda: self.steps.line(f"replaced {shown(target)}") if there else None

    def document(self, content: Mapping[str, Any]) -> None:
        """Write the JSON document if `--json` was given. FailedError if it cannot be written."""
        if self.json_file is None:
            return
        text = json.dumps({"schema": SCHEMA, "command": self.command, **content}, indent=2, allow_nan=False)
        written(self.json_file, f"{text}\n")


def written(file: str, text: str) -> None:
    """Write text to a file, or to stdout for -. FailedError if it cannot be written."""
    if file == "-":
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode())  # in UTF-8 like the file, whatever the locale
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            close_stdout()
        return
    try:
        write(Path(file), text.encode(), special=True)
    except OSError as error:
        raise FailedError(f"cannot write {file}: {error.strerror}") from None
    except ValueError as error:  # a special file has taken its place
        raise FailedError(str(error)) from None


def close_stdout() -> None:
    """Let the rest of the output go nowhere, because its reader has closed it; the command ends with its own exit code."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on without an output, where rich would end the process with 1."""
        self.quiet = True
        close_stdout()


def files_of(model: str | Path | None) -> Mapping[Path, str]:
    """Return all files that a model of the command line refers to, as far as it can be read; its errors are reported where it is used."""
    if model is None:
        return {}
    path = Path(model)
    try:
        return referenced_files(path, load(path))
    except ValueError:
        return {path: "the model itself"}


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

    def __call__(self, step: str, share: float, what: str = "") -> None:
        """Show progress, as a `measure.Progress`. `what` is the part of the step that runs now."""
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
                self._bar.update(self._task, completed=share, description=f"{step} {what}".strip(), refresh=True)
                self._shown = now
        else:
            self.close()
            self.seconds[step] = now - self._began
            self._console.print(f"{step:<{min(32, self._console.width - 10)}}{duration(self.seconds[step]):>10}", soft_wrap=True)

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar, even if its step has not ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Lines(logging.Handler):
    """Prints the provider's log messages among the steps of a command: while a session is created, it says what it measures."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        self._steps.line(record.getMessage())


def duration(seconds: float) -> str:
    """Return a time in seconds or milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def positive(option: str, number: float | None) -> None:
    """Raise UsageError if the number of an option is given and not above 0."""
    if number is not None and not number > 0:
        raise UsageError(f"{option} {number:g}: expected a number above 0")


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
