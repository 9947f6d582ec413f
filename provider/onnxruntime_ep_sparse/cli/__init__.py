"""The commands of `ort-sparse`. A new command is a module here and a row of COMMANDS.

Exit codes: 0 ok, 1 results differ or the command failed, 2 wrong use. Tables go to stdout, steps and errors to stderr. `--json FILE` writes
a JSON document too, `--json -` writes it to stdout instead of the tables. The commands import everything below; no other folder imports
`cli`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from ..models import FORMATS
from . import analyze, bench, check, compare, compile, demo, pack, prune, report, trace
from .group import Group

COMMANDS: tuple[Callable[..., None], ...] = (
    check.check,
    analyze.analyze,
    bench.bench,
    compare.compare,
    report.report,
    trace.trace,
    trace.annotate,
    demo.demo,
    prune.prune,
    pack.pack,
    pack.unpack,
    compile.compile,
)
"""The one table of commands, in the order of `--help`: each is called like its function."""
ABOUT = "Prune, analyze, measure and convert ONNX models for the sparse execution provider."

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=ABOUT,
    epilog="Exit codes: 0 ok, 1 results differ or the command failed, 2 wrong use. "
    "MODEL is an ONNX file, or model:NAME[:SPARSITY[:PATTERN[:FORMAT]]] for a built-in model, such as model:resnet50:0.9::int8. "
    f"FORMAT is one of {', '.join(FORMATS)}; float32 without.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Take the options before the command."""


for command in COMMANDS:
    app.command()(command)
