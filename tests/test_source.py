"""The source itself: linters and types."""

import os
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
