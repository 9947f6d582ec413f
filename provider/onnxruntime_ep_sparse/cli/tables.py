"""Tables that fit any width without losing a column, and footnotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAPS = (3, 2)
"""Blanks between columns; the smaller number where the larger one does not fit."""
INDENT = 2
NARROW = 10
"""Widths up to this have no room for an indent."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Grid:
    """A table of text. A column whose title begins with > is aligned to the right.

    Where the width does not suffice, columns of text move to lines of their own above the other columns: the first one, then the widest.
    If even the others are too wide, they become a list of titles and values. Text that is wider than a line goes on in the next one.
    """

    def __init__(self, *titles: str) -> None:
        self.titles = [title.removeprefix(">") for title in titles]
        self.right = [title.startswith(">") for title in titles]
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """Append a row, with a cell for each column; the last ones may be left out."""
        assert len(cells) <= len(self.titles), cells
        self.rows.append((*(" ".join(cell.split()) for cell in cells), *[""] * (len(self.titles) - len(cells))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of the table."""
        for line, bold in self.lines(options.max_width, "-" if options.ascii_only else "─"):
            yield Text(line, "bold" if bold else "", overflow="ignore", no_wrap=True)

    def lines(self, width: int, rule: str = "─") -> Iterable[tuple[str, bool]]:
        """Yield the lines of the table for a width, each with whether it is of the head. `rule` is the character of the line below it."""
        widths = [max(map(cell_len, column)) for column in zip(self.titles, *self.rows, strict=True)]
        above: list[int] = []
        below = list(range(len(widths)))
        gap = next((gap for gap in GAPS if self._length(widths, below, gap) <= width), GAPS[-1])
        movable = sorted((i for i in below if not self.right[i]), key=lambda i: (i == 0, widths[i]))
        while self._length(widths, below, gap) + INDENT * bool(above) > width and movable:
            above.append(movable.pop())
            below.remove(above[-1])
        if self._length(widths, below, gap) + INDENT * bool(above) > width:
            yield from self._list(width)
            return
        above.sort()
        indent = " " * INDENT * bool(above)

        def row(cells: Sequence[str]) -> list[str]:
            padded = [
                cells[i].rjust(_fill(cells[i], widths[i])) if self.right[i] else cells[i].ljust(_fill(cells[i], widths[i])) for i in below
            ]
            line = (indent + (" " * gap).join(padded)).rstrip()
            return [*_folded("   ".join(cells[i] for i in above if cells[i]), width), *([line] if line else [])]

        for line in row(self.titles):
            yield line, True
        yield rule * min(max(self._length(widths, below, gap) + len(indent), *(widths[i] for i in above), 1), width), False
        for cells in self.rows:
            for line in row(cells):
                yield line, False

    def _list(self, width: int) -> Iterable[tuple[str, bool]]:
        """Yield each row as its first cell, and below it titles and values."""
        for first, *others in self.rows:
            for line in _folded(first, width):
                yield line, True
            named = [f"{title} {cell}" for title, cell in zip(self.titles[1:], others, strict=True) if cell]
            indent = INDENT if width > NARROW else 0
            yield from ((" " * indent + line, False) for line in _wrapped(named, width - indent))

    @staticmethod
    def _length(widths: Sequence[int], columns: Sequence[int], gap: int) -> int:
        """Return the length of a line of some columns."""
        return sum(widths[i] for i in columns) + gap * max(len(columns) - 1, 0)


def _fill(text: str, width: int) -> int:
    """Return the number of characters to pad a text to, so that it takes `width` cells: some characters take two."""
    return width - cell_len(text) + len(text)


def _folded(text: str, width: int) -> list[str]:
    """Return the lines of a text, cut where a line is full; none for no text."""
    return chop_cells(text, max(width, 1)) if text else []


def _wrapped(pieces: Iterable[str], width: int) -> list[str]:
    """Return lines of pieces with two blanks between them; a longer piece is folded."""
    lines: list[str] = []
    for piece in pieces:
        if lines and cell_len(lines[-1]) + 2 + cell_len(piece) <= width:
            lines[-1] += f"  {piece}"
        else:
            lines += _folded(piece, width)
    return lines


class Footnotes:
    """Numbered notes of a table. Notes of one key that differ only in numbers are one, which says the range of each number."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], list[str]] = {}

    def number(self, key: str, text: str) -> str:
        """Return the number of a note, a new one if there is none like it."""
        like = key, NUMBER.sub("#", text)
        self._texts.setdefault(like, []).append(text)
        return str(list(self._texts).index(like) + 1)

    def notes(self) -> list[tuple[str, str, int]]:
        """Return the notes in the order of their numbers: key, text, and how many rows have it."""
        return [(key, _ranges(texts), len(texts)) for (key, _), texts in self._texts.items()]


def _ranges(texts: Sequence[str]) -> str:
    """Return texts that differ in numbers as one: each number that differs as the least and the largest of them."""
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    shown = iter([min(c, key=float) if len(set(c)) == 1 else f"{min(c, key=float)} to {max(c, key=float)}" for c in columns])
    return NUMBER.sub(lambda _: next(shown), texts[0])
