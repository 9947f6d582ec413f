"""`pack` and `unpack`: what they print, write and refuse."""

import itertools
import json
import os

import onnx
import pytest


def test_there_and_back(cli, sparse_model, tmp_path):
    """A table, one line of sizes, a document, and the same model again."""
    packed, back, report = tmp_path / "packed.onnx", tmp_path / "back.onnx", tmp_path / "report.json"
    result = cli("pack", sparse_model, packed, "--json", report)
    assert "pack" in result.err
    assert "2 of 2 weights compressed" in result.out
    document = json.loads(report.read_text())
    assert document["bytes_before"] == sparse_model.stat().st_size
    assert document["bytes_after"] == packed.stat().st_size < 0.1 * document["bytes_before"]
    assert [(w["name"], w["op_type"], w["shape"]) for w in document["weights"]] == [
        ("w", "Conv", [128, 64, 3, 3]),
        ("v", "MatMul", [128, 100]),
    ]
    document = cli("unpack", packed, back, "--json", "-").document
    assert document["bytes_after"] == back.stat().st_size
    assert [w["sparsity"] for w in document["weights"]] == [pytest.approx(0.95, abs=1e-4)] * 2
    assert back.read_bytes() == sparse_model.read_bytes()


def test_compressed_models_in_other_commands(cli, sparse_model, tmp_path):
    """They run, are taken, agree with the CPU's kernels of the same operators, and have the multiplications of the dense model."""
    packed = tmp_path / "packed.onnx"
    cli("pack", sparse_model, packed)
    cli("compare", packed, "--require-owned")
    documents = [cli("analyze", path, "--json", "-").document for path in (sparse_model, packed)]
    assert documents[0]["nodes"] == documents[1]["nodes"]
    assert documents[0]["totals"] == documents[1]["totals"]


def test_options(cli, sparse_model, dense_model, tmp_path):
    """--standard writes a model that needs nothing of ours; --min-sparsity is the threshold; what stays is said."""
    target = tmp_path / "packed.onnx"
    cli("pack", sparse_model, target, "--standard")
    assert len(onnx.load(target).graph.sparse_initializer) == 2
    cli("compare", target)
    assert "0 of 2 weights compressed" in cli("pack", sparse_model, target, "--min-sparsity", 0.96).out
    assert "fewer zeros than 0.5" in cli("pack", dense_model, target).out


def test_wrong_use(cli, sparse_model, tmp_path):
    """One line and exit code 2."""
    packed = tmp_path / "packed.onnx"
    cli("pack", sparse_model, packed)
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for arguments, words in (
        (("pack", tmp_path / "none.onnx", packed), "no such file"),
        (("pack", tmp_path, packed), "not a file"),
        (("pack", tmp_path / "text.onnx", packed), "is not an ONNX model"),
        (("pack", tmp_path / "empty.onnx", packed), "is not an ONNX model"),
        (("pack", sparse_model, sparse_model), "is the model itself"),
        (("pack", packed, tmp_path / "twice.onnx"), "is compressed already"),
        (("pack", sparse_model, tmp_path), "cannot write"),
        (("unpack", packed, tmp_path / "none" / "back.onnx"), "cannot write"),
        (("unpack", packed, packed), "is the model itself"),
        (("unpack", tmp_path / "text.onnx", packed), "is not an ONNX model"),
    ):
        result = cli(*arguments, expect=2)
        assert result.out == ""
        assert words in result.err.splitlines()[-1]
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "pipe.onnx")
    for command, name in itertools.product(("pack", "compile"), ("pipe.onnx", "link.onnx")):
        assert str(tmp_path / name) in cli(command, sparse_model, tmp_path / name, expect=2).err
        assert (tmp_path / name).is_fifo()
    damaged = tmp_path / "damaged.onnx"
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert "the checksum does not fit" in cli("unpack", damaged, tmp_path / "back.onnx", expect=2).err
    assert not (tmp_path / "back.onnx").exists()


def test_a_folder_that_cannot_be_written(cli, sparse_model, tmp_path, monkeypatch):
    """A full disk or missing rights: exit code 1, and nothing is left."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in cli("pack", sparse_model, tmp_path / "packed.onnx", expect=1).err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sparse.onnx"]
