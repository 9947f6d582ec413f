"""`compile`: what it prints, writes and refuses."""

import json

import pytest

import onnxruntime_ep_sparse as sparse


@pytest.mark.parametrize("beside", [False, True])
def test_compiled(cli, sparse_model, tmp_path, beside):
    """One line of sizes, a document, and a model that the other commands take."""
    target, report = tmp_path / "compiled.onnx", tmp_path / "report.json"
    result = cli("compile", sparse_model, target, "--json", report, *["--beside"] * beside)
    assert "1 region compiled, 0 nodes left" in result.out
    document = json.loads(report.read_text())
    assert (document["regions"], document["nodes_left"], len(document["files"])) == (1, 0, beside)
    files = [target, *tmp_path.glob("compiled_*.bin")]
    assert len(files) == 1 + beside
    assert document["bytes_after"] == sum(file.stat().st_size for file in files) < 0.2 * document["bytes_before"]
    (decision,) = sparse.explain(target)
    assert decision.reason.startswith("compiled: ")
    cli("analyze", target)


def test_options(cli, sparse_model, tmp_path):
    """The provider's options are passed on."""
    target = tmp_path / "compiled.onnx"
    document = cli("compile", sparse_model, target, "--option", "isa=baseline", "--json", "-").document
    assert document["options"] == {"isa": "baseline"}
    assert b"isa=baseline" in target.read_bytes()


def test_compressed_models(cli, sparse_model, tmp_path):
    """They become the same."""
    packed, targets = tmp_path / "packed.onnx", [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    cli("pack", sparse_model, packed)
    documents = [
        cli("compile", source, target, "--json", "-").document for source, target in zip((sparse_model, packed), targets, strict=True)
    ]
    assert documents[0]["bytes_after"] == pytest.approx(documents[1]["bytes_after"], rel=0.01)


def test_wrong_use(cli, sparse_model, dense_model, tmp_path):
    """One line and exit code 2, or 1 where the model has nothing to compile."""
    target = tmp_path / "compiled.onnx"
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    for arguments, words, code in (
        ((tmp_path / "none.onnx", target), "no such file", 2),
        ((tmp_path, target), "not a file", 2),
        ((sparse_model, sparse_model), "is the model itself", 2),
        ((sparse_model, tmp_path), "cannot write", 2),
        ((sparse_model, tmp_path / "none" / "compiled.onnx"), "cannot write", 2),
        ((sparse_model, tmp_path / "compiled"), "cannot write", 2),
        ((sparse_model, target, "--option", "policy=x"), "is not valid", 2),
        ((text, target), "is not an ONNX model", 2),
        ((dense_model, target), "cannot compile", 1),
    ):
        result = cli("compile", *arguments, expect=code)
        assert words in result.err
        assert len(result.err.splitlines()) == 1
        assert not target.exists()


@pytest.mark.parametrize("beside", [False, True])
def test_failure_keeps_the_older_file(cli, sparse_model, tmp_path, monkeypatch, *, beside):
    """A full disk: exit code 1, and nothing new is left."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    target = tmp_path / "compiled.onnx"
    target.write_bytes(b"older")
    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in cli("compile", sparse_model, target, *["--beside"] * beside, expect=1).err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compiled.onnx", "sparse.onnx"]
    assert target.read_bytes() == b"older"
