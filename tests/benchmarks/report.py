"""Tables of benchmarks: printed in Markdown while they are measured, and written as a document by `--json FILE`.

Every benchmark has its tables from here. docs/generate.py renders the documents in docs/data/ by the same functions.

A table has columns, each a title and a format of `str.format` for the values of a row. With `across` several rows share a line: those
with equal cells in the columns; then every row adds a cell of its own, under a title of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from string import Formatter
from typing import Any, Self

from onnxruntime_ep_sparse.measure import CONTROL_TOLERANCE
from onnxruntime_ep_sparse.measure.machine import environment

Row = dict[str, Any]
Table = dict[str, Any]
Columns = Sequence[tuple[str, str]]


class _MissingError(Exception):
    """A value is None or not there."""


class _Cell(Formatter):
    """Formats numbers; texts stand as they are."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Any) -> Any:
        if kwargs.get(key) is None:
            raise _MissingError
        return kwargs[key]

    def format_field(self, value: Any, format_spec: str) -> str:
        return value if isinstance(value, str) else format(value, format_spec)


def valid(row: Row) -> bool:
    """Return whether the CPU provider, measured against itself (`control`), differs from 1 by at most 3 %, if the row has that."""
    control = row.get("control")
    return not isinstance(control, float | int) or round(abs(control - 1), 6) <= CONTROL_TOLERANCE


def cell(template: str, row: Row, missing: str = "") -> str:
    """Return a cell, `missing` if one of its values is None. Rows that are not valid say so beside `control`, and nothing is bold."""
    try:
        text = _Cell().format(template, **row)
    except _MissingError:
        return missing
    if valid(row):
        return text
    return text.replace("**", "") + (", not valid" if "{control" in template else "")


def line(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def head(titles: Sequence[str]) -> str:
    """Return the head of a Markdown table."""
    return f"{line(titles)}\n|{' --- |' * len(titles)}"


def titles(table: Table) -> list[str]:
    """Return the titles of all columns."""
    across = table.get("across")
    more = dict.fromkeys(cell(across[0], row) for row in table["rows"]) if across else {}
    return [title for title, _ in table["columns"]] + list(more)


def lines(table: Table) -> Iterator[str]:
    """Yield the lines of a table below its head."""
    across, missing = table.get("across"), table.get("missing", "")
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table["rows"]:
        cells = tuple(cell(template, row, missing) for _, template in table["columns"])
        if across:
            found.setdefault(cells, {})[cell(across[0], row)] = cell(across[1], row, missing)
        else:
            yield line(cells)
    own = titles(table)[len(table["columns"]) :]
    for cells, more in found.items():
        yield line([*cells, *(more.get(title, "") for title in own)])


def markdown(table: Table) -> str:
    """Return a whole table in Markdown."""
    return "\n".join([head(titles(table)), *lines(table)])


def read(path: Path) -> dict[str, Table]:
    """Return the tables of a document by their names."""
    return {table["name"]: table for table in json.loads(path.read_text())["tables"]}


def written(document: dict[str, Any]) -> str:
    """Return a document as JSON with a line per row, so that changes can be read."""
    tables = []
    for table in document["tables"]:
        about = json.dumps({key: value for key, value in table.items() if key != "rows"}, ensure_ascii=False)
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table["rows"])
        tables.append(f'{about[:-1]}, "rows": [\n{rows}\n]}}')
    about = json.dumps({key: value for key, value in document.items() if key != "tables"}, ensure_ascii=False)
    return f'{about[:-1]},\n"tables": [\n' + ",\n".join(tables) + "\n]}\n"


def rounded(value: Any) -> Any:
    """Return a number with five digits, as measurements have no more; anything else as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option `--json FILE`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables as a document as well")


class Report:
    """The tables of one call of a benchmark. At the end of `with` it writes the file, if one was asked for."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.tables: list[Table] = []
        self.printed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.path and kind is None:
            self.path.write_text(written(self.document()))

    def document(self) -> dict[str, Any]:
        """Return the tables with command, date and machine. A script is named as from the root of the repository."""
        script = f"tests/benchmarks/{Path(sys.argv[0]).name}"
        given = [word for n, word in enumerate(sys.argv[1:], 1) if word != "--json" and sys.argv[n - 1] != "--json"]
        command = " ".join(["python", script, *given])
        return {"schema": 1, "command": command, "date": date.today().isoformat(), **environment(), "tables": self.tables}

    def table(self, name: str, columns: Columns, across: tuple[str, str] | None = None, missing: str = "") -> None:
        """Begin a table; `missing` stands where a row has no figure."""
        if self.tables:
            print()
        table: Table = {"name": name, "columns": columns}
        self.tables.append(table | ({"across": across} if across else {}) | ({"missing": missing} if missing else {}) | {"rows": []})
        self.printed = 0

    def row(self, **values: Any) -> None:
        """Add and print a row of the last table."""
        self.rows([values])

    def rows(self, rows: Sequence[Row]) -> None:
        """Add and print rows of the last table; with `across`, those of a line."""
        table = self.tables[-1]
        table["rows"] += [{key: rounded(value) for key, value in row.items()} for row in rows]
        if not self.printed:
            print(f"{table['name']}\n\n{head(titles(table))}" if table["name"] else head(titles(table)))
        for text in list(lines(table))[self.printed :]:
            print(text, flush=True)
            self.printed += 1
