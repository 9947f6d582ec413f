"""Results as rows: a table in notebooks, a DataFrame of pandas, a CSV file; numbers with their nouns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Record = dict[str, Any]
"""A row: values by the names of the columns. Values are numbers, texts, shapes or None."""

WIDE, FEW = 120, 4
"""Characters of a line and rows: a table of text that is wider and has no more rows stands on its side."""
RIGHT = ' style="text-align:right"'


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, for example "1 region" or "2 regions"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Tabular(ABC):
    """A result that consists of rows of the same columns. Subclasses say which by `records`, and may add a line by `caption`."""

    @abstractmethod
    def records(self) -> list[Record]:
        """Return the rows, each a dict from column to value."""

    def caption(self) -> str:
        """Return a line about all rows, or ""."""
        return ""

    def to_pandas(self) -> Any:
        """Return the rows as a `pandas.DataFrame`. ImportError if pandas is missing."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install pandas; records() returns the same rows without it") from None
        return pandas.DataFrame(self.records())

    def to_csv(self) -> str:
        """Return the rows as text with comma-separated values, the names of the columns first."""
        import csv  # only here: each import takes some of the time of a process's first session
        import io

        rows = self.records()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
        return text.getvalue()

    def __str__(self) -> str:
        """Return the caption and a table, for `print`."""
        return text_table(self.records(), self.caption())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the same in IPython's terminal."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return html_table(self.records(), self.caption())


def text_table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """Return a table as text, without empty columns. A wide one of few rows stands on its side: each column is a line."""
    names = [name for name in (rows[0] if rows else ()) if any(_shown(row[name]) for row in rows)]
    lines = [names, *([_shown(row[name]) for name in names] for row in rows)]
    if sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True)) > WIDE and len(rows) <= FEW:
        lines = [list(column) for column in zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines if line]
    return "\n".join([*([caption] if caption else []), *table])


def html_table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """Return an HTML table of rows that have the same columns. Texts are escaped, numbers have four digits and stand on the right."""
    from html import escape

    columns = list(rows[0]) if rows else []
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(row[name], escape) for name in columns)}</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any, escape: Callable[[str], str]) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{RIGHT if number else ''}>{escape(_shown(value))}</td>"


def _shown(value: Any) -> str:
    """Return the text of a value in a table: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(_plain(value))


def _plain(value: Any) -> Any:
    """Return a value as a CSV file shows it: a shape as 64x3x3x3, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else value
