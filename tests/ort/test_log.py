"""Messages at ONNX Runtime's levels, through the logger of the session or, by ORT_SPARSE_LOG, to stderr."""

import re

import pytest

from onnxruntime_ep_sparse.ort.log_level import AS_SESSION, LEVELS, chosen_level

RUN = """if True:
    import sys
    import onnxruntime
    import onnxruntime_ep_sparse as sparse

    sparse.register()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = int(sys.argv[2])
    if len(sys.argv) > 3:  # ONNX Runtime gives providers of this argument its default logger
        onnxruntime.set_default_logger_severity(int(sys.argv[2]))
        options.log_severity_level = 2
        providers = [(sparse.EP_NAME, {"threads": "2"}), "CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(sys.argv[1], options, providers=providers, enable_fallback=0)
    else:
        session = onnxruntime.InferenceSession(sys.argv[1], sparse.session_options({"threads": "2"}, options), enable_fallback=0)
"""
OURS = re.compile(r"\[([VIWE]):.*SparseExecutionProvider: (.*)")


@pytest.fixture
def messages(fresh, sparse_model, monkeypatch):
    """Create a session in a new process, and return the provider's messages with their levels."""

    def run(severity, chosen=None, *more):
        monkeypatch.delenv("ORT_SPARSE_LOG", raising=False)
        if chosen is not None:
            monkeypatch.setenv("ORT_SPARSE_LOG", chosen)
        done = fresh(RUN, sparse_model, severity, *more)
        text = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
        return OURS.findall(text)

    return run


def test_session_at_level_info(messages):
    """It tells the instruction set, the regions, the time of packing and the memory; no node."""
    found = messages(1)
    assert {level for level, _ in found} == {"I"}
    (start, regions, packed) = (text for _, text in found)
    assert re.match(r"instruction set \w+, of .*; 2 threads\b", start)
    assert "takes 5 of 5 nodes in 1 region" in regions
    assert re.search(r"region 0, from node conv.*: \d+ steps, ready in [\d.]+ ms; [\d.]+ MB of packed weights, [\d.]+ MB in this", packed)
    assert float(re.search(r"; ([\d.]+) MB of packed", packed)[1]) > 0


def test_default_logger(messages):
    """Sessions that name the provider in `providers=` log at the level of ONNX Runtime's default logger."""
    assert [text for _, text in messages(1, None, "providers")][1].startswith("takes 5 of 5 nodes")
    assert messages(2, None, "providers") == []


def test_session_at_level_verbose(messages):
    """Each decision as well."""
    found = messages(0)
    (conv,) = (text for level, text in found if level == "V" and text.startswith("conv (Conv)"))
    assert "taken: sparsity 95.0%, break-even" in conv
    assert sum(level == "V" and ("taken: " in text or "left: " in text) for level, text in found) >= 5


def test_sessions_are_silent_by_default(messages):
    """At ONNX Runtime's own default, warnings, there is nothing to say."""
    assert messages(2) == []


def test_variable_shows_more(messages):
    """Than the session does: the same lines, on stderr."""
    assert [text for _, text in messages(2, "info")][1].startswith("takes 5 of 5 nodes")


def test_variable_shows_less(messages):
    """Than the session does."""
    assert messages(1, "off") == []
    assert messages(0, "info") != []
    assert {level for level, _ in messages(0, "info")} == {"I"}


def test_variable():
    """Names of levels in any case; anything else is an error that lists them."""
    assert chosen_level({}) == chosen_level({"ORT_SPARSE_LOG": ""}) == AS_SESSION
    assert [chosen_level({"ORT_SPARSE_LOG": name.upper()}) for name in LEVELS] == list(LEVELS.values())
    with pytest.raises(ValueError, match=r"ORT_SPARSE_LOG: 'loud' is not valid; valid: 'verbose', 'info'"):
        chosen_level({"ORT_SPARSE_LOG": "loud"})


def test_wrong_variable_is_an_error_of_register(fresh, sparse_model, monkeypatch):
    """There it is one line; in a session it would be the end of a message of ONNX Runtime, which goes on without the provider."""
    monkeypatch.setenv("ORT_SPARSE_LOG", "loud")
    done = fresh(RUN, sparse_model, 2, expect=1)
    assert done.stderr.splitlines()[-1].startswith("ValueError: environment variable ORT_SPARSE_LOG: 'loud' is not valid")


def test_wrong_variable_is_an_error_of_the_session(fresh, sparse_model, monkeypatch):
    """If it is set after `register()`, as a wrong option is."""
    monkeypatch.delenv("ORT_SPARSE_LOG", raising=False)
    later = RUN.replace("sparse.register()", "sparse.register(); import os; os.environ['ORT_SPARSE_LOG'] = 'loud'")
    providers = later.replace('sparse.session_options({"threads": "2"}, options)', "options, providers=[sparse.EP_NAME]")
    done = fresh(providers, sparse_model, 2, expect=1)
    assert "environment variable ORT_SPARSE_LOG: 'loud' is not valid" in done.stderr
