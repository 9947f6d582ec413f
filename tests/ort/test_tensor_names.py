"""Tensors are told apart by whatever bytes name them: ONNX Runtime accepts names that are not UTF-8, and NULs in them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import printable
from ort.test_custom_ops import compressed, custom_session
from support.making import examples, model_of, noise, pruned
from support.promises import ALWAYS, assignment, cpu_session, make_session

LENGTH = 4
PIECES = (b"a", b"\xe9", b"\xe8", b"\0", b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xed\xa0\x81", b"\xff", b"\xef\xbf\xbd", b"?")
"""Latin-1, UTF-8 whole and cut, lone surrogates, NUL, and what replaces bytes that are no text."""
TENSORS = ("w1", "w2", "b1", "b2", "c1", "c2", "r1", "r2")
names_of_bytes = st.lists(st.sampled_from(PIECES), min_size=LENGTH, max_size=LENGTH).map(lambda pieces: b"".join(pieces)[:LENGTH])
distinct_names = st.lists(names_of_bytes, min_size=len(TENSORS), max_size=len(TENSORS), unique=True)


def renamed(model, names):
    """The bytes of a model with byte strings, all of LENGTH, for the names of TENSORS."""
    blob = model.SerializeToString()
    for tensor, name in zip(TENSORS, names, strict=True):
        blob = blob.replace(placeholder(tensor), name)
    return blob


def placeholder(tensor):
    """A name of LENGTH bytes that is nowhere else in a model."""
    return f"~{tensor}~".encode()


def two_branches():
    """y = Relu(Gemm(x)) - Relu(Gemm(x)), with other weights in the two; TENSORS have placeholders for names."""
    rng = np.random.default_rng(0)
    name = {tensor: placeholder(tensor).decode() for tensor in TENSORS}
    nodes, weights = [], {}
    for i in "12":
        nodes += [
            helper.make_node("Gemm", ["x", name[f"w{i}"], name[f"b{i}"]], [name[f"c{i}"]], name=f"gemm{i}"),
            helper.make_node("Relu", [name[f"c{i}"]], [name[f"r{i}"]], name=f"relu{i}"),
        ]
        weights |= {name[f"w{i}"]: pruned(rng, (16, 16), 0.5), name[f"b{i}"]: noise(rng, 16)}
    nodes.append(helper.make_node("Sub", [name["r1"], name["r2"]], ["y"], name="difference"))
    return model_of(nodes, {"x": ["n", 16]}, ["y"], weights)


MODEL = two_branches()
FEEDS = {"x": noise(np.random.default_rng(1), 3, 16)}
(EXPECTED,) = cpu_session(MODEL).run(None, FEEDS)


def tells_apart(names):
    """Whether all names differ, and none is empty, up to the first NUL, which is where they end for a provider."""
    seen = [name.partition(b"\0")[0] for name in names]
    return len(set(seen)) == len(seen) and all(seen)


@examples(60)
@given(distinct_names)
def test_any_names(names):
    """The values of the CPU provider, and every node ours where the names that a provider sees differ."""
    ours = make_session(renamed(MODEL, names))
    np.testing.assert_allclose(ours.run(None, FEEDS)[0], EXPECTED, atol=1e-5)
    left = {decision.code for decision in sparse.explain(ours) if not decision.taken}
    assert left == set() if tells_apart(names) else left >= {"name-not-unique"}


@examples(30)
@given(distinct_names)
def test_any_names_of_compressed_weights(names):
    """The same of compressed weights, with the provider and without."""
    blob = renamed(compressed(MODEL), names)
    for provider in (None, ALWAYS):
        session = custom_session(blob, provider)
        np.testing.assert_allclose(session.run(None, FEEDS)[0], EXPECTED, atol=1e-5)


@examples(20)
@given(distinct_names)
def test_any_names_in_compiled_models(names):
    """A compiled model has the same values, or there is none."""
    options = sparse.session_options({**ALWAYS})
    options.log_severity_level = 4
    compiler = onnxruntime.ModelCompiler(options, renamed(MODEL, names), embed_compiled_data_into_model=True)
    if not tells_apart(names):
        try:
            session = make_session(compiler.compile_to_bytes())
        except (Fail, InvalidArgument, RuntimeException):
            return
    else:
        session = make_session(compiler.compile_to_bytes())
    np.testing.assert_allclose(session.run(None, FEEDS)[0], EXPECTED, atol=1e-5)
    assert not tells_apart(names) or {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}


@pytest.mark.parametrize("dimension", ["a\udce9", "é"])
def test_printable(dimension):
    """Whatever is decoded can be shown."""
    assert printable(dimension).encode()


def test_names_as_passes_make_them():
    """A file may name its tensors as passes name what they make of others."""
    rng = np.random.default_rng(0)
    conv = helper.make_node("Conv", ["x", "w of 0.1", "weight of y"], ["compressed weight of y"], pads=[1] * 4)
    norm = helper.make_node("BatchNormalization", ["compressed weight of y", "bias of y", "w of 0.1.1", "m", "v"], ["y"])
    weight = pruned(rng, (8, 4, 3, 3))
    weight[:4] = 0
    weights = {"w of 0.1": weight, **{name: np.abs(noise(rng, 8)) for name in ("weight of y", "bias of y", "w of 0.1.1", "m", "v")}}
    model = model_of([conv, norm], {"x": [1, 4, 9, 9]}, ["y"], weights)
    feeds = {"x": noise(rng, 1, 4, 9, 9)}
    packed = onnx.load_from_string(compressed(model).SerializeToString())
    for session in (make_session(model), custom_session(packed, ALWAYS)):
        np.testing.assert_allclose(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0], atol=1e-4)
        assert {provider for provider, _ in assignment(session)} == {sparse.EP_NAME}
