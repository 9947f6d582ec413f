"""`prune`: what it prints, writes and refuses."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.prune.allocation import ALLOCATIONS
from onnxruntime_ep_sparse.prune.data import READERS
from onnxruntime_ep_sparse.prune.masks import Masks
from onnxruntime_ep_sparse.prune.methods import METHODS
from onnxruntime_ep_sparse.prune.patterns import PATTERNS

SIZES = (32, 24, 20, 10)


def net(shared=False):
    """x -> Gemm -> Relu -> Gemm -> Relu -> Gemm -> y: the last one is the classifier. `shared`: two equal layers have one weight."""
    sizes = (32, 24, 24, 24, 10) if shared else SIZES
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "x"
    for number, shape in enumerate(zip(sizes[1:], sizes[:-1], strict=True)):
        name = "w1" if shared and number == 2 else f"w{number}"
        if all(weight.name != name for weight in weights):
            weights.append(numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32), name))
        last = number == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [x, name], ["y" if last else f"h{number}"], name=f"fc{number}", transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{number}"], [f"a{number}"], name=f"relu{number}"))
            x = f"a{number}"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", sizes[0]), ("y", sizes[-1]))]
    graph = helper.make_graph(nodes, "net", infos[:1], infos[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    """A folder with model.onnx and data.npz, 200 samples of correlated inputs."""
    onnx.save(net(), tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=(rng.standard_normal((200, 8)) @ rng.standard_normal((8, 32))).astype(np.float32))
    return tmp_path


@pytest.fixture
def prune(cli, folder):
    """Run the command on that folder: out.onnx, at 60 % unless other arguments are given."""

    def run(*arguments, expect=0, model="model.onnx", data="data.npz", sparsity=0.6):
        share = [] if sparsity is None else ["--sparsity", sparsity]
        where = data if data == "random" else folder / data
        return cli("prune", folder / model, folder / "out.onnx", "--data", where, *share, "--no-timing", *arguments, expect=expect)

    return run


def weights_of(path):
    """The weights of a file by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def names_in(folder):
    """What is there."""
    return sorted(path.name for path in folder.iterdir())


def test_a_model_its_masks_and_a_report(prune, folder):
    """Exact zeros, the input as it was, tables on stdout, progress on stderr, all of it in the document."""
    before = (folder / "model.onnx").read_bytes()
    result = prune("--masks", folder / "m.npz", "--json", folder / "r.json")
    assert (folder / "model.onnx").read_bytes() == before
    assert "prune" in result.err
    assert "Gemm" not in result.err
    weights, masks = weights_of(folder / "out.onnx"), Masks.load(folder / "m.npz")
    assert list(masks) == ["w0", "w1"]
    for name, mask in masks.items():
        assert np.count_nonzero(weights[name] == 0) == round(0.6 * mask.size)
        np.testing.assert_array_equal(weights[name] == 0, ~mask)
    assert np.all(weights["w2"])
    document = json.loads((folder / "r.json").read_text())
    report = document["report"]
    assert document["written"]
    assert [(layer["name"], layer["zeros"]) for layer in report["layers"]] == [("fc0", 461), ("fc1", 288)]
    text = " ".join(result.out.split())
    for words in ("fc0", "fc1", "60.0%", "refitted: fc2 (Gemm)", f"{report['cosine']:.4f}", report["sentence"], "wrote"):
        assert words in text
    assert names_in(folder) == ["data.npz", "m.npz", "model.onnx", "out.onnx", "r.json"]


def test_the_model_runs(prune, cli, folder):
    """On both providers, and can be packed."""
    prune("--pattern", "4x1")
    cli("compare", folder / "out.onnx")
    cli("pack", folder / "out.onnx", folder / "packed.onnx")


def test_same_seed_same_bytes(prune, folder):
    """Of the model and of the masks, for any number of threads; another seed draws other samples."""
    found = []
    for arguments in ((), ("--threads", 2), ("--threads", 1), ("--seed", 1)):
        prune("--samples", 100, "--masks", folder / "m.npz", *arguments)
        found.append(((folder / "out.onnx").read_bytes(), (folder / "m.npz").read_bytes()))
    assert found[0] == found[1] == found[2]
    assert found[0] != found[3]


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_and_patterns(prune, folder, method, pattern):
    """Each with each; N:M needs no sparsity."""
    prune("--method", method, "--pattern", pattern, sparsity=None if ":" in pattern else 0.5)
    weight = weights_of(folder / "out.onnx")["w0"]
    assert np.count_nonzero(weight) == weight.size / 2
    if pattern == "4x1":
        assert np.all((weight.reshape(-1, 4, 32) != 0).sum(axis=1) % 4 == 0)
    elif pattern == "1x4":
        assert np.all((weight.reshape(24, -1, 4) != 0).sum(axis=2) % 4 == 0)


def test_admm_is_better_than_magnitude(prune):
    """The held-out cosine of the document."""
    cosines = {method: prune("--method", method, "--json", "-").document["report"]["cosine"] for method in ("admm", "magnitude")}
    assert cosines["admm"] > cosines["magnitude"]


def test_too_little_is_left(prune, folder):
    """Below --min-cosine: exit code 1, the report, and nothing is written. Below 0.9 there is a warning in any case."""
    before = names_in(folder)
    result = prune("--min-cosine", 0.999, "--masks", folder / "m.npz", sparsity=0.9, expect=1)
    assert "fc0" in result.out
    assert "below --min-cosine 0.999: nothing is written" in result.err
    assert names_in(folder) == before
    document = json.loads(prune("--min-cosine", 0.999, "--json", "-", sparsity=0.9, expect=1).out)
    assert not document["written"]
    low = prune("--method", "magnitude", sparsity=0.95)
    assert "warning: cosine" in low.err
    assert "wrote" in low.out
    fine = prune("--min-cosine", 0.5, sparsity=0.3)
    assert "warning" not in fine.err


def test_which_layers(prune):
    """Regular expressions of names: --only takes classifiers too."""
    for arguments, names in (((), ["fc0", "fc1"]), (("--skip", "1"), ["fc0"]), (("--only", "fc[12]"), ["fc1", "fc2"])):
        report = prune(*arguments, "--json", "-").document["report"]
        assert [layer["name"] for layer in report["layers"]] == names


def test_help_lists_the_tables(cli):
    """Methods, patterns, allocations and forms of data."""
    text = " ".join(cli("prune", "--help").out.split())
    for name in (*METHODS, *PATTERNS, *ALLOCATIONS, *(row.form for row in READERS)):
        assert name in text, name


def test_the_speed(cli, folder):
    """Of a layer as expected, of the model as measured, unless nobody wants to know; an asked speed-up needs no sparsity."""
    arguments = ("prune", folder / "model.onnx", folder / "out.onnx", "--data", folder / "data.npz")
    result = cli(*arguments, "--sparsity", 0.9, "--json", "-")
    assert result.document["report"]["speed"]["nodes"] == 5
    assert "It is not faster" in result.document["report"]["sentence"]
    assert "speedup" in cli(*arguments, "--sparsity", 0.9, "--speedup", 2, expect=2).err
    assert "speedup 0.5 is not above 1" in cli(*arguments, "--speedup", 0.5, expect=2).err


def test_random_data(prune):
    """A warning says what they are worth."""
    assert "warning: random data say nothing" in prune("--samples", 100, data="random").err


# bad input: one line, exit code 2, nothing written


@pytest.fixture
def refused(prune, folder):
    """Run a command that must be refused; returns what it said. The folder must be as it was."""

    def run(*arguments, **options):
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        result = prune(*arguments, expect=2, **options)
        assert result.out == ""
        (line,) = [line for line in result.err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("ort-sparse: ")
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
        return line

    return run


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.ones((50, 32), np.float32)}, "has z; the model's inputs are x"),
        ({"x": np.ones((50, 31), np.float32)}, "x is 50x31, the model wants batchx32"),
        ({"x": np.ones((50, 32))}, "x is float64, the model wants float32"),
        ({"x": np.ones((0, 32), np.float32)}, "there is no sample"),
        ({"x": np.full((50, 32), np.nan, np.float32)}, "NaN"),
    ],
)
def test_data_that_do_not_match(refused, folder, arrays, words):
    """Names, shapes, types, nothing at all, numbers that are none."""
    np.savez(folder / "other.npz", **arrays)
    assert words in refused(data="other.npz")


def test_other_data(refused):
    """No such file, no form of data, options of another form."""
    assert "No such file" in refused(data="none.npz")
    assert "give random, FILE.npz" in refused(data="none")
    assert "--image is for a folder of images" in refused("--image", "size=8")


def test_activations_that_are_not_finite(refused, folder):
    """The node is named that made them first."""
    model = net()
    model.graph.node.insert(1, helper.make_node("Log", ["h0"], ["log"], name="logarithm"))
    model.graph.node[2].input[0] = "log"
    onnx.save(model, folder / "log.onnx")
    assert "'logarithm' (Log) makes NaN" in refused(model="log.onnx")


def test_nothing_to_prune(refused, folder):
    """And why."""
    assert "nothing to prune" in refused("--skip", ".")
    assert "nothing to prune" in refused("--only", "none")
    model = net()
    for number, node in enumerate(model.graph.node):
        node.op_type = "Relu" if number else "Identity"
        del node.input[1:], node.attribute[:]
    del model.graph.initializer[:]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 32
    onnx.save(model, folder / "empty.onnx")
    assert "nothing to prune: no Conv" in refused(model="empty.onnx")


def test_weights_that_layers_share(refused, folder):
    """Both are named."""
    onnx.save(net(shared=True), folder / "shared.onnx")
    line = refused(model="shared.onnx")
    assert "'fc1', 'fc2' share the weight 'w1'" in line


def test_too_little_memory(refused):
    """The layer is named, and what it needs."""
    line = refused("--memory", "1K")
    assert "'fc0'" in line
    assert "memory" in line
    for size in ("much", "0", "-1G", "2X", "1..5G"):
        assert "expected a size such as 500M or 2G" in refused("--memory", size)


def test_numbers_and_names(refused):
    """Out of range, unknown, or twice."""
    for arguments, words in (
        (("--sparsity", "1.5"), "not between 0 and 1"),
        (("--sparsity", "nan"), "not between 0 and 1"),
        ((), "needs a sparsity"),
        (("--sparsity", "0.7", "--pattern", "2:4"), "implies 0.5"),
        (("--sparsity", "0.5", "--pattern", "3x3"), "unknown pattern '3x3'"),
        (("--sparsity", "0.5", "--method", "best"), "unknown method 'best'"),
        (("--sparsity", "0.5", "--allocation", "best"), "unknown allocation 'best'"),
        (("--sparsity", "0.5", "--skip", "("), "is not a regular expression"),
        (("--sparsity", "0.5", "--holdout", "1"), "holdout"),
        (("--sparsity", "0.5", "--holdout", "0", "--min-cosine", "0.9"), "--min-cosine judges by held-out data"),
    ):
        assert words in refused(*arguments, sparsity=None)


def test_targets(refused, folder, cli):
    """Refused before any work: folders that are not there, files that are read, one file for two purposes."""
    (folder / "below").mkdir()
    for arguments, words in (
        (("--masks", folder / "none" / "m.npz"), "there is no folder"),
        (("--masks", folder / "below"), "it is a folder"),
        (("--masks", folder / "out.onnx"), "it is the pruned model"),
        (("--masks", folder / "data.npz"), "it is a file of the calibration data"),
        (("--masks", folder / "model.onnx"), "it is the model itself"),
        (("--json", folder / "data.npz"), "it is a file of the command"),
        (("--masks", folder / "m.npz", "--json", folder / "m.npz"), "it is a file of the command"),
    ):
        assert words in refused(*arguments)
    for target in ("none/out.onnx", "below", "data.npz", "model.onnx"):
        arguments = ("prune", folder / "model.onnx", folder / target, "--data", folder / "data.npz", "--sparsity", 0.5)
        assert "cannot write" in cli(*arguments, expect=2).err


def test_external_data(prune, refused, folder):
    """They stay beside the model; a file in their place is seen before the work."""
    onnx.save(net(), folder / "large.onnx", save_as_external_data=True, location="large.weights", size_threshold=0)
    prune(model="large.onnx")
    assert np.count_nonzero(weights_of(folder / "out.onnx")["w0"] == 0) == 461
    assert (folder / "out.onnx.data").exists()
    assert "out.onnx.data exists" in refused(model="large.onnx")


def test_no_model(refused, folder):
    """A missing file, and one that is no model."""
    (folder / "text.onnx").write_text("no model")
    assert "no such file" in refused(model="none.onnx")
    assert "is not an ONNX model" in refused(model="text.onnx")


def test_a_package_that_is_missing(folder, fresh):
    """The line says what to install, and nothing is written."""
    code = """if True:
        import os, sys
        sys.modules["scipy"] = None
        os.chdir(sys.argv.pop(1))
        from onnxruntime_ep_sparse.__main__ import main
        main()
        """
    command = ["prune", "model.onnx", "out.onnx", "--data", "data.npz", "--sparsity", "0.5"]
    assert "pruning needs scipy: pip install scipy" in fresh(code, folder, *command, expect=2).stderr
    assert names_in(folder) == ["data.npz", "model.onnx"]


def test_a_full_disk(prune, folder, monkeypatch):
    """Exit code 1, and neither the model nor the masks are there."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    before = names_in(folder)
    for arguments in ((), ("--masks", folder / "m.npz")):
        assert "No space left" in prune(*arguments, expect=1).err
        assert names_in(folder) == before


def test_files_are_replaced(prune, folder):
    """Model and masks of an earlier run, with their permissions."""
    for name in ("out.onnx", "m.npz"):
        (folder / name).write_bytes(b"older")
        (folder / name).chmod(0o600)
    prune("--masks", folder / "m.npz")
    for name in ("out.onnx", "m.npz"):
        assert (folder / name).stat().st_size > 1000
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_ctrl_c(folder, anywhere):
    """In the middle of the work: no OUT, no masks, nothing else, no traceback."""
    (folder / "calibration.py").write_text(
        "import os, signal\nimport numpy as np\n"
        "def feeds():\n"
        "    yield {'x': np.ones((8, 32), np.float32)}\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell ignore it\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    yield {'x': np.ones((8, 32), np.float32)}\n"
    )
    before = names_in(folder)
    command = [sys.executable, "-B", "-m", "onnxruntime_ep_sparse", "prune", "model.onnx", "out.onnx", "--data", "calibration:feeds"]
    command += ["--sparsity", "0.5", "--masks", "m.npz"]
    process = subprocess.run(command, cwd=folder, env=anywhere, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert names_in(folder) == before


def test_the_model_is_read_once(prune, folder, monkeypatch):
    """It may have gigabytes."""
    read = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or real(path))
    prune("--json", folder / "r.json")
    assert read == ["model.onnx"]
