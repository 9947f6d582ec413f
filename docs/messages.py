"""The messages of errors in the source, by area, each area with advice: what generate.py makes docs/reference/errors.md of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "provider" / "onnxruntime_ep_sparse"
MET_AS = {
    "UsageError": "exit code 2",
    "FailedError": "exit code 1",
    "FailedError if provider == EP_NAME else UsageError": "exit code 1 or 2",
    "UnmeasuredError": "reason `not-measured`",
    "unreachable": "warning",
    "UnavailableError": "`ValueError`",
    "NotComputedError": "`ValueError`",
}
"""What users meet of exceptions that the package catches itself; they meet the others as they are raised."""
NAMES = {"EP_NAME": "SparseExecutionProvider", "__name__": "{type}", "strerror": "{error}", "json_file": "{file}", "path": "{file}"}
"""Fields that a user would not understand by the names that they have in the code."""


@dataclass(frozen=True)
class Area:
    """Errors of one kind: the files or folders that raise them, and what a user can do about each of them."""

    title: str
    places: tuple[str, ...]
    advice: str


AREAS = (
    Area(
        "Installation",
        ("__init__.py", "ort/registration.py", "prune/__init__.py", "ort/_plugin.pyx"),
        "Install the package that the message names, in the environment of the program. `ort-sparse check` shows versions.",
    ),
    Area(
        "Provider options",
        ("options.py", "ort/log_level.py"),
        "Correct the option or the environment variable. [Options](../options.md) lists names and valid values.",
    ),
    Area(
        "Sessions",
        ("ort/session_factory.py", "ort/sessions.py", "diagnostics", "ort/_region.pyx", "ort/_binding.pyx"),
        "Create the session in the process that runs it, with this provider first and `enable_fallback=0`. "
        "See [threads and sessions](../how-to/threads-and-sessions.md).",
    ),
    Area(
        "Inputs of a run",
        ("runtime", "ort/_custom_ops.pyx"),
        "Compare the shapes and types of the inputs with those that the model declares: `session.get_inputs()`. "
        "If the CPU provider accepts the same inputs, report the model.",
    ),
    Area(
        "Command line",
        ("cli", "measure", "records.py", "reporting"),
        "Correct the argument; `ort-sparse COMMAND --help` lists all. A file that must not be overwritten needs another name.",
    ),
    Area(
        "Data for a model",
        ("models/inputs.py",),
        "Give arrays with the names, element types and shapes of the model's inputs, samples along the first axis.",
    ),
    Area(
        "Built-in models",
        ("models",),
        "Correct the name: `model:NAME[:SPARSITY[:PATTERN[:FORMAT]]]`, with a sparsity from 0 to 1.",
    ),
    Area(
        "Model files and other files",
        ("files.py", "formats/onnx_file.py", "diagnostics/annotate.py", "formats/constants.py", "formats/region_model.py"),
        "Check that the model and its external data are complete, in one folder, and that the target is not one of them.",
    ),
    Area(
        "Compressed models",
        ("formats", "passes", "ort/custom_op_shapes.py"),
        "Copy the file again, or compress the original model again by `ort-sparse pack`.",
    ),
    Area(
        "Compiled models and the cache",
        ("framed.py", "ort/ep_context.py", "ort/region_cache.py", "partition/verdict.py", "program"),
        "Compile the original model again by `ort-sparse compile`, with the version that runs it. "
        "Sessions replace damaged entries of the cache themselves.",
    ),
    Area(
        "Measured decisions",
        ("ort/region_timer.py", "partition"),
        "Nothing needs to be done: the region is decided as by `policy=auto`, and its [reason](../reasons.md) contains this text. "
        "Raise `measure_budget_ms` if the time was used up.",
    ),
    Area(
        "Calibration data",
        ("prune/batches.py", "prune/data.py", "prune/images.py", "prune/texts.py"),
        "Give data in one of the forms that `ort-sparse prune --help` lists.",
    ),
    Area(
        "Masks",
        ("prune/masks.py", "prune/bound.py", "prune/matching.py", "prune/gradual.py"),
        "Attach masks to the module as it was exported, before it is trained further. See [fine-tune with masks]"
        "(../tutorial/pytorch.md#fine-tune-with-masks).",
    ),
    Area(
        "Pruning",
        ("prune",),
        "Correct the argument that the message begins with. [Prune well](../how-to/prune-well.md) says which ones suit a model.",
    ),
    Area(
        "Memory",
        (),
        "Give the process more memory. [Packed and compiled models](../how-to/containers.md#memory) need less.",
    ),
    Area(
        "Defects of the provider",
        ("ort/_graph_reader.pyx",),
        "Report the model: this is not an error of yours.",
    ),
)
"""A message belongs to the first area with its file, else to the one with its folder; what says that memory is short, to `Memory`."""
MEMORY = next(area for area in AREAS if area.title == "Memory")


@dataclass(frozen=True, order=True)
class Message:
    """An error: its text with … for what is filled in, and what is raised."""

    text: str
    raised: str


def _text(node: ast.expr) -> str | None:
    """Return the text of a string, or of the first of a sum of strings, with fields as {name}; None if it is not a string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(piece.value) if isinstance(piece, ast.Constant) else _field(_name(piece)) for piece in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_text(side) or "…" for side in (node.left, node.right)]
        return "".join(sides)
    return None


def _field(name: str) -> str:
    """Return what stands for a field of this name."""
    return "…" if name == "…" else NAMES.get(name, "{" + name.strip("_") + "}")


def _name(field: ast.expr) -> str:
    """Return the name that stands for a field: that of a variable, of an attribute, or of the first argument of a call."""
    value = field.value if isinstance(field, ast.FormattedValue) else field
    if isinstance(value, ast.Name):
        return value.id
    if isinstance(value, ast.Attribute):
        return value.attr
    if isinstance(value, ast.Call) and value.args and isinstance(value.func, ast.Name):
        return _name(value.args[0])
    return "…"


def _of_python(text: str) -> Iterator[Message]:
    """Yield the messages of a Python file: the first arguments of the exceptions that it raises, but for texts that other code has made."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised = ast.unparse(node.exc.func).removeprefix("_")
            found = _text(node.exc.args[0]) if node.exc.args else None
            if found and re.search(r"\w{3}", re.sub(r"\{\w+\}|…", "", found)):
                yield Message(found, MET_AS.get(raised, f"`{raised}`"))


def _of_cython(text: str) -> Iterator[Message]:
    """Yield the messages of a Cython file: of exceptions, and of its C functions, which ONNX Runtime raises as `Fail`."""
    for raised, quoted in re.findall(r"raise (\w+)\((?:\w+, )?f?\"([^\"]*)\"", text):
        yield Message(re.sub(r"\{(?!\w+\})[^}]*\}", "…", quoted.replace("!r}", "}")), f"`{raised}`")
    for quoted in re.findall(r"snprintf\(message, [^,]+,\s*((?:\"[^\"]*\"\s*)+)", text):
        joined = "".join(re.findall(r"\"([^\"]*)\"", quoted))
        if re.search(r"\w{4}", re.sub(r"%\S+", "", joined)):
            yield Message(re.sub(r"%(?:[.\d]*(?:lld|zu|d|s))", "…", joined), "`Fail`")


def messages() -> dict[Area, list[Message]]:
    """Return the messages of the package by area. ValueError if a file with messages belongs to no area."""
    found: dict[Area, list[Message]] = {area: [] for area in AREAS}
    for path in sorted(PACKAGE.rglob("*.py*")):
        if path.suffix not in (".py", ".pyx"):
            continue
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_text()
        here = list(_of_python(text) if path.suffix == ".py" else _of_cython(text))
        if here:
            exact = [area for area in AREAS if name in area.places]
            folder = [area for area in AREAS if any(name.startswith(f"{place}/") for place in area.places)]
            if not exact and not folder:
                raise ValueError(f"{name} raises errors and belongs to no area of docs/messages.py: add it to one, or add an area")
            for message in here:
                memory = "memory" in message.text and (message.raised == "`MemoryError`" or message.text.startswith("out of"))
                found[MEMORY if memory else (exact or folder)[0]].append(message)
    return {area: sorted(set(here)) for area, here in found.items()}


def markdown() -> str:
    """Return a section per area: its advice and the table of its messages."""
    sections = []
    for area, here in messages().items():
        rows = [f"| `{_cell(message.text)}` | {message.raised} |" for message in here]
        sections.append("\n".join([f"## {area.title}", "", area.advice, "", "| message | raised as |", "| --- | --- |", *rows]))
    return "\n\n".join(sections)


def _cell(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "\\|").split())
