"""`compare` of two files, and of all nodes."""

import numpy as np
import onnx

from onnxruntime_ep_sparse import models
from support.making import corrupted


def test_command(cli, saved, chain):
    """The node, its weight and the worst elements in text and in the document; 0 where all agree."""
    good = chain(0.95)
    one, other = saved(good, "good.onnx"), saved(corrupted(good, "w", lambda x: x + 3), "bad.onnx")
    text = cli("compare", one, other, "--nodes", expect=1).out
    assert "first difference: conv (Conv), node 1 of 5, in its value a" in text
    assert "its constant w differs between the files: 1 of 73,728 elements, by at most 3" in text
    assert text.splitlines()[-1] == "FAIL"
    document = cli("compare", one, other, "--nodes", "--json", "-", expect=1).document
    assert (document["first"]["node"], document["other"]) == ("conv", str(other))
    text = cli("compare", one, "--nodes").out
    assert "5 values of 5 nodes within 1e-04" in text
    assert "DIFFERS" in cli("compare", one, other, expect=1).out


def test_8_bit_values(cli, saved, chain):
    """Differences of integers are counted in steps."""
    good = models.FORMATS["int8-qoperator"](chain(0.95))
    one, other = saved(good, "good.onnx"), saved(corrupted(good, "w_quantized", np.negative), "bad.onnx")
    text = cli("compare", one, other, "--nodes", "--threads", 1, expect=1).out
    assert "first difference: conv_quant (QLinearConv)" in text
    assert "elements of" in text
    assert "error in steps" in text
    assert "8-bit" not in text
    assert "ok" in cli("compare", one, "--nodes", "--threads", 1).out


def test_wrong_use(cli, sparse_model, tmp_path):
    """A missing file, a folder and a model with other inputs are one line each."""
    for arguments, words in (
        ((sparse_model, tmp_path / "none.onnx", "--nodes"), "no such file"),
        ((sparse_model, tmp_path, "--nodes"), "not a file"),
    ):
        result = cli("compare", *arguments, expect=2)
        (line,) = [line for line in result.err.splitlines() if line.startswith("ort-sparse:")]
        assert words in line
        assert not result.out
    renamed = onnx.load(sparse_model)
    renamed.graph.input[0].name = "z"
    renamed.graph.node[0].input[0] = "z"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    assert "those of" in cli("compare", sparse_model, tmp_path / "renamed.onnx", expect=2).err
