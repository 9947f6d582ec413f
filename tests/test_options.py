"""Every way to give an option, and the errors for wrong ones."""

import re

import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse import cpus, options
from onnxruntime_ep_sparse.options import Options
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.repository import ROOT


def taken(session):
    """How many nodes the provider has in this session."""
    return sum(decision.taken for decision in sparse.explain(session))


def by_name(given):
    """`providers=` with a bare name."""
    return {"providers": [sparse.EP_NAME, "CPUExecutionProvider"]}


def by_tuple(given):
    """`providers=` with options."""
    return {"providers": [(sparse.EP_NAME, given), "CPUExecutionProvider"]}


def by_provider_options(given):
    """`providers=` with `provider_options=`."""
    return {"providers": [sparse.EP_NAME, "CPUExecutionProvider"], "provider_options": [given, {}]}


def by_add_provider(given):
    """SessionOptions.add_provider."""
    chosen = onnxruntime.SessionOptions()
    chosen.add_provider(sparse.EP_NAME, given)
    return {"sess_options": chosen}


def by_devices(given):
    """SessionOptions.add_provider_for_devices."""
    chosen = onnxruntime.SessionOptions()
    chosen.add_provider_for_devices([d for d in onnxruntime.get_ep_devices() if d.ep_name == sparse.EP_NAME], given)
    return {"sess_options": chosen}


def by_helper(given):
    """Our own session_options()."""
    return {"sess_options": sparse.session_options(given)}


WAYS = [by_tuple, by_provider_options, by_add_provider, by_devices, by_helper]


@pytest.mark.parametrize("way", WAYS)
def test_options_arrive(model_bytes, way):
    """The same option has the same effect on every way."""
    for policy, count in (("always", 3), ("never", 0)):
        session = onnxruntime.InferenceSession(model_bytes, **way({"policy": policy}), enable_fallback=0)
        assert session.get_providers()[0] == sparse.EP_NAME
        assert taken(session) == count


@pytest.mark.parametrize("way", [way for way in WAYS if way is not by_helper])
def test_wrong_options_fail(model_bytes, way):
    """An unknown key, or a bad value, fails the session and lists what is valid."""
    names = ", ".join(sorted(option.name for option in options.OPTIONS))
    with pytest.raises(Exception, match=f"unknown option 'polcy'; valid options: {names}"):
        onnxruntime.InferenceSession(model_bytes, **way({"polcy": "always"}), enable_fallback=0)
    with pytest.raises(Exception, match=r"option 'policy': 'often' is not valid; valid: 'auto', 'always', 'never', 'measure'"):
        onnxruntime.InferenceSession(model_bytes, **way({"policy": "often"}), enable_fallback=0)


def test_helper_checks_in_python():
    """session_options() finds the same faults at once."""
    with pytest.raises(ValueError, match="unknown option 'polcy'"):
        sparse.session_options({"polcy": "always"})
    with pytest.raises(ValueError, match="a number from 0 to 1"):
        sparse.session_options({"min_sparsity": 1.5})


def test_selection_policy(model_bytes):
    """A policy that prefers CPU devices chooses the provider; its options then come from the environment or the defaults."""
    chosen = onnxruntime.SessionOptions()
    chosen.set_provider_selection_policy(onnxruntime.OrtExecutionProviderDevicePolicy.PREFER_CPU)
    session = onnxruntime.InferenceSession(model_bytes, chosen, enable_fallback=0)
    assert sparse.EP_NAME in session.get_providers()


def test_environment(model_bytes, monkeypatch):
    """The environment holds where nothing is given, and is checked as well."""
    monkeypatch.setenv("ORT_SPARSE_POLICY", "always")
    assert taken(onnxruntime.InferenceSession(model_bytes, **by_name({}), enable_fallback=0)) == 3
    assert taken(onnxruntime.InferenceSession(model_bytes, **by_tuple({"policy": "never"}), enable_fallback=0)) == 0
    monkeypatch.setenv("ORT_SPARSE_POLICY", "often")
    with pytest.raises(Exception, match="environment variable ORT_SPARSE_POLICY: option 'policy': 'often'"):
        onnxruntime.InferenceSession(model_bytes, **by_name({}), enable_fallback=0)


def test_isa_unavailable(monkeypatch):
    """An instruction set that cannot run here names the best one that can."""
    not_built, built, *_, available = (isa.name for isa in ISAS)
    monkeypatch.setattr(kernels, "compiled_isas", lambda: (built, available))
    monkeypatch.setattr(kernels, "available_isas", lambda: (available,))
    monkeypatch.setattr(kernels, "available_byte_sets", tuple)
    with pytest.raises(ValueError, match=f"this CPU lacks it, the best available is '{available}'"):
        options.parse({"isa": built}, {})
    with pytest.raises(ValueError, match=f"this build lacks it, the best available is '{available}'"):
        options.parse({"isa": not_built}, {})
    with pytest.raises(ValueError, match=f"this CPU lacks it, the best available is '{available}'"):
        options.parse({"isa": f"{built}_madd"}, {})
    assert options.parse({"isa": available}, {}).isa == available


def test_kernels_for_bytes():
    """The name of a set chooses its instruction set too; that of an instruction set, or none, the best set that can run here."""
    for row in byte_sets_for(ISAS):
        if row.name in kernels.available_byte_sets():
            chosen = options.parse({"isa": row.name}, {})
            assert (options.isa_of(chosen), options.byte_set_of(chosen)) == (row.isa, row.name)
    for name in kernels.available_isas():
        assert options.byte_set_of(options.parse({"isa": name}, {})) == kernels.best_byte_set(name)
    assert options.byte_set_of(options.parse({}, {})) == kernels.available_byte_sets()[0]


def test_defaults():
    """Nothing given, nothing in the environment."""
    assert options.parse({}, {}) == Options(
        policy="auto", min_sparsity=None, isa="auto", threads=None, profile=False, measure_budget_ms=10_000
    )
    assert options.parse({}, {}).cache_dir is None
    assert options.parse({}, {}).cache_max_mb == 4000


def test_values():
    """Strings become what they mean; an empty variable is no variable."""
    assert options.parse({"min_sparsity": "0.5", "threads": "4"}, {}) == Options("auto", 0.5, "auto", 4)
    assert [options.parse({"profile": text}, {}).profile for text in "01"] == [False, True]
    assert options.parse({}, {"ORT_SPARSE_PROFILE": "1"}).profile
    assert options.parse({}, {"ORT_SPARSE_MIN_SPARSITY": "", "ORT_SPARSE_POLICY": ""}) == options.parse({}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_sparsity", "nan"),
        ("min_sparsity", "-1"),
        ("min_sparsity", "x"),
        ("threads", "0"),
        ("threads", "two"),
        ("isa", ""),
        ("profile", "yes"),
        ("measure_budget_ms", "-1"),
        ("measure_budget_ms", "1.5"),
        ("measure_budget_ms", ""),
        ("cache_max_mb", "-1"),
        ("cache_max_mb", "0.5"),
    ],
)
def test_bad_values(key, value):
    """Each names the option, the value and what is valid."""
    with pytest.raises(ValueError, match=f"option '{key}': '{value}' is not valid; valid: "):
        options.parse({key: value}, {})


def test_paths_arrive(model_bytes, monkeypatch, tmp_path):
    """Of any bytes, in the option or its variable."""
    folder = tmp_path / "ü \udcff"
    monkeypatch.setenv("ORT_SPARSE_CACHE_DIR", str(folder))
    assert options.parse({}).cache_dir == str(folder)
    onnxruntime.InferenceSession(model_bytes, **by_name({}), enable_fallback=0)
    with pytest.raises(ValueError, match=r"option 'cache_dir': .* is not valid; valid: a path"):
        options.parse({"cache_dir": "a\0b"}, {})
    assert options.parse({"cache_dir": "a", "measure_budget_ms": "0"}, {}) == options.Options("auto", None, "auto", None, False, 0, "a")


def test_thread_hint(monkeypatch):
    """`threads`, else its variable, else what ONNX Runtime was told, if so many can work at once."""
    monkeypatch.setattr(cpus, "usable", lambda: 8)
    monkeypatch.setattr(cpus, "cores", lambda: 4)
    session = {"session.intra_op_num_threads": "3", "ep.sparseexecutionprovider.policy": "never", "session.other": "x"}
    assert options.from_session(session, {}) == Options("never", None, "auto", 3)
    assert options.from_session(session, {}, 2).threads == 3
    assert options.from_session({**session, "ep.sparseexecutionprovider.threads": "9"}, {}).threads == 9
    assert options.from_session(session, {"ORT_SPARSE_THREADS": "5"}).threads == 5
    assert options.from_session(session, {"ORT_SPARSE_THREADS": ""}).threads == 3
    assert options.from_session({}, {"ORT_INTRA_OP_NUM_THREADS": "6"}).threads == 6
    assert options.from_session({}, {"ORT_INTRA_OP_NUM_THREADS": "6"}, 1).threads == 1
    assert options.from_session({}, {"ORT_INTRA_OP_NUM_THREADS": "16"}).threads == 8
    assert options.from_session({"session.intra_op_num_threads": "0"}, {}).threads == 4


@pytest.mark.parametrize("way", WAYS)
def test_a_session_is_cut_for_its_own_threads(model_bytes, monkeypatch, way):
    """The number in `SessionOptions` arrives on every way; more than the CPUs do not count."""
    monkeypatch.setattr(cpus, "usable", lambda: 3)
    monkeypatch.setattr(cpus, "cores", lambda: 2)
    for pool, expected in ((1, 1), (2, 2), (5, 3), (0, 2)):
        given = way({"policy": "always", "profile": "1"})
        chosen = given.setdefault("sess_options", onnxruntime.SessionOptions())
        chosen.intra_op_num_threads = pool
        session = onnxruntime.InferenceSession(model_bytes, **given, enable_fallback=0)
        assert {step.threads for step in sparse.step_times(session)} == {expected}


def test_a_shared_pool(fresh, tmp_path, model_bytes):
    """The number in `SessionOptions` does not count where sessions share a pool of another size."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes)
    fresh(
        """if True:
        import sys, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        from onnxruntime_ep_sparse import cpus
        cpus.usable, cpus.cores = lambda: 5, lambda: 3
        sparse.register()
        ort.set_global_thread_pool_sizes(2, 1)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.use_per_session_threads = 1, False
        providers = [(sparse.EP_NAME, {"policy": "always", "profile": "1"}), "CPUExecutionProvider"]
        session = ort.InferenceSession(sys.argv[1], options, providers=providers, enable_fallback=0)
        assert {step.threads for step in sparse.step_times(session)} == {3}
        """,
        path,
    )


def test_base_is_copied_and_left_alone(monkeypatch):
    """Plain attributes come along; the thread count becomes the hint, also as an option of the session."""
    monkeypatch.setattr(cpus, "usable", lambda: 4)
    base = onnxruntime.SessionOptions()
    base.intra_op_num_threads = 3
    base.log_severity_level = 3
    base.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    made = sparse.session_options({"policy": "never"}, base)
    assert made.intra_op_num_threads == 3
    assert made.log_severity_level == 3
    assert made.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert made.get_session_config_entry("ep.sparseexecutionprovider.threads") == "3"
    assert made.has_providers()
    assert not base.has_providers()


def test_values_of_isa():
    """The table of instruction sets says which values the option `isa` takes."""
    (option,) = (option for option in options.OPTIONS if option.name == "isa")
    assert option.valid.split(", ") == ["'auto'", *(repr(row.name) for row in (*ISAS, *byte_sets_for(ISAS)))]


def test_every_option_is_documented():
    """The documentation's table has a row for each."""
    rows = options.markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [option.name for option in options.OPTIONS]


@pytest.mark.slow
def test_options_are_listed_once():
    """No other place names all options, or all but one: only the table, pages that are generated from it, and a message on a page."""
    names, height = [option.name for option in options.OPTIONS], 15

    def lists(text):
        lines = text.splitlines()
        windows = (" ".join(lines[i : i + height]) for i in range(len(lines)))
        return any(sum(bool(re.search(rf"\b{name}\b", window)) for name in names) >= len(names) - 1 for window in windows)

    files = [ROOT / "README.md", *(path for folder in ("provider", "kernels", "docs") for path in (ROOT / folder).rglob("*"))]
    written = [path for path in files if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".in", ".md")]
    assert sorted(path.name for path in written if lists(path.read_text())) == [
        "environment.md",
        "options.md",
        "options.py",
        "troubleshooting.md",  # tests/test_docs.py compares it with what the command says
    ]
