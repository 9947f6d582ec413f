"""Rows of results as HTML, CSV and a DataFrame."""

import csv
import io
import sys
from types import SimpleNamespace

import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.records import Tabular, text_table

ROWS = [{"name": "<a & b>", "shape": (64, 3), "ms": 1.23456, "taken": True}, {"name": "c,d", "shape": None, "ms": None, "taken": False}]


class Result(Tabular):
    """Two rows."""

    def records(self):
        """Return them."""
        return ROWS

    def caption(self):
        """Return words that need escaping."""
        return "1 < 2"


def test_html():
    """Texts are escaped, numbers short and on the right, shapes and truth values readable."""
    html = Result()._repr_html_()
    assert "<caption>1 &lt; 2</caption>" in html
    assert html.count("<tr>") == 3
    assert "<td>&lt;a &amp; b&gt;</td><td>64x3</td>" in html
    assert '<td style="text-align:right">1.235</td><td>yes</td>' in html
    assert html.endswith("<td>c,d</td><td></td><td></td><td>no</td></tr></tbody></table>")
    assert "<td>" not in sparse.Decisions()._repr_html_()


def test_text():
    """`print` shows the caption and the rows, without empty columns."""
    lines = str(Result()).splitlines()
    assert lines == ["1 < 2", "name     shape  ms     taken", "<a & b>  64x3   1.235  yes", "c,d                    no"]
    assert text_table([{"a": 1, "b": None}]) == "a\n1"
    assert text_table([], "nothing") == "nothing"
    wide = text_table([{f"column {i}": i for i in range(20)}]).splitlines()
    assert (wide[0], wide[19]) == ("column 0   0", "column 19  19")


def test_print_of_decisions(sparse_model):
    """A table, while the list stays one."""
    decisions = sparse.explain(sparse_model)
    text = str(decisions)
    assert text.startswith("SparseExecutionProvider takes 5 of 5 nodes")
    assert len(text.splitlines()) == len(decisions) + 2
    assert repr(decisions).startswith("[NodeDecision(")
    shown = []
    decisions._repr_pretty_(SimpleNamespace(text=shown.append), False)
    assert shown == [text]


def test_csv():
    """A reader gets the texts back."""
    first, second = csv.DictReader(io.StringIO(Result().to_csv()))
    assert first == {"name": "<a & b>", "shape": "64x3", "ms": "1.23456", "taken": "yes"}
    assert second["name"] == "c,d"


def test_pandas_is_optional(monkeypatch):
    """With it, its DataFrame gets the rows; without it, one line says what to install."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert Result().to_pandas() == ("frame", ROWS)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        Result().to_pandas()


def test_explain_is_a_list_and_a_table(sparse_model):
    """The decisions as before, and as rows with the sparsity that each product needs."""
    decisions = sparse.explain(sparse_model)
    assert isinstance(decisions, list)
    assert [row["name"] for row in decisions.records()] == [d.name for d in decisions]
    assert decisions.to_dict()["expected"]["speedup"] > 1
    html = decisions._repr_html_()
    assert "takes 5 of 5 nodes, expected to be" in html
    assert "<td>128x64x3x3</td>" in html
    conv = decisions[0]
    assert 0 < conv.limit <= conv.sparsity
    assert f"break-even {conv.limit:.1%}" in conv.reason
