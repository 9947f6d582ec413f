"""Reports as objects and as pages."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.reporting import page as pages
from onnxruntime_ep_sparse.reporting.density import density_of

VOID = {"meta", "input", "link", "br", "img"}


class Elements(HTMLParser):
    """The elements of a page, each with its attributes and its text; `open` are those that were not closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        """Note an element."""
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        """Note an element without content."""
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        """Elements end in the order in which they stand within each other."""
        assert self.open.pop()[0] == tag, self.getpos()

    def handle_data(self, data):
        """Text belongs to all elements around it."""
        for element in self.open:
            element[2] += data

    def of(self, tag):
        """Attributes and texts of the elements of a kind."""
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


@pytest.fixture(scope="module")
def elements(page):
    """The elements of the page."""
    found = Elements(page.read_text())
    assert not found.open
    return found


def test_figures(made):
    """Every section is there, as JSON; rows have the decisions and the measured times."""
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert made.complete
    assert data["left_out"] == {}
    assert data["speed"]["agrees"]
    assert data["speed"]["batch"] == 4
    assert [point["batch"] for point in data["batch_curve"]["points"]] == [1, 2, 4, 8]
    assert [point["threads"] for point in data["thread_curve"]["points"]][-1] == data["environment"]["cores"]
    assert [row["name"] for row in data["layers"]["rows"]] == ["layer0", "layer1", "layer2"]
    assert data["density"]["layer"] in ("layer0", "layer1")
    assert [row["sparsity"] for row in data["what_if"]["shares"]] == [0.7, 0.8, 0.9, 0.95]
    assert any("--batch 4 --threads 1" in command for command in data["commands"])
    assert all(row["measured_cpu_ms"] > 0 and row["measured_ms"] > 0 for row in made.records() if row["op_type"] == "Gemm")
    assert "times as fast as" in made.caption()
    assert "<table>" in made._repr_html_()
    assert made.to_csv().startswith("name,op_type,")


def test_page_is_self_contained(page, elements):
    """It loads nothing and is small; the only addresses are those of its own places."""
    assert page.stat().st_size < 200_000
    for _, attributes, _ in elements.elements:
        assert not {"src", "srcset", "href", "action", "data", "poster"} & attributes.keys()
    assert "url(" not in page.read_text()
    assert "@import" not in page.read_text()
    policy = next(each["content"] for each, _ in elements.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_names_are_text(page, elements):
    """Names of models and nodes cannot become elements."""
    assert elements.of("h1")[0][1] == '<net> & "more"'
    assert "<net>" not in page.read_text()


def test_plots_have_their_numbers_in_a_table(elements):
    """Each figure has a picture with words, a caption, and a table to unfold."""
    for figure in ("layers", "strip", "density", "batch_curve", "thread_curve", "gains"):
        at = next(i for i, element in enumerate(elements.elements) if element[1].get("id") == figure)
        end = next((i for i, element in enumerate(elements.elements[at + 1 :], at + 1) if element[0] == "figure"), None)
        inside = elements.elements[at:end]
        tags = [element[0] for element in inside]
        assert {"figcaption", "details", "summary", "table"} <= set(tags), figure
        picture = next(element[1] for element in inside if element[1].get("role") == "img")
        assert len(picture["aria-label"]) > 20


def test_numbers_of_the_page_are_those_of_the_document(made, elements):
    """Bars, headline and the table of nodes."""
    data = made.to_dict()
    texts = [text for _, text in elements.of("strong")]
    assert f"{data['speed']['speed_up']['median']:.2f}x" in texts
    bars = [float(each["data-ms"]) for each, _ in elements.of("rect") if each.get("data-ms")]
    rows = [*data["layers"]["rows"], data["layers"]["rest"], *data["what_if"]["shares"]]
    assert bars == [row[key] for row in rows for key in ("cpu_ms", "ms") if row[key] is not None]
    widths = [float(each["width"]) for each, _ in elements.of("rect") if each.get("data-ms")][: len(data["layers"]["rows"]) * 2]
    times = [row[key] for row in [*data["layers"]["rows"], data["layers"]["rest"]] for key in ("cpu_ms", "ms")]
    longest = max(time for time in times if time is not None)
    known = [row[key] for row in data["layers"]["rows"] for key in ("cpu_ms", "ms") if row[key] is not None]
    assert widths[: len(known)] == [round(100 * time / longest, 3) for time in known]
    zeros = [each["data-zeros"] for each, _ in elements.of("rect") if "data-zeros" in each]
    assert [float(share) for share in zeros] == [row["sparsity"] for row in made.records() if row["shape"] is not None]
    cells = [each["data-v"] for each, _ in elements.of("td") if "data-v" in each]
    for row in made.records():
        assert row["sparsity"] is None or str(row["sparsity"]) in cells
        assert row["cpu_ms"] is None or str(row["cpu_ms"]) in cells


@pytest.mark.parametrize("step", ["both providers in turn", "times of layers"])
def test_stopped(model, step):
    """Ctrl-C keeps what is done; the page says what is missing."""

    def progress(name, share):
        if name == step:
            raise KeyboardInterrupt

    stopped = sparse.report(model, threads=1, pairs=6, progress=progress)
    assert not stopped.complete
    assert stopped.sections["decisions"]["nodes"]
    assert ("speed" in stopped.sections) == (step == "times of layers")
    assert stopped.to_dict()["layers"] is None
    assert {"layers", "what_if", "thread_curve"} <= stopped.left_out.keys()
    pytest.importorskip("jinja2", reason="needs the extra: pip install '.[report]'")
    found = Elements(stopped.html)
    assert any(each.get("id") == "stopped" for each, _ in found.of("p"))
    assert any("stopped before it was collected" in text for _, text in found.of("p"))


def test_sections_that_cannot_be_collected(model, monkeypatch):
    """They are left out with the reason; others go on."""

    def fails(matrix):
        raise ValueError("too large")

    monkeypatch.setattr("onnxruntime_ep_sparse.reporting.sections.density_of", fails)
    found = sparse.report(model, curves=False, threads=1, pairs=6)
    assert found.complete
    assert found.left_out == {
        "density": "too large",
        "batch_curve": "not asked for",
        "thread_curve": "not asked for",
    }
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="a page needs jinja2: pip install"):
        _ = found.html


def test_unknown_weight(model):
    """An error before anything is measured."""
    with pytest.raises(ValueError, match="no layer and no weight has the name 'nothing'"):
        sparse.report(model, weight="nothing")


def test_density():
    """Cells cover the matrix once, and their shares are those of its nonzeros."""
    weight = np.zeros((70, 100), np.float32)
    weight[:, :2] = 1
    weight[0] = 1
    grid = density_of(weight)
    assert (len(grid), len(grid[0])) == (32, 48)
    assert grid[5][0] == 1
    assert grid[5][5] == 0
    assert grid[0][5] == 0.5
    assert density_of(np.eye(2)) == [[1, 0], [0, 1]]


def test_map_draws_every_cell():
    """Rectangles of all shades cover the grid once."""
    grid = np.random.default_rng(0).random((8, 12)).tolist()
    drawn = np.zeros((8, 12), int)
    for path in pages._map(grid)["paths"].values():
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1", path):
            drawn[int(y), int(x) : int(x) + int(width)] += 1
    assert (drawn == 1).all()
