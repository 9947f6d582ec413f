"""Builds a wheel for each interpreter, and tests it with the oldest and the newest ONNX Runtime: see docs/how-to/release.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import wheels

RUNTIMES = ("onnxruntime==1.25.*", "onnxruntime")
BUILD = ("build>=1.2", "setuptools>=77", "cython>=3.1,<4")


def install(python: Path, *packages: str) -> None:
    """Install packages into the environment of an interpreter."""
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", *packages], env=environment, check=True)


def environment(interpreter: str, folder: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def passes(python: Path, tree: Path, tests: list[str]) -> bool:
    """Run tests of the unpacked sdist with what is installed."""
    command = [python, "-m", "pytest", "-q", "-m", "not slow", *tests]
    process = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": ""}, check=False)
    return process.returncode == 0


def main() -> int:
    """Test all combinations; returns 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interpreters", nargs="+", metavar="PYTHON", help="an interpreter, by path or name")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="tests to run, of those that are not slow")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = wheels.check_out(folder)
        for number, interpreter in enumerate(arguments.interpreters):
            place = folder / str(number)
            builder = environment(interpreter, place / "builder")
            install(builder, *BUILD)
            tree = wheels.unpack_sdist(wheels.build_sdist(source, place / "sdist", builder), place / "tree")
            built = wheels.build_wheel(tree, place / "wheel", builder)
            wheel = wheels.repair(built, place / "repaired")
            python = environment(interpreter, place / "user")
            for runtime in RUNTIMES:
                install(python, f"{wheel}[test]", runtime)
                results.append((passes(python, tree, arguments.tests), wheel.name, wheel.stat().st_size, runtime))
    for passed, wheel, size, runtime in results:
        print(f"{'passed' if passed else 'FAILED'}  {wheel}  {size / 1e6:.2f} MB  {runtime}")
    return 0 if all(passed for passed, *_ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
