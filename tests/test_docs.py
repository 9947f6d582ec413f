"""Documents: those that follow from the code, links, code blocks, pictures."""

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import messages
import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from onnxruntime.quantization import quantize_dynamic
from typer.testing import CliRunner

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.cli import app
from onnxruntime_ep_sparse.models import digits
from support.making import model_of, pruned
from support.pages import FENCED, blocks, commands, fits
from support.repository import DOCS, PAGES, ROOT, is_generated, name_of, sources

WRITTEN = runpy.run_path(str(DOCS / "generate.py"))["documents"]()


@pytest.mark.parametrize("name", WRITTEN)
def test_generated(name):
    """What is checked in is what generate.py writes."""
    assert (DOCS / name).read_text() == WRITTEN[name], "run python docs/generate.py"


def test_architecture_names_every_file():
    """The map has a line for each source file, and none for a file that is gone."""
    names = {"cli/", "models/"}
    for package in (ROOT / "provider" / "onnxruntime_ep_sparse", ROOT / "kernels" / "onnxruntime_ep_sparse_kernels"):
        found = {path.relative_to(package) for pattern in ("*.py", "*.pyx", "*.in", "*.h") for path in package.rglob(pattern)}
        own = (path for path in found if not is_generated(path) and not path.name.startswith("__"))
        names |= {path.as_posix() for path in own if path.parts[0] not in ("cli", "models")}
    listed = set(re.findall(r"^\| `([\w./]+)`", (DOCS / "architecture.md").read_text(), re.M))
    assert listed == names


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
def files(tmp_path_factory):
    """A folder with the files that the pages name: pruned models, one of them compressed, one in INT8; data to prune a dense one."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    nodes = [make_node("MatMul", ["x", "up"], ["a"]), make_node("Relu", ["a"], ["b"]), make_node("MatMul", ["b", "down"], ["y"])]
    for i, node in enumerate(nodes):
        node.name = f"/layers/{i}/{node.op_type}"
    for name, zeros in (("model.onnx", 0.97), ("open.onnx", 0.75), ("dense.onnx", 0.0)):
        weights = {"up": pruned(rng, (256, 512), zeros), "down": pruned(rng, (512, 256), zeros)}
        onnx.save(model_of(nodes, {"x": ["batch", 256]}, ["y"], weights), folder / name)
    first, last = (
        make_node("Gemm", ["x", "up", "b"], ["a"], "/0/Gemm", transB=1),
        make_node("Gemm", ["h", "down", "c"], ["y"], "/2/Gemm", transB=1),
    )
    weights = {"up": pruned(rng, (512, 256), 0.95), "down": pruned(rng, (256, 512), 0.95), "b": np.ones(512), "c": np.ones(256)}
    constants = {name: weight.astype(np.float32) for name, weight in weights.items()}
    exported = model_of([first, make_node("Relu", ["a"], ["h"], "/1/Relu"), last], {"x": ["batch", 256]}, ["y"], constants)
    onnx.save(exported, folder / "pruned.onnx")
    quantize_dynamic(folder / "model.onnx", folder / "int8.onnx")
    for name, samples in (("calibration", 512), ("few", 64)):
        np.savez(folder / f"{name}.npz", x=rng.standard_normal((samples, 256)).astype(np.float32))
    subprocess.run([sys.executable, "-m", "onnxruntime_ep_sparse", "pack", "model.onnx", "compressed.onnx"], cwd=folder, check=True)
    return folder


@pytest.fixture
def folder(files, tmp_path):
    """A copy of these files for one page, which may overwrite them."""
    return Path(shutil.copytree(files, tmp_path / "page"))


ELSEWHERE = ("docs/tutorial/pytorch.md", "docs/examples")
"""Pages that have tests of their own: tests/prune/test_tutorial.py, tests/examples."""


@pytest.mark.slow
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


NOT_RUN = {
    "python3 -m venv": "installs packages from the network; tests/release installs the wheel, .ci/run runs the two lines of the README",
    ".venv/bin/": "the same: building and testing in that environment",
    ".venv-release/bin/": "the same; tests/release runs them where the extra [release] is installed",
    "PATH=$PWD/.venv-release/bin": "the same",
    "docker": "needs a container engine; tests/release/test_container.py carries out the Dockerfile",
    "ORT_DISABLE_TELEMETRY=1 gunicorn": "serves until it is stopped; tests/ort/test_forks.py does it",
    "pip install": "installs packages from the network",
    "sphinx-build": "test_site does it",
    "ort-sparse report": "takes ten seconds and the extra [report]; tests/cli/test_cli_report.py does it",
}
"""How commands begin that are slow, or need the network, and the reason why test_commands leaves them out."""


@pytest.fixture
def short_training(monkeypatch):
    """The nets of the demo get a short training, which changes the numbers of its output alone."""
    train = digits.train
    monkeypatch.setattr(digits, "train", lambda epochs, **rest: train(epochs=1, channels=(16, 32), hidden=128, **rest))


@pytest.mark.usefixtures("short_training")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if "first-run" in page.name else ())
        for page in PAGES
        if commands(page) and not name_of(page).startswith(ELSEWHERE)
    ],
    ids=name_of,
)
def test_commands(page, folder, monkeypatch):
    """The commands of a page run, one after the other, and print what it shows, but for numbers. Other programs are named in NOT_RUN."""
    if kernels.available_isas()[0] == "baseline":
        pytest.skip("the pages show the decisions of CPUs with AVX2 or AVX-512")
    monkeypatch.chdir(folder)
    for command, shown in commands(page):
        if command.startswith(tuple(NOT_RUN)):
            continue
        with monkeypatch.context() as patch:
            words = shlex.split(command)
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            program, *arguments = words
            assert program == "ort-sparse", f"{command}: not a command that this test can run, and not named in NOT_RUN"
            result = CliRunner().invoke(app, arguments)
        errors = "".join(line for line in result.stderr.splitlines(keepends=True) if line.startswith("ort-sparse:"))
        assert shown is not None or result.exit_code == 0, f"{command}: {result.stderr}"
        assert shown is None or fits(shown, result.stdout + errors), f"{command}\n{result.stdout}{errors}"


def test_environment_variables():
    """The page names every variable that the code reads."""
    text = "\n".join(path.read_text() for path in (*sources(), ROOT / "setup.py", *(ROOT / "tests").rglob("*.py")))
    read = set(re.findall(r"\bORT_SPARSE_[A-Z]\w*", text)) | set(re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)[\"']", text))
    shown = (DOCS / "reference" / "environment.md").read_text()
    assert sorted(name for name in read - {"HOME", "PATH", "PYTHONPATH"} if f"`{name}`" not in shown) == []


def test_errors_have_advice():
    """Each area of errors has messages, and says in whole sentences what to do about them."""
    for area, found in messages.messages().items():
        assert found, area.title
        assert re.fullmatch(r"[A-Z`].*\.", area.advice), area.title


def test_fits():
    """Numbers, widths and verdicts may differ, words and the number of lines may not."""
    shown = "a   p50 ms\n─────\nx  1.5\n…\nA/A ratio 1.01 (5 pairs): valid (within 3%)\n"
    assert fits(shown, "a p50 ms\n──\n\nx  22\nmore\nA/A ratio 0.9 (6 pairs): NOT VALID (within 3%)\n")
    assert not fits(shown, "a p50 ms\n──\nx  22\nmore\n")
    assert not fits(shown, "a p50 ms\n──\ny  22\nA/A ratio 0.9 (6 pairs): valid (within 3%)\n")
    assert not fits("one\n", "one\ntwo\n")
    assert fits("zeros 74.9%\np99 1.2 to 3.4 ms\n", "zeros 74.8 to 75.0%\np99 7.0 to 8.1 (85%) ms\n")


def test_pictures():
    """What is checked in is what pictures.py draws from the data."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra: pip install '.[docs]'")
    if not matplotlib.__version__.startswith("3.11."):
        pytest.skip(f"matplotlib {matplotlib.__version__} draws other bytes than 3.11, which the extra [docs] has")
    if not version("rich").startswith("15."):
        pytest.skip(f"rich {version('rich')} draws other bytes than 15, which the extra [docs] has")
    drawn = runpy.run_path(str(DOCS / "pictures.py"))["drawn"]()
    assert all((DOCS / "images" / name).read_text() == svg for name, svg in drawn.items()), "run python docs/pictures.py"


def test_the_readme_is_short():
    """At most a hundred lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


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
    for page in tmp_path.rglob("*.html"):
        for source in re.findall(r'<(?:img|source)[^>]* src(?:set)?="([^"]+)"', page.read_text()):
            assert (page.parent / source).exists(), f"{page.relative_to(tmp_path)} shows {source}"
