"""The documented examples: the commands of their READMEs, and what has to be installed for them."""

import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from support import pages
from support.repository import DOCS, ROOT

EXAMPLES = DOCS / "examples"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OTHER_NAMES = {"classify_folder": "classify", "ray_data": "ray"}
"""Extras whose name is not that of the example's folder."""


def extra_of(name: str) -> str:
    """Return the name of the extra that an example needs."""
    return OTHER_NAMES.get(name, name)


def missing(extra: str) -> list[str]:
    """Return the requirements of an extra that are not installed in the version that it asks for; extras of this package are followed."""
    lacking = []
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == "onnxruntime-ep-sparse":
            lacking += [line for inner in sorted(requirement.extras) for line in missing(inner)]
        elif not requirement.marker or requirement.marker.evaluate():
            try:
                installed = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                installed = None
            if installed is None or not requirement.specifier.contains(installed, prereleases=True):
                lacking.append(str(requirement))
    return lacking


def commands(page: Path) -> list[str]:
    """Return the commands of a page in their order, without what it shows of their output."""
    return [command for command, _ in pages.commands(page)]


def words(command: str, **changes: str) -> list[str]:
    """Return a command of a README for this Python and these files, whatever the working folder. `changes` are values of its options."""
    found = shlex.split(command.replace("docs/examples/", f"{EXAMPLES}/"))
    for option, value in changes.items():
        found[found.index(f"--{option}") + 1] = value
    return [sys.executable if word == ".venv/bin/python" else word for word in found]
