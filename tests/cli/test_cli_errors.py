"""Wrong use: one line that says what is wrong, exit code 2, nothing on stdout."""

import re

import numpy as np
import pytest

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


@pytest.mark.parametrize("command", COMMANDS)
def test_no_model(refused, command, tmp_path):
    """A missing file, a folder, a file that is no model, an empty one."""
    assert "no such file" in refused(command, tmp_path / "none.onnx")
    assert "not a file" in refused(command, tmp_path)
    corrupt = tmp_path / "corrupt.onnx"
    for content in (b"no model at all", b""):
        corrupt.write_bytes(content)
        assert "cannot load" in refused(command, corrupt)


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


@pytest.mark.parametrize("arguments", [("analyze",), ("bench", "m.onnx", "--pairs", "0"), ("compare", "m.onnx", "--fast"), ("quantize",)])
def test_arguments(cli, arguments):
    """What the parser itself refuses."""
    assert cli(*arguments, expect=2).err
