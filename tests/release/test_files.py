"""The sdist has every source, and a wheel built from it works where there is nothing but numpy."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.repository import ROOT, is_generated
from support.wheels import run

# the first test builds the wheel
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_sdist(sdist_files, checked_out):
    """Every file that is checked out, so that all tests run in it too, and nothing generated."""
    assert checked_out - {".gitignore"} <= sdist_files
    assert not [name for name in sdist_files if name.endswith(".so") or is_generated(Path(name))]


def test_wheel(installed, checked_out):
    """All modules, compiled or not, their type hints, the licence, and no source or product of the build."""
    packed = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    modules = {name.split("/", 1)[1] for name in checked_out if re.match(r"(provider|kernels)/.*\.(py|pyi|typed)$", name)}
    assert modules <= packed
    compiled = {name.split(".")[0] for name in packed if name.endswith(".so")}
    sources = {name.split("/", 1)[1].removesuffix(".pyx") for name in checked_out if name.endswith(".pyx")}
    generated = {f"onnxruntime_ep_sparse_kernels/{name}" for name in ("_cpu", ISAS[-1].module)}
    assert sources | generated <= compiled
    assert not [name for name in packed if name.endswith((".c", ".h", ".pyx", ".pxd", ".in", ".map"))]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_wheel_without_onnxruntime(installed, tmp_path):
    """It imports and computes without onnxruntime, and says what is missing when that is needed."""
    code = """
import sys
sys.modules["onnxruntime"] = None
import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse_kernels.isa import ISAS
import onnxruntime_ep_sparse_kernels as kernels
for isa in kernels.available_isas():
    kernels.table(isa)
print(sparse.__file__, sparse.get_library_path())
try:
    sparse.register()
except ImportError as error:
    print(error)
"""
    first, second = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert all(path.startswith(str(installed)) for path in first.split())
    assert second == "SparseExecutionProvider needs onnxruntime: pip install 'onnxruntime>=1.25'"


def test_metadata(installed):
    """numpy is all that a plain installation pulls in; the version is the package's; who made it and where its source is are told."""
    (information,) = installed.glob("*.dist-info")
    distribution = metadata.PathDistribution(information)
    assert [re.match(r"[\w-]+", line)[0] for line in distribution.requires if "extra ==" not in line] == ["numpy"]
    assert distribution.version == sparse.__version__
    assert distribution.metadata["Author"] == "The onnxruntime-ep-sparse developers"
    urls = dict(line.split(", ") for line in distribution.metadata.get_all("Project-URL"))
    assert {"Source", "Documentation", "Changelog", "Issues"} <= urls.keys()
    assert all(url.startswith(urls["Source"]) for url in urls.values())


def test_readme(installed):
    """The page of a package index is the README, and its links lead to the files of this version on the web."""
    (information,) = installed.glob("*.dist-info")
    shown = metadata.PathDistribution(information).metadata
    assert shown["Description-Content-Type"] == "text/markdown"
    page, readme = shown.get_payload(), (ROOT / "README.md").read_text()
    here, there = (re.findall(r"\]\(([^)]+)\)", text) for text in (readme, page))
    (source,) = [line.split(", ")[1] for line in shown.get_all("Project-URL") if line.startswith("Source, ")]
    assert there == [link if re.match(r"\w+:|#", link) else f"{source}/blob/v{sparse.__version__}/{link}" for link in here]
    assert len([link for link in here if not re.match(r"\w+:|#", link)]) > 5
    pictures, shown_pictures = (re.findall(r'src(?:set)?="([^"]+)"', text) for text in (readme, page))
    assert pictures
    assert shown_pictures == [f"{source}/raw/v{sparse.__version__}/{picture}" for picture in pictures]
    targets = r'\]\([^)]+\)|src(?:set)?="[^"]+"'
    assert re.sub(targets, "", page).strip() == re.sub(targets, "", readme).strip()


def test_version(checked_out):
    """Plain semantic versioning, written down once."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", sparse.__version__)
    code = [name for name in checked_out if name.endswith((".py", ".pyx", ".pxd", ".toml", ".in", ".h")) and not name.startswith("tests/")]
    places = [name for name in code if re.search(rf"""["']{re.escape(sparse.__version__)}["']""", (ROOT / name).read_text())]
    assert places == ["provider/onnxruntime_ep_sparse/_version.py"]
