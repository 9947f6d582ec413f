"""An sdist and wheels, made as a release makes them: by the commands of docs/how-to/release.md."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from support.repository import GENERATED, ROOT

PLATFORM = "manylinux_2_28_x86_64"
NOT_CHECKED_OUT = shutil.ignore_patterns(
    *GENERATED,
    ".*cache",
    ".git",
    ".venv*",
    ".hypothesis",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    "*.so",
)


def run(command, cwd, **environment):
    """A command's output; its errors are the test's."""
    process = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    return process.stdout


def check_out(folder):
    """Copy the tree as it would be checked out."""
    return shutil.copytree(ROOT, folder / "tree", ignore=NOT_CHECKED_OUT)


def build_sdist(source, folder, python=sys.executable):
    """Build the sdist of a tree, with an interpreter that has build, setuptools and Cython, and return its file."""
    run([python, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, "."], source)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpack_sdist(archive, folder):
    """Unpack an sdist and return its top folder."""
    with tarfile.open(archive) as tar:
        # Python 3.11.3 and older have no filters
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name.removesuffix(".tar.gz")


def build_wheel(source, folder, python=sys.executable, **environment):
    """Build a wheel of a tree with an interpreter that has build, setuptools and Cython, where numpy cannot be imported."""
    without = folder / "without"
    without.mkdir(parents=True)
    (without / "numpy.py").write_text("raise ImportError('numpy is not needed to build')\n")
    paths = os.pathsep.join(filter(None, [str(without), os.environ.get("PYTHONPATH")]))
    run([python, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, "."], source, PYTHONPATH=paths, **environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def copy_products(built, folder):
    """Copy what a build in a tree has made, so that a build of the same sources in `folder` need not make it again.

    Cython translates a source again if a file that it includes is newer, also one of Cython's own, which an isolated environment has just
    installed. So the copies get times that are to come, modules later ones than sources.
    """
    products = {path for pattern in (*GENERATED, "*.so") for path in built.rglob(pattern)}
    for product in sorted(products):
        target = folder / product.relative_to(built)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(product, target)
        later = time.time() + (7200 if product.suffix == ".so" else 3600)
        os.utime(target, (later, later))


def search_path():
    """PATH, with the commands of this environment first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def repair(wheel, folder):
    """Give a wheel the tag of the systems that it runs on. auditwheel refuses one that needs newer libraries; it calls patchelf."""
    arguments = ["repair", "--plat", PLATFORM, "--only-plat", "--wheel-dir", folder, wheel]
    run([sys.executable, "-m", "auditwheel", *arguments], folder.parent, PATH=search_path())
    (repaired,) = folder.glob("*.whl")
    return repaired
