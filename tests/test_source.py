"""The source itself: linters and types."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    ["ruff check --no-cache .", "ruff format --no-cache --diff .", "cython-lint provider kernels", "mypy"],
    ids=lambda command: command.replace(" --no-cache", ""),
)
def test_lint(command):
    """Nothing to say."""
    if not (TOOLS / command.split()[0]).exists():
        pytest.skip(f"needs {command.split()[0]} beside {sys.executable}")
    # cython-lint calls pycodestyle by its name
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = subprocess.run(command.split(), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


HABITS = re.compile(r"(?<!there )\b(?:is|are) none\b(?! of)|(?<!there )\bis no\b(?! longer)|\b(?:nobody|somebody|whoever|theirs)\b")
"""Words that hide who does what, or say "not a" in a way that readers stumble over: docs/style.md, rules 3 and 5."""


def messages():
    """What users read: the pages of the documentation, and the texts of errors; each with its place."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        if page.name not in ("style.md", "CHANGELOG.md"):  # the one has the words as examples, the other tells the past
            yield page.relative_to(ROOT).as_posix(), re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for folder in ("provider", "kernels"):
        for path in (ROOT / folder).rglob("*.py*"):
            if path.suffix == ".py":
                raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
                texts = [word.value for node in raised for word in ast.walk(node) if isinstance(word, ast.Constant)]
                yield path.relative_to(ROOT).as_posix(), "\n".join(str(text) for text in texts)
            elif path.suffix == ".pyx":
                yield path.relative_to(ROOT).as_posix(), "\n".join(re.findall(r"raise \w+\((.*)", path.read_text()))


def test_plain_words():
    """Pages and errors name the actor and say "not a"."""
    assert {place: HABITS.findall(text) for place, text in messages() if HABITS.search(text)} == {}


def test_habits_are_found():
    """The pattern finds what it is for, and lets "there is no file" and "no longer" pass."""
    assert all(HABITS.search(text) for text in ("x is no number", "that is none", "that nobody reads", "for whoever asks"))
    assert not any(HABITS.search(text) for text in ("there is no file", "is no longer there", "none of them is", "they are none of these"))
