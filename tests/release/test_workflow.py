"""The configuration of releases, which no test can run: what linters say of it, and what follows from it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import onnxruntime_ep_sparse as sparse
from support.repository import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
TOOLS = Path(sys.executable).parent


def tool(name):
    """The path of a command beside this interpreter."""
    found = shutil.which(name, path=TOOLS)
    return found or pytest.skip(f"needs {name}: pip install '.[release]'")


def run(*command):
    """What a command says; it has to be content."""
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_schema():
    """The workflow is one that GitHub reads."""
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW)


def test_security():
    """Actions are pinned by hash, permissions are the least, no text of others gets into a shell."""
    run(tool("zizmor"), "--offline", "--quiet", "--persona=pedantic", WORKFLOW)


@pytest.mark.parametrize(("tag", "accepted"), [(f"v{sparse.__version__}", True), ("v999.0.0", False), (sparse.__version__, False)])
def test_tag(tag, accepted):
    """The step that compares the tag with the version does so."""
    (step,) = re.findall(r"run: (test .*)", WORKFLOW.read_text())
    process = subprocess.run(["bash", "-c", step], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag}, check=False)
    assert (process.returncode == 0) == accepted


def test_wheels():
    """cibuildwheel reads its configuration, and builds a wheel for each Python that the classifiers name."""
    named = re.findall(r"Python :: 3\.(\d+)", (ROOT / "pyproject.toml").read_text())
    built = run(tool("cibuildwheel"), "--print-build-identifiers", "--platform", "linux", ".").split()
    assert built == [f"cp3{minor}-manylinux_x86_64" for minor in named]
