"""The commands of `ort-sparse`, one module each.

Exit codes: 0 ok, 1 differs or fails, 2 wrong use. Tables go to stdout, steps and errors to stderr; `--json FILE` writes a document as well,
`--json -` writes it to stdout instead of the tables.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import analyze, bench, check, compare, compile, demo, pack
from .common import Group

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Pruned ONNX models on ONNX Runtime's CPU provider and on the sparse one.",
    epilog="Exit codes: 0 ok, 1 differs or fails, 2 wrong use. MODEL is an ONNX file, or model:NAME[:SPARSITY[:PATTERN]], built here.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Pruned ONNX models on ONNX Runtime's CPU provider and on the sparse one."""


for module in (check, analyze, bench, compare, demo, pack, compile):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))
app.command()(pack.unpack)
