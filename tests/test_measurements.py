"""Figures of the documentation: they follow from the documents in docs/data/."""

import json
import os
import re
import runpy
import subprocess
import sys

import onnx
import pytest
import report

from onnxruntime_ep_sparse.measure import CONTROL_TOLERANCE
from support.repository import DOCS, PAGES, ROOT, name_of

DATA = sorted((DOCS / "data").glob("*.json"))
SHOWN = ("benchmarks.md", "benchmark-tables.md", "supported-models.md")
"""The pages that show tables of documents."""


def stem(path):
    """The name of a file without its folder."""
    return path.stem


@pytest.mark.parametrize("path", DATA, ids=stem)
def test_document(path):
    """A document says how, when and on which machine it was measured. Its tables can be rendered, and a page shows each of them."""
    document = json.loads(path.read_text())
    assert document["command"].startswith(("python ", "ort-sparse "))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["date"])
    for machine in document.get("machines", [document]):
        assert {"cpu", "isa", "onnxruntime"} <= machine.keys()
    page = "".join((DOCS / name).read_text() for name in SHOWN)
    for table in document["tables"]:
        name = f": {table['name']}" if table["name"] else ""
        assert f"<!-- data/{path.name}{name} -->" in page
        assert len(list(report.lines(table))) >= 1
    assert report.written(document) == path.read_text()


@pytest.mark.parametrize("path", DATA, ids=stem)
def test_commands_exist(path):
    """The script of a document's command is in the repository."""
    words = json.loads(path.read_text())["command"].split()
    assert words[0] == "ort-sparse" or (ROOT / words[1]).exists()


def rows_with_control(page):
    """The rows of a page's tables that have a column "A/A": that cell, and the row."""
    columns = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        if cells and not columns:
            columns = cells
        elif cells and "A/A" in columns and cells[columns.index("A/A")]:
            yield cells[columns.index("A/A")], line
        columns = columns if cells else []


def test_invalid_rows_are_marked():
    """A row whose A/A ratio differs from 1 by more than 3 % says so and has nothing in bold; the others do not say so."""
    rows = [row for page in PAGES for row in rows_with_control(page) if not set(row[0]) <= {"-"}]
    assert len(rows) > 60
    for control, line in rows:
        beyond = round(abs(float(control.split(",")[0]) - 1), 6) > CONTROL_TOLERANCE
        assert control.endswith(", not valid") == beyond, line
        assert not beyond or "**" not in line, line


def sweep(threads=None, batch=None, zeros=()):
    """The speed-ups of the points of the sweep in which something is taken."""
    points = report.read(DOCS / "data" / "sweep.json")[""]["rows"]
    chosen = [p for p in points if threads in (None, p["threads"]) and batch in (None, p["batch"]) and (not zeros or p["zeros"] in zeros)]
    return [point["speedup"] for point in chosen if point["speedup"]]


def test_figures_of_readme():
    """The README's speed-ups are those of the sweep."""
    one, many, fewer = sweep(1, 1, (0.8, 0.9)), sweep(zeros=(0.8, 0.9)), sweep(1, 1, (0.5, 0.6, 0.7))
    claims = {f"{min(one):.1f}", f"{max(one):.1f}", f"{max(many):.0f}", f"{max(sweep(zeros=(0.5, 0.6, 0.7))):.1f}", f"{max(fewer):.1f}"}
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    found = {figure for pair in re.findall(r"(?:([\d.]+) to )?([\d.]+) times(?! longer)", text) for figure in pair if figure}
    assert found
    assert found <= claims


def test_cells():
    """Numbers are formatted, texts stand as they are, values that are missing leave a cell empty; invalid rows are not bold."""
    assert report.cell("**{a:.2f}** of {b}", {"a": 1.234, "b": 5}) == "**1.23** of 5"
    assert report.cell("{a:.2f}", {"a": "not taken"}) == "not taken"
    assert report.cell("{a:.2f}", {"a": None}, "-") == "-"
    assert report.cell("**{a:.2f}**", {"a": 2, "control": 0.96}) == "2.00"
    assert report.cell("{control:.3f}", {"control": 1.0301}) == "1.030, not valid"
    assert report.cell("{control:.3f}", {"control": 1.03}) == "1.030"


def test_report(tmp_path, capsys):
    """A report prints what the document's table renders to, row by row, and across."""
    path = tmp_path / "figures.json"
    with report.Report(path) as made:
        made.table("first", [("net", "{net}"), ("ms", "{ms:.1f}")])
        made.row(net="a", ms=1.26)
        made.row(net="b", ms=None)
        made.table("second", [("net", "{net}")], ("M={m}", "{ratio:.2f}"), missing="-")
        made.rows([{"net": "a", "m": 1, "ratio": 1.5}, {"net": "a", "m": 2, "ratio": None}])
        made.rows([{"net": "b", "m": 1, "ratio": 2.5}, {"net": "b", "m": 2, "ratio": 2.25}])
    printed = capsys.readouterr().out
    tables = report.read(path)
    assert printed == "\n".join(f"{name}\n\n{report.markdown(table)}\n" for name, table in tables.items())
    assert "| a | 1.50 | - |" in printed
    assert tables["first"]["rows"][0] == {"net": "a", "ms": 1.26}


def test_no_document_of_a_failed_benchmark(tmp_path):
    """A benchmark that ends with an error writes nothing."""

    def benchmark():
        with report.Report(tmp_path / "figures.json") as made:
            made.table("", [("net", "{net}")])
            made.row(net=1 / 0)

    with pytest.raises(ZeroDivisionError):
        benchmark()
    assert not (tmp_path / "figures.json").exists()


def test_pictures_are_small():
    """A drawn picture has less than 60 KB."""
    assert {path.name: size for path in (DOCS / "images").iterdir() if (size := path.stat().st_size) > 60_000} == {}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_have_words(page):
    """A picture says in words what it shows, for readers who do not see it."""
    text = page.read_text()
    words = re.findall(r'<img alt="([^"]*)"', text) + re.findall(r"!\[([^\]]*)\]\(", text)
    assert len(words) == text.count("<img ") + text.count("![")
    assert all(len(alt) > 20 for alt in words)


def test_pictures_have_their_numbers_in_a_table():
    """A document that a plot is drawn from is shown as a table too."""
    drawn = (DOCS / "pictures.py").read_text()
    page = "".join((DOCS / name).read_text() for name in SHOWN)
    for name in re.findall(r'rows_of\("([\w-]+)"', drawn):
        assert f"<!-- data/{name}.json" in page


def test_terminals_show_what_is_printed(tmp_path):
    """The recorded output has the lines that the command prints today; numbers, decisions and reasons depend on the machine."""
    recorder = runpy.run_path(str(DOCS / "terminals.py"))
    onnx.save(recorder["model"](), tmp_path / "pruned.onnx")
    width, command = recorder["COMMANDS"]["analyze"]
    program = [sys.executable, "-m", "onnxruntime_ep_sparse", *command.split()[1:]]
    environment = {**os.environ, "COLUMNS": str(width)}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    recorded = re.sub(r"\x1b\[[\d;]*m", "", (recorder["FOLDER"] / "analyze.txt").read_text())
    assert recorded.startswith(f"$ {command}\n")
    assert recorded.splitlines()[1].split() == done.stdout.splitlines()[0].split()
    nodes = [node.name for node in recorder["model"]().graph.node]
    for text in (recorded, done.stdout, (recorder["FOLDER"] / "explain.txt").read_text()):
        assert [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in nodes] == nodes
