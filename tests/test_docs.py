"""Documents: those that follow from the code, links, code blocks, pictures."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from support.making import model_of, pruned

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = runpy.run_path(str(DOCS / "generate.py"))["documents"]()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


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


def name_of(page):
    """The path of a page in the repository."""
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = FENCED.sub("", page.read_text())
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page):
    """Links within the repository lead to something, and those to a section to a heading."""
    text = FENCED.sub("", page.read_text())
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
    for target in re.findall(r'(?:src|srcset)="(?!\w+:)([^"]+)"', text):
        assert (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the models that the pages name: a pruned one with an open batch, and what `pack` makes of it."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    nodes = [make_node("MatMul", ["x", "up"], ["a"]), make_node("Relu", ["a"], ["b"]), make_node("MatMul", ["b", "down"], ["y"])]
    model = model_of(nodes, {"x": ["batch", 256]}, ["y"], {"up": pruned(rng, (256, 512), 0.97), "down": pruned(rng, (512, 256), 0.97)})
    for name in ("model.onnx", "pruned.onnx"):
        onnx.save(model, folder / name)
    subprocess.run([sys.executable, "-m", "onnxruntime_ep_sparse", "pack", "model.onnx", "compressed.onnx"], cwd=folder, check=True)
    return folder


def blocks(page, kind):
    """The code blocks of a page of one kind."""
    return [code for found, code in FENCED.findall(page.read_text()) if found == kind]


ELSEWHERE = ("docs/tutorial/pytorch.md", "docs/examples")
"""Pages that have tests of their own: tests/prune/test_tutorial.py, tests/examples."""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and not name_of(page).startswith(ELSEWHERE)], ids=name_of
)
def test_python_blocks(page, folder):
    """The Python of a page runs, block after block, in a process of its own."""
    code = "\n".join(blocks(page, "python"))
    if "import torch" in code and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch: pip install torch")
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Falling back" not in done.stdout + done.stderr


def test_pictures():
    """What is checked in is what pictures.py draws from the data."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra: pip install '.[docs]'")
    if not matplotlib.__version__.startswith("3.11."):
        pytest.skip(f"matplotlib {matplotlib.__version__} draws other bytes than 3.11, which the extra [docs] has")
    drawn = runpy.run_path(str(DOCS / "pictures.py"))["drawn"]()
    assert all((DOCS / "images" / name).read_text() == svg for name, svg in drawn.items()), "run python docs/pictures.py"


def test_every_picture_is_shown():
    """Each picture stands on a page, in its light and its dark form if it has both."""
    text = "".join(page.read_text() for page in PAGES)
    for picture in (DOCS / "images").iterdir():
        assert picture.name in text, picture.name


@pytest.mark.slow
def test_site(tmp_path):
    """Sphinx builds the site of these pages without a warning."""
    missing = [name for name in ("sphinx", "myst_parser", "furo") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "explanation" / "how-it-works.html").exists()
    assert (tmp_path / "images" / "regions.svg").exists()
