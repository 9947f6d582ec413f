"""Models of 8-bit integers and 16-bit floats in the tables of commands."""

import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models


@pytest.mark.parametrize(("form", "op_type"), [("int8", "Conv"), ("int8-qoperator", "QLinearConv"), ("int8-dynamic", "ConvInteger")])
def test_analyze_8_bit_weights(cli, saved, chain, form, op_type):
    """The type of a weight stands beside it, and products of integers have as many multiplications as those of floats."""
    floats = cli("analyze", saved(chain(0.95)), "--json", "-", "--option", "policy=always").document
    path = saved(models.FORMATS[form](chain(0.95)), "quantised.onnx")
    found = cli("analyze", path, "--json", "-", "--option", "policy=always").document
    (conv,) = (node for node in found["nodes"] if node["op_type"] == op_type)
    assert (conv["dtype"], conv["shape"], conv["pattern"]) == ("int8", [128, 64, 3, 3], "unstructured")
    assert found["totals"]["macs"] == floats["totals"]["macs"]
    assert [node["dtype"] for node in floats["nodes"]] == ["float32"] * len(floats["nodes"])
    text = cli("analyze", path, "--option", "policy=always").out
    assert "dtype" in text
    assert "int8" in text
    assert "dtype" not in cli("analyze", saved(chain(0.95))).out


@pytest.mark.parametrize(("form", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_types_of_16_bits(chain, form, dtype):
    """A weight that is computed in float32 has the type of the file."""
    decisions = sparse.explain(models.FORMATS[form](chain(0.95)))
    assert {d.dtype for d in decisions if d.sparsity is not None} == {dtype}
    assert {d.dtype for d in decisions if d.shape is None} == {""}


def test_steps_of_8_bit_weights(cli, saved, chain):
    """Steps have the type of their weight, and rates in multiply-adds."""
    path = saved(models.FORMATS["int8"](chain(0.95)))
    arguments = (path, "--option", "policy=always", "--per-step", "--pairs", 6, "--no-memory", "--threads", 1)
    document = cli("bench", *arguments, "--json", "-").document
    steps = document["per_step"]["steps"]
    (product,) = (step for step in steps if step["kind"] == "byte_product" and step["name"].startswith("conv"))
    assert product["dtype"] == "int8"
    assert product["gmac_s"] == pytest.approx(product["macs"] / product["ns"])
    text = cli("bench", *arguments).out
    assert "GMAC/s" in text
    assert "GFLOP/s" not in text
    floats = cli("bench", saved(chain(0.95)), *arguments[1:]).out
    assert "GFLOP/s" in floats
    assert "dtype" not in floats
