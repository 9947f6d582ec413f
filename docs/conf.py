"""Configuration of the site: `sphinx-build -W -n docs SITE` with the extra `[docs]`. The pages themselves are plain CommonMark."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Source"]

project = PROJECT["name"]
author = copyright = ", ".join(person["name"] for person in PROJECT["authors"])
extensions = ["myst_parser"]
html_theme = "furo"
html_title = project
exclude_patterns = ["examples/**/*.py"]
myst_heading_anchors = 4
html_static_path = ["site.css"]
html_css_files = ["site.css"]
KEPT = (".md", ".svg", ".jpg")
"""Files within docs/ that the site has: pages and pictures."""


def with_contents(app: Any, page: str, source: list[str]) -> None:
    """Turn links that leave the site into links to the repository, and comments around tables of figures into elements that site.css knows.

    The first page gets a table of contents, which is its own list of links.
    """
    folder = (HERE / page).parent

    def absolute(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        inside = target.is_relative_to(HERE.resolve()) and target.suffix in KEPT
        return match[0] if inside else f"]({REPOSITORY}/blob/main/{target.relative_to(HERE.parent.resolve())}{match[2] or ''})"

    text = re.sub(r"\]\((?!\w+:|#)([^)#\s]+\.?\w*)(#[^)\s]*)?\)", absolute, source[0])
    text = re.sub(r"^<!-- data/[^>]* -->$", '<div class="figures">', text, flags=re.M)
    text = re.sub(r"^<!-- end -->$", "</div>", text, flags=re.M)
    if page == "index":
        for title, links in re.findall(r"^\*\*(.+)\*\*\n\n((?:- .*\n(?:  .*\n)*)+)", text, re.M):
            pages = re.findall(r"\[[^\]]*\]\(([\w/.-]+)\.md\)", links)
            text += "\n```{toctree}\n:hidden:\n:caption: " + title + "\n\n" + "\n".join(pages) + "\n```\n"
    source[0] = text


def copy_images(app: Any, error: Exception | None) -> None:
    """Copy the pictures that pages show by HTML elements, which Sphinx does not look into."""
    if error is None:
        shutil.copytree(HERE / "images", Path(app.outdir) / "images", dirs_exist_ok=True)


def setup(app: Any) -> None:
    """Connect the functions above to Sphinx's events."""
    app.connect("source-read", with_contents)
    app.connect("build-finished", copy_images)
