"""A report of a small net."""

import numpy as np
import pytest
from onnx.helper import make_node

import onnxruntime_ep_sparse as sparse
from support.making import model_of, noise, pruned


def net():
    """x -> Gemm -> Relu -> Gemm -> Relu -> Gemm -> y, with 95 %, 95 % and no zeros, and an open batch."""
    rng = np.random.default_rng(0)
    nodes = []
    for i in range(3):
        nodes.append(make_node("Gemm", [f"x{i}", f"w{i}"], [f"y{i}"], f"layer{i}"))
        nodes.append(make_node("Relu", [f"y{i}"], [f"x{i + 1}"], f"relu{i}"))
    sizes = (256, 512, 256, 16)
    weights = {f"w{i}": pruned(rng, sizes[i : i + 2], 0.95 if i < 2 else 0.0) for i in range(3)}
    weights["w1"][:64] = noise(rng, 64, 256)
    return model_of(nodes[:-1], {"x0": ["batch", 256]}, ["y2"], weights)


@pytest.fixture(scope="session")
def model():
    """The model of the report."""
    return net()


@pytest.fixture(scope="session")
def made(model):
    """Its report, with curves."""
    sparse.register()
    return sparse.report(model, batch=4, threads=1, pairs=6, name='<net> & "more"')


@pytest.fixture(scope="session")
def page(made, tmp_path_factory):
    """The file of its page."""
    pytest.importorskip("jinja2", reason="needs the extra: pip install '.[report]'")
    path = tmp_path_factory.mktemp("report") / "report.html"
    made.save(path)
    return path
