"""The table of commands: no command is missing in it, in `--help` or in the README, and each writes a JSON document."""

import inspect
import json
import re
from importlib import import_module
from pkgutil import iter_modules
from typing import get_args

import pytest

from onnxruntime_ep_sparse import cli as package
from onnxruntime_ep_sparse.cli import COMMANDS
from support.repository import ROOT

README = ROOT / "README.md"
NAMES = [command.__name__ for command in COMMANDS]
ARGUMENTS = {
    "check": [],
    "analyze": ["{model}"],
    "bench": ["{model}", "--option", "policy=always", "--pairs", "6", "--no-memory"],
    "compare": ["{model}"],
    "report": ["{model}", "-o", "{target}", "--pairs", "6", "--no-curves", "--option", "policy=always"],
    "trace": ["{model}", "-o", "{target}", "--runs", "2", "--option", "policy=always"],
    "annotate": ["{model}", "{target}"],
    "demo": ["--quick"],
    "prune": [
        "{model}",
        "{target}",
        "--data",
        "random",
        "--samples",
        "20",
        "--sparsity",
        "0.5",
        "--only",
        "product",
        "--method",
        "magnitude",
        "--no-timing",
    ],
    "pack": ["{model}", "{target}"],
    "unpack": ["{model}", "{target}"],
    "compile": ["{model}", "{target}"],
}
"""Arguments with which each command succeeds."""


def test_every_command_has_a_row():
    """The modules' own words: each names its commands in its docstring."""
    modules = [import_module(f"{package.__name__}.{found.name}") for found in iter_modules(package.__path__)]
    named = [name for module in modules for name in re.findall(r"`ort-sparse (\w+)`", module.__doc__.splitlines()[0])]
    assert sorted(named) == sorted(NAMES)


def test_help_lists_every_command(cli):
    """In the order of the table, each with a line that is not cut."""
    text = cli("--help").out.partition("Commands:")[2].partition("Exit codes")[0]
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    assert [name for name, _ in lines] == NAMES
    for name, words in lines:
        assert len(words) <= 60, name
        assert words.endswith("."), name
        assert not words.endswith("..."), name


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_help_of_options_begins_with_a_short_line(command):
    """The first sentence says what an argument is; a second one may say more."""
    for argument in inspect.signature(command, eval_str=True).parameters.values():
        _, about = get_args(argument.annotation)
        assert about.help.endswith("."), argument.name
        assert about.metavar or argument.annotation.__origin__ is bool, f"{argument.name}: a name for its value"
        assert len(re.split(r"(?<=\.) ", about.help)[0]) <= 60, argument.name


def test_readme_lists_every_command():
    """Its table has a row for each, or one for two that belong together."""
    table = README.read_text().partition("| command |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(?:ort-sparse )?(\w+)[^`]*`", row)) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_writes_a_document(cli, sparse_model, tmp_path, request, name):
    """With its name and the schema, to a file or to stdout."""
    if name == "demo":
        request.getfixturevalue("small_demo")
    if name == "report":
        pytest.importorskip("jinja2", reason="needs the extra: pip install '.[report]'")
    model = sparse_model
    if name == "unpack":
        model = tmp_path / "packed.onnx"
        cli("pack", sparse_model, model)
    paths = {"model": model, "target": tmp_path / "target.onnx"}
    arguments = [argument.format(**paths) for argument in ARGUMENTS[name]]
    report = tmp_path / "document.json"
    printed = cli(name, *arguments, "--json", "-").document
    assert cli(name, *arguments, "--json", report).out
    written = json.loads(report.read_text())
    for document in (printed, written):
        assert (document["schema"], document["command"]) == (1, name)
    assert printed.keys() == written.keys()
