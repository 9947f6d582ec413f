"""The pages of the documentation: their code blocks, the commands in them, and what these print with numbers masked."""

import re
from pathlib import Path

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
ANYTHING = "…"
"""A line that stands for any number of lines of output."""


def blocks(page: Path, kind: str) -> list[str]:
    """Return the code blocks of a page of one kind."""
    return [code for found, code in FENCED.findall(page.read_text()) if found == kind]


def commands(page: Path) -> list[tuple[str, str | None]]:
    """Return the commands of a page in their order, each with the output that the page shows, None if it shows none.

    Commands are the lines of `sh` blocks, and the lines after a $ in `console` blocks. A console block without a $ goes on with the output
    of the last command.
    """
    found: list[tuple[str, str | None]] = []
    for kind, code in FENCED.findall(page.read_text()):
        lines = code.replace("\\\n", " ").splitlines()
        if kind == "sh":
            found += [(line.split("  #")[0].strip(), None) for line in lines if line.strip() and not line.lstrip().startswith("#")]
        elif kind == "console":
            for line in lines:
                if line.startswith("$ "):
                    found.append((line[2:], ""))
                else:
                    command, output = found[-1]
                    found[-1] = command, f"{output or ''}{line}\n"
    return found


def masked(text: str) -> list[str]:
    """Return the lines of an output without its numbers, the widths of its columns, its blank lines and the verdict about other load.

    A range of numbers counts as a number, with the confidence that stands beside it where there are few runs.
    """
    for verdict in (": NOT VALID, there is other load on the machine", " (the machine was not quiet)"):
        text = text.replace(verdict, "")
    text = text.replace("NOT VALID (", "valid (")
    text = re.sub(r".* pairs instead of .*", "", text)
    text = re.sub(r"(\d[\d.,]*) to \d[\d.,]*(?: \(\d+%\))?", r"\1", text)
    text = re.sub(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?", "#", text)
    lines = (re.sub(r"─+", "─", " ".join(line.split())) for line in text.splitlines())
    return [line for line in lines if line]


def fits(shown: str, printed: str) -> bool:
    """Return whether an output is what a page shows, but for masked numbers. The line "…" of a page stands for any lines."""
    pieces: list[list[str]] = [[]]
    for line in masked(shown):
        if line == ANYTHING:
            pieces.append([])
        else:
            pieces[-1].append(line)
    lines = masked(printed)
    first, *others = pieces
    if not others:
        return lines == first
    if lines[: len(first)] != first:
        return False
    at = len(first)
    for piece in others[:-1]:
        places = [i for i in range(at, len(lines) - len(piece) + 1) if lines[i : i + len(piece)] == piece]
        if not places:
            return False
        at = places[0] + len(piece)
    last = others[-1]
    return not last or (len(lines) - len(last) >= at and lines[-len(last) :] == last)
