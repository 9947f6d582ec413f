"""The pages of the Python API and of the command line, from docstrings and signatures: `docs/generate.py` writes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import get_args

from typer.models import ArgumentInfo

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.cli import COMMANDS
from onnxruntime_ep_sparse.prune import engine

API = """\
# Python API

<!-- Written by generate.py from the docstrings. -->

Everything that the package exports: `import onnxruntime_ep_sparse as sparse`. Names that are not here are internal.

{entries}
"""

COMMAND_LINE = """\
# Command line

<!-- Written by generate.py from the commands. -->

`ort-sparse` comes with the extra `[cli]`; `python -m onnxruntime_ep_sparse` is the same. Tables go to standard output, steps and errors
to standard error. `--json FILE` writes a JSON document too, and `--json -` writes it in the place of the tables.

{commands}
"""


BEHIND = {"prune": engine.prune}
"""Functions behind exported ones that only import them when they are called."""


def api() -> str:
    """Return an entry for each exported name: constants with their values, functions and classes with signatures and docstrings."""
    return "\n\n".join(
        "\n\n".join(entry(name, BEHIND.get(name, getattr(sparse, name)))) for name in sparse.__all__ if name != "__version__"
    )


def entry(name: str, thing: object) -> Iterator[str]:
    """Yield the paragraphs of an exported name."""
    yield f"## {name}"
    if not callable(thing):
        yield f"`{thing!r}`"
        return
    yield described(name, thing)
    if inspect.isclass(thing):
        for member, function in vars(thing).items():
            if not member.startswith("_") and inspect.getdoc(function):
                yield f"### {name}.{member}"
                bound = getattr(thing, member)
                yield described(member, bound) if callable(bound) else str(inspect.getdoc(bound))


class Words:
    """Words that stand in a signature without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def plain(argument: inspect.Parameter) -> inspect.Parameter:
    """Return an argument whose annotation has no quotes, with dots in the place of a function as its default."""
    annotation = argument.annotation
    shown = argument if annotation is argument.empty else argument.replace(annotation=Words(annotation))
    return shown.replace(default=Words("...")) if inspect.isfunction(argument.default) else shown


def described(name: str, thing: Callable[..., object]) -> str:
    """Return a signature, an argument per line where it is long, and the docstring."""
    signature = inspect.signature(thing)
    arguments = [plain(argument) for argument in signature.parameters.values() if argument.name != "self"]
    result = signature.return_annotation
    shown = signature.replace(parameters=arguments, return_annotation=result if result is signature.empty else Words(result or "None"))
    line = f"{name}{shown}"
    if len(line) > 100:
        inside, result = str(shown)[1:].rsplit(")", 1) if ") ->" not in str(shown) else str(shown)[1:].split(") ->", 1)
        pieces = [str(argument) for argument in arguments]
        if "*, " in inside:
            pieces.insert([a.kind for a in arguments].index(inspect.Parameter.KEYWORD_ONLY), "*")
        line = f"{name}(\n" + "".join(f"    {piece},\n" for piece in pieces) + f") ->{result}"
    return f"```text\n{line}\n```\n\n{inspect.getdoc(thing) or ''}".rstrip()


def command_line() -> str:
    """Return an entry for each command: its docstring, and a table of its arguments and options."""
    return "\n\n".join(command(function) for function in COMMANDS)


def command(function: Callable[..., None]) -> str:
    """Return the entry of one command."""
    rows = []
    for argument in inspect.signature(function, eval_str=True).parameters.values():
        _, about = get_args(argument.annotation)
        given = [name for name in (about.default, *(about.param_decls or ())) if isinstance(name, str) and name.startswith("-")]
        names = given or ["--" + argument.name.replace("_", "-")]
        if isinstance(about, ArgumentInfo):
            names = [about.metavar or argument.name.upper()]
        elif about.metavar:
            names[0] += f" {about.metavar}"
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {' '.join((about.help or '').split()).replace('|', chr(92) + '|')} |")
    return f"## {function.__name__}\n\n{inspect.getdoc(function)}\n\n| argument | meaning |\n| --- | --- |\n" + "\n".join(rows)
