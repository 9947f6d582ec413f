"""The wheel of a release: small, for all systems of its tag, showing nothing but its entry points, accepted by a package index."""

import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from support.wheels import PLATFORM, ROOT, run

# the first test builds the wheel
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

ENTRY_POINTS = {"CreateEpFactories", "ReleaseEpFactory", "RegisterCustomOps"}
MOST_BYTES = 3_000_000


def exported(library):
    """The symbols that a library shows to others."""
    listing = run([shutil.which("nm"), "-D", "--defined-only", library], ROOT)
    return {line.split()[-1] for line in listing.splitlines()}


def test_exports(installed):
    """Each extension module shows its own initialisation, the plugin library the entry points too."""
    libraries = sorted(installed.rglob("*.so"))
    assert libraries
    for library in libraries:
        module = library.name.split(".")[0]
        assert exported(library) == {f"PyInit_{module}"} | (ENTRY_POINTS if module == "_plugin" else set()), library.name


def test_no_debug_information(installed):
    """Python's own flags ask for it; it would be two thirds of the file."""
    for library in installed.rglob("*.so"):
        assert ".debug_info" not in run([shutil.which("readelf"), "--sections", "--wide", library], ROOT)


def test_size(wheel):
    """Of the file that is downloaded."""
    assert wheel.stat().st_size < MOST_BYTES


def test_repaired(repaired):
    """It has the tag, the licence, the same exports, and nothing bundled; it is as small."""
    assert repaired.name.endswith(f"-{PLATFORM}.whl")
    assert repaired.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(repaired) as archive:
        names = archive.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if re.match(r"onnxruntime_ep_sparse\.libs/", name)]


def test_index_accepts(sdist, repaired):
    """twine has nothing to complain about."""
    pytest.importorskip("twine", reason="needs twine: pip install '.[release]'")
    assert run([sys.executable, "-m", "twine", "check", "--strict", sdist, repaired], ROOT).count("PASSED") == 2


def test_installs_and_runs(repaired, tmp_path):
    """pip takes it for this system, and a model runs with it from any folder."""
    environment = tmp_path / "venv"
    venv.create(environment, system_site_packages=False, with_pip=False)
    python = environment / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", repaired], tmp_path)
    # the other packages of this environment, after its own
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (folder,) = environment.glob("lib/python*/site-packages")
    (folder / "others.pth").write_text("\n".join(paths))
    code = "import onnxruntime_ep_sparse as sparse; print(sparse.get_library_path())"
    assert run([python, "-c", code], tmp_path, PYTHONPATH="").startswith(str(folder))
    check = subprocess.run([python, "-m", "onnxruntime_ep_sparse", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
