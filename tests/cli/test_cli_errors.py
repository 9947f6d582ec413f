"""Wrong use: one line that says what is wrong, exit code 2, nothing on stdout."""

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest

from onnxruntime_ep_sparse.cli import COMMANDS as TABLE

COMMANDS = ("analyze", "bench", "compare")


@pytest.fixture
def refused(cli):
    """Run a command that must be refused; returns its one line."""

    def run(*arguments):
        result = cli(*arguments, expect=2)
        assert result.out == ""
        (line,) = result.err.splitlines()
        assert line.startswith("ort-sparse: ")
        return line

    return run


MORE_ARGUMENTS = {
    "prune": ("out.onnx", "--data", "random", "--sparsity", "0.5"),
    **dict.fromkeys(("annotate", "pack", "unpack", "compile"), ("out.onnx",)),
}
"""Of commands that need more than a model."""


def test_models_of_every_command():
    """The next test leaves out the commands without a model alone."""
    assert {command.__name__ for command in TABLE} == {*COMMANDS, "report", "trace", *MORE_ARGUMENTS, "check", "demo"}


@pytest.mark.parametrize("command", [*COMMANDS, "report", "trace", *MORE_ARGUMENTS])
def test_no_model(refused, command, tmp_path, monkeypatch):
    """A missing file, a path below a file, a folder, a file that is no model, an empty one."""
    if command == "report":
        pytest.importorskip("jinja2", reason="needs the extra [report]")
    monkeypatch.chdir(tmp_path)
    corrupt = tmp_path / "corrupt.onnx"
    for content in (b"no model at all", b""):
        corrupt.write_bytes(content)
        assert f"{corrupt} is not an ONNX model" in refused(command, corrupt, *MORE_ARGUMENTS.get(command, ()))
    for missing in (tmp_path / "none.onnx", corrupt / "none.onnx"):
        assert "no such file" in refused(command, missing, *MORE_ARGUMENTS.get(command, ()))
    assert "not a file" in refused(command, tmp_path, *MORE_ARGUMENTS.get(command, ()))
    assert [file.name for file in tmp_path.iterdir()] == ["corrupt.onnx"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["speed=11", "policy", "policy=sometimes", "isa=z80", "min_sparsity=2", "threads=none"])
def test_provider_options(refused, command, option, sparse_model):
    """An unknown key, no value, a bad value."""
    assert option.partition("=")[0] in refused(command, sparse_model, "--option", option)


@pytest.mark.parametrize("command", COMMANDS)
def test_built_in_models(refused, command):
    """Unknown names list the known ones; a sparsity is a share; patterns are those of masks."""
    assert "choose one of" in refused(command, "model:resnet5000")
    for sparsity in ("much", "1.5", "-0.1", "nan"):
        assert "number from 0 to 1" in refused(command, f"model:resnet50:{sparsity}")
    assert "unknown pattern" in refused(command, "model:mobilenet_v1:0.9:stripes")
    assert "choose one of int8, " in refused(command, "model:mobilenet_v1:0.9::int4")


@pytest.mark.parametrize("command", COMMANDS)
def test_shapes(refused, command, sparse_model):
    """An input that the model does not have, and no shape at all."""
    assert "its inputs are x" in refused(command, sparse_model, "--shape", "z=1x3")
    for shape in ("x", "x=x", "x=1x-3", "=1x3", "x=1,3"):
        assert "expected NAME=1x3x224x224" in refused(command, sparse_model, "--shape", shape)


def test_shapes_must_fit(refused, cli, sparse_model, saved, chain):
    """Rank and fixed dimensions are the model's."""
    for shape in ("x=", "x=1x64x28", "x=1x3x28x28"):
        assert "x is batchx64x28x28 in the model" in refused("compare", sparse_model, "--shape", shape)
    fixed = saved(chain(0.95, batch=2), "fixed.onnx")
    cli("compare", fixed, "--batch", 2)
    assert "fixes the first dimension of x to 2" in refused("compare", fixed, "--batch", 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.zeros((1, 64, 28, 28), np.float32)}, "the model's inputs are x"),
        ({}, "the model's inputs are x"),
        ({"x": np.zeros((1, 64, 28, 28))}, "x is float64, the model wants float32"),
        ({"x": np.zeros((64, 28, 28), np.float32)}, "x has rank 3"),
        ({"x": np.zeros((1, 64, 28, 27), np.float32)}, "the model wants batchx64x28x28"),
        ({"x": np.array([None])}, "not an npz file of arrays"),
    ],
)
@pytest.mark.parametrize("command", ["bench", "compare"])
def test_inputs(refused, tmp_path, sparse_model, *, command, arrays, words):
    """Keys, type, rank and shape of a file's arrays."""
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    assert words in refused(command, sparse_model, "--inputs", path)


def test_input_files(refused, sparse_model, tmp_path):
    """No file, no archive, a damaged one; and shapes twice."""
    path = tmp_path / "inputs.npz"
    assert "No such file" in refused("compare", sparse_model, "--inputs", path)
    path.write_bytes(b"nothing")
    assert "cannot read" in refused("compare", sparse_model, "--inputs", path)
    path.write_bytes(b"PK\x03\x04 damaged")
    assert "cannot read" in refused("compare", sparse_model, "--inputs", path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "cannot read" in refused("compare", sparse_model, "--inputs", tmp_path / "array.npy")
    assert "leave out --batch" in refused("compare", sparse_model, "--inputs", path, "--batch", 2)


def test_inputs_that_only_fail_in_the_run(refused, saved, chain):
    """A model that refuses what its own signature allows: onnxruntime's word, not a traceback."""
    model = chain(0.95)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"
    assert "cannot run it" in refused("compare", saved(model), "--shape", "x=1x3x28x28")


def test_documents_that_cannot_be_written(refused, sparse_model, tmp_path):
    """Said before the work, not after it."""
    for path in (tmp_path / "none" / "a.json", tmp_path):
        assert "cannot write" in refused("analyze", sparse_model, "--json", path)


def test_document_keeps_the_older_file(cli, sparse_model, tmp_path, monkeypatch):
    """A full disk: one line, exit code 1, and no half of a document."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "document.json"
    path.write_text("older")
    monkeypatch.setattr("os.fsync", full)
    assert f"cannot write {path}: No space left" in cli("analyze", sparse_model, "--json", path, expect=1).err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["document.json", "sparse.onnx"]
    assert path.read_text() == "older"


@pytest.mark.parametrize("command", [*COMMANDS, "pack", "compile"])
def test_documents_that_would_replace_a_model(refused, command, sparse_model, tmp_path):
    """Neither what is read nor what is written, by whatever path."""
    before = sparse_model.read_bytes()
    target = tmp_path / "target.onnx"
    files = [sparse_model, target] if command in ("pack", "compile") else [sparse_model]
    for file in files:
        path = file.parent / ".." / file.parent.name / file.name
        assert re.search("it is (the model itself|a file of the command)", refused(command, *files, "--json", path))
    assert sparse_model.read_bytes() == before
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("analyze",), "Missing argument"),
        (("bench", "m.onnx", "--pairs", "0"), "--pairs"),
        (("compare", "m.onnx", "--fast"), "No such option"),
        (("compare", "m.onnx", "--threads", "99999"), "--threads"),
        (("quantize",), "quantize"),
        (("--fast",), "No such option"),
    ],
)
def test_arguments(refused, arguments, words):
    """What the parser itself refuses, with the place of the help."""
    line = refused(*arguments)
    assert words in line
    assert line.endswith("--help")


def test_no_arguments(cli):
    """The help."""
    assert "Commands:" in cli(expect=2).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seconds", "nan"), "expected a number above 0"),
        (("--fail-under", "nan"), "expected a number above 0"),
        (("--budget", "nan"), "--budget"),
        (("--sweep", "threads=99999"), "--sweep"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_numbers_out_of_range(refused, sparse_model, arguments, words):
    """Refused before anything is measured."""
    assert words in refused("bench", sparse_model, *arguments)


def test_log_level(refused, sparse_model, monkeypatch):
    """A wrong one is wrong use, as other variables are."""
    monkeypatch.setenv("ORT_SPARSE_LOG", "loud")
    assert "environment variable ORT_SPARSE_LOG: 'loud' is not valid" in refused("analyze", sparse_model)


def test_more_than_the_memory(cli, sparse_model, tmp_path):
    """One line, not a traceback."""
    wide = onnx.load(sparse_model)
    wide.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "open.onnx"
    onnx.save(wide, path)
    (line,) = cli("compare", path, "--batch", 10**12, expect=1).err.splitlines()
    assert line.startswith("ort-sparse: not enough memory: ")


def test_unknown_weight_of_a_report(refused, sparse_model, tmp_path):
    """Said before the measurements, which take minutes."""
    pytest.importorskip("jinja2", reason="needs the extra [report]")
    assert "no layer and no weight has the name 'nosuch'" in refused(
        "report", sparse_model, "-o", tmp_path / "r.html", "--weight", "nosuch"
    )


def run_alone(*arguments, stdout, **environment):
    """Run a command in a process of its own, whose standard output is `stdout`; returns exit code and stderr."""
    command = [sys.executable, "-m", "onnxruntime_ep_sparse", *map(str, arguments)]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **environment}, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("arguments", [("--version",), ("analyze", "{model}")])
def test_output_on_a_full_disk(anywhere, sparse_model, arguments):
    """One line and exit code 1, with or without a buffer."""
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            more = {**anywhere, "PYTHONUNBUFFERED": unbuffered}
            result = run_alone(*(text.format(model=sparse_model) for text in arguments), stdout=full, **more)
        assert result == (1, "ort-sparse: cannot write to stdout: No space left on device\n")


def test_terminals_without_unicode(anywhere, sparse_model, tmp_path):
    """The table has a line of ASCII, and a name with another character does not end the command."""
    model = onnx.load(sparse_model)
    model.graph.node[0].name = "größe"
    onnx.save(model, tmp_path / "named.onnx")
    with open(tmp_path / "out", "wb") as file:
        more = {**anywhere, "PYTHONIOENCODING": "ascii"}
        assert run_alone("analyze", tmp_path / "named.onnx", "--all", stdout=file, **more) == (0, "")
    lines = (tmp_path / "out").read_text("ascii").splitlines()
    assert set(lines[1]) == {"-"}
    assert r"gr\xf6\xdfe" in "".join(lines)
