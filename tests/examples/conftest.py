"""Tests of examples: all have the marker `examples`, and are skipped where the extra of their example is not installed."""

import subprocess
from pathlib import Path

import pytest

from support.examples import EXAMPLES, extra_of, missing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder. `test_NAME.py` tests `docs/examples/NAME/`; other files test what all examples share."""
    for item in items:
        name = item.path.stem.removeprefix("test_")
        if item.path.parent == HERE and (EXAMPLES / name).is_dir():
            item.add_marker(pytest.mark.examples)
            extra = extra_of(name)
            if lacking := missing(extra):
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(lacking)}: pip install '.[{extra}]'"))


@pytest.fixture
def environment(anywhere):
    """The variables of the commands of an example; a test file may have others."""
    return anywhere


@pytest.fixture
def run(environment, tmp_path):
    """Run a command in a temporary folder; returns the finished process. `expect` is its exit code."""

    def finished(*command, expect=0):
        process = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert process.returncode == expect, process.stdout + process.stderr
        return process

    return finished
