"""Documents that follow from the code."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = runpy.run_path(str(DOCS / "generate.py"))["documents"]()
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("name", WRITTEN)
def test_generated(name):
    """What is checked in is what generate.py writes."""
    assert (DOCS / name).read_text() == WRITTEN[name], "run python docs/generate.py"


def test_architecture_names_every_file():
    """The map has a line for each source file, and none for a file that is gone."""
    names = {"cli/", "models/"}
    for package in (ROOT / "provider" / "onnxruntime_ep_sparse", ROOT / "kernels" / "onnxruntime_ep_sparse_kernels"):
        found = {path.relative_to(package) for pattern in ("*.py", "*.pyx", "*.in", "*.h") for path in package.rglob(pattern)}
        generated = ("_isa_", "_cpu.pyx", "_plugin.h", "__")
        names |= {p.as_posix() for p in found if p.parts[0] not in ("cli", "models") and not p.name.startswith(generated)}
    listed = set(re.findall(r"^\| `([\w./]+)`", (DOCS / "architecture.md").read_text(), re.M))
    assert listed == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    """Links within the repository lead to something."""
    for target in re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
