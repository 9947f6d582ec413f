"""Tables at any width, footnotes, and outputs whose reader goes away."""

import io
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from onnxruntime_ep_sparse.cli.tables import Footnotes, Grid


def printed(width, *rows):
    """Return the lines of a table of layers."""
    grid = Grid("node", "op", ">MACs", ">ms", ">note")
    for row in rows:
        grid.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=width, markup=False, highlight=False).print(grid)
    return text.getvalue().splitlines()


ROWS = [("/layers/0/a/long/name/of/a/node", "Conv", "12.5 M", "0.071", "1"), ("short", "com.microsoft.Long", "3 k", "", "12")]


def test_a_table_that_fits():
    """A head, a line, a row each; numbers on the right."""
    assert printed(100, *ROWS) == [
        "node                              op                     MACs      ms   note",
        "────────────────────────────────────────────────────────────────────────────",
        "/layers/0/a/long/name/of/a/node   Conv                 12.5 M   0.071      1",
        "short                             com.microsoft.Long      3 k             12",
    ]


def test_a_narrow_table_is_stacked():
    """The names have lines of their own above the other columns."""
    lines = printed(60, *ROWS)
    assert lines[0] == "node"
    assert [line.split() for line in lines[1:]] == [
        ["op", "MACs", "ms", "note"],
        ["─" * len(lines[2])],
        ["/layers/0/a/long/name/of/a/node"],
        ["Conv", "12.5", "M", "0.071", "1"],
        ["short"],
        ["com.microsoft.Long", "3", "k", "12"],
    ]
    assert len(lines[1]) == len(lines[2]) == len(lines[4])


@pytest.mark.parametrize("width", [1, 5, 12, 20, 35, 50, 79, 80, 200])
def test_no_width_loses_a_value(width):
    """Nothing is longer than a line, and every cell is there."""
    lines = printed(width, *ROWS)
    assert max(map(len, lines)) <= width
    whole = "".join("".join(lines).split())
    for row in ROWS:
        assert all("".join(cell.split()) in whole for cell in row)


def test_wide_characters_count_twice():
    """They take two cells of a terminal."""
    first, second = printed(16, ("層" * 10, "Conv", "", "", ""))[-2:]
    assert (first, second.split()) == ("層" * 8, ["層" * 2, "Conv"])


def test_equal_notes_are_one():
    """So are notes that differ in numbers alone: they say from where to where these go."""
    notes = Footnotes()
    texts = [("a", "zeros 90.0%, needs 60%"), ("a", "zeros 85.5%, needs 60%"), ("b", "zeros 1%, needs 2%"), ("a", "no zeros")]
    assert [notes.number(*each) for each in texts] == ["1", "1", "2", "3"]
    assert notes.notes() == [("a", "zeros 85.5 to 90.0%, needs 60%", 2), ("b", "zeros 1%, needs 2%", 1), ("a", "no zeros", 1)]


def test_sixty_layers_share_a_sentence(cli, saved):
    """A long net of equal layers has one note for them, with one piece of advice."""
    weights = [numpy_helper.from_array(np.ones((64, 64), np.float32), f"w{i}") for i in range(60)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"layer{i}") for i in range(60)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x0", "x60")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    text = cli("analyze", saved(model)).out
    assert sum(f"layer{i}" in text for i in range(60)) == 60
    assert text.count("is below the break-even") + text.count("too small") == 1
    assert "(60 nodes)" in text


def test_compiled_model_is_described(cli, sparse_model, tmp_path):
    """As what it is: its nodes are not in it any more."""
    cli("compile", sparse_model, tmp_path / "compiled.onnx")
    text = cli("analyze", tmp_path / "compiled.onnx").out
    assert "(compiled region)" in text
    assert "a compiled model: 1 region" in text
    assert cli("analyze", tmp_path / "compiled.onnx", "--json", "-").document["totals"]["compiled"] == 1


@pytest.mark.parametrize("arguments", [("analyze", "{model}"), ("check",), ("analyze", "{model}", "--json", "-")])
def test_a_reader_that_goes_away(sparse_model, arguments):
    """As `| head` does: the command ends as if nothing had happened."""
    command = [sys.executable, "-m", "onnxruntime_ep_sparse", *(a.format(model=sparse_model) for a in arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(120) == 0, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@pytest.mark.parametrize("command", ["pack", "unpack", "compile", "prune"])
def test_replaced_files_are_named(cli, sparse_model, tmp_path, command):
    """On stderr, and only where there was a file before."""
    source, target = sparse_model, tmp_path / "out.onnx"
    if command == "unpack":
        source = tmp_path / "packed.onnx"
        cli("pack", sparse_model, source)
    more = ("--data", "random", "--samples", 20, "--sparsity", 0.5, "--only", "product", "--method", "magnitude", "--no-timing")
    arguments = (command, source, target, *(more if command == "prune" else ()))
    assert "replaced" not in cli(*arguments).err
    assert f"replaced {target}" in cli(*arguments).err
