"""The sdist has every source, and a wheel built from it works where there is nothing but numpy."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse_kernels.isa import ISAS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
GENERATED = shutil.ignore_patterns(
    "_enums.pxd", "_isa_*.pyx", "_cpu.pyx", ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.c"
)


def run(command, cwd, **environment):
    """A command's output; its errors are the test's."""
    environment = {**os.environ, "ORT_SPARSE_CFLAGS": "-O0", **environment}
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    return process.stdout


def files_in(folder):
    """Paths of all files below, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The tree as it would be checked out."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "tree", ignore=GENERATED)


@pytest.fixture(scope="module")
def checked_out(source):
    """Its files, before anything is built in it."""
    return files_in(source)


@pytest.fixture(scope="module")
def sdist(source, checked_out, tmp_path_factory):
    """The unpacked sdist of it."""
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, "."], source)
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as tar:
        # Python 3.11.3 and older have no filters
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The installed files of a wheel built from that."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, "."], sdist)
    (archive,) = folder.iterdir()
    with zipfile.ZipFile(archive) as unzipped:
        unzipped.extractall(folder / "installed")
    return folder / "installed"


def test_sdist(sdist, checked_out):
    """Every source that is checked out, and nothing generated."""
    packed = files_in(sdist)
    assert {name for name in checked_out if name.startswith(("provider/", "kernels/", "tests/", "docs/"))} <= packed
    assert {"README.md", "LICENSE", "setup.py", "pyproject.toml"} <= packed
    assert not [name for name in packed if re.search(r"\.c$|\.so$|/_enums\.pxd$|/_isa_\w+\.pyx$|/_cpu\.pyx$", name)]


def test_wheel(wheel, checked_out):
    """All modules, compiled or not, their type hints, and no source or product of the build."""
    packed = files_in(wheel)
    modules = {name.split("/", 1)[1] for name in checked_out if re.match(r"(provider|kernels)/.*\.(py|pyi|typed)$", name)}
    assert modules <= packed
    compiled = {name.split(".")[0] for name in packed if name.endswith(".so")}
    sources = {name.split("/", 1)[1].removesuffix(".pyx") for name in checked_out if name.endswith(".pyx")}
    generated = {f"onnxruntime_ep_sparse_kernels/{name}" for name in ("_cpu", ISAS[-1].module)}
    assert sources | generated <= compiled
    assert not [name for name in packed if name.endswith((".c", ".h", ".pyx", ".pxd", ".in", ".map"))]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_wheel_without_onnxruntime(wheel, tmp_path):
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
    first, second = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(wheel)).splitlines()
    assert all(path.startswith(str(wheel)) for path in first.split())
    assert second == "SparseExecutionProvider needs onnxruntime: pip install 'onnxruntime>=1.25'"


def test_metadata(wheel):
    """numpy is all that a plain installation pulls in; the version is the package's."""
    (information,) = wheel.glob("*.dist-info")
    distribution = metadata.PathDistribution(information)
    assert [re.match(r"[\w-]+", line)[0] for line in distribution.requires if "extra ==" not in line] == ["numpy"]
    assert distribution.version == sparse.__version__


def test_version(checked_out):
    """Plain semantic versioning, written down once."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", sparse.__version__)
    code = [name for name in checked_out if name.endswith((".py", ".pyx", ".pxd", ".toml", ".in", ".h")) and not name.startswith("tests/")]
    places = [name for name in code if re.search(rf"""["']{re.escape(sparse.__version__)}["']""", (ROOT / name).read_text())]
    assert places == ["provider/onnxruntime_ep_sparse/_version.py"]
