"""The repository: its folders, its source files, and which of them a build writes."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
GENERATED = ("_enums.pxd", "_byte_enums.pxd", "_isa_*.pyx", "_bytes_*.pyx", "_cpu.pyx", "_plugin.h", "*.c")
"""Names of the sources that a build writes beside others."""


def name_of(path: Path) -> str:
    """Return the path of a file in the repository."""
    return path.relative_to(ROOT).as_posix()


def is_generated(path: Path) -> bool:
    """Return whether a build writes this source."""
    return any(fnmatch(path.name, pattern) for pattern in GENERATED)


def sources() -> Iterator[Path]:
    """Yield the source files of both packages, without those that a build writes."""
    for folder in ("provider", "kernels"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".pyx", ".pxd", ".in", ".h") and not is_generated(path):
                yield path
