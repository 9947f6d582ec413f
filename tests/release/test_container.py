"""The image of docs/how-to/Dockerfile, built and run without a container engine: each of its lines is carried out in a root of its own."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from support import dockerfile, roots, wheels
from support.cgroups import quota
from support.wheels import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(roots.LONGEST), pytest.mark.skipif(bool(roots.obstacle()), reason=roots.obstacle())]

DOCKERFILE = ROOT / "docs" / "how-to" / "Dockerfile"
STRANGER = "54321:54321"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder with the packages that the lines of the Dockerfile install: they run without a network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["cli"],
    ]
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder, *wanted]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return folder if process.returncode == 0 else pytest.skip(f"needs a package index: {process.stderr[-500:]}")


@pytest.fixture(scope="module")
def image(source, unpacked, wheel, index, tmp_path_factory):
    """The image, built of the tree as it would be checked out. Its first stage finds what the build of the wheel has compiled."""

    def compiled_before(folder):
        root = roots.with_compiler(folder)
        wheels.copy_products(unpacked, folder / "src")
        return root

    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/index", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    bases = {"python:3.13": compiled_before, "python:3.13-slim": roots.slim}
    return dockerfile.build(DOCKERFILE, source, bases, tmp_path_factory.mktemp("image"), {"/index": index}, **settings)


def python(image, code, **settings):
    """What a Python program prints that runs in a container of the image."""
    process = roots.execute(image.root, ["python", "-c", code], image.user, image.directory, **settings)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


RUN_A_MODEL = """
import numpy as np, onnx, onnxruntime as ort, onnxruntime_ep_sparse as sparse
from onnx import TensorProto, helper, numpy_helper
w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
w[np.random.default_rng(1).random(w.shape) < 0.9] = 0
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 64]) for name in "xy")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [numpy_helper.from_array(w, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
sparse.register()
session = ort.InferenceSession(model, sparse.session_options({"policy": "always", **OPTIONS}), enable_fallback=0)
assert all(decision.taken for decision in sparse.explain(session))
x = np.ones((8, 64), np.float32)
np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ w, rtol=1e-4, atol=1e-4)
print("right")
"""


def model_with(options=None):
    """The program above with options of the provider."""
    return RUN_A_MODEL.replace("OPTIONS", repr(options or {}))


def test_check(image):
    """What a container does by default: the self-test passes, as the image's user, with a root that cannot be written to."""
    process = dockerfile.start(image, read_only=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert len(re.findall("self-test.*PASS", process.stdout)) == 2, process.stdout


def test_user(image):
    """The user is a number, is not root, and owns nothing."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)
    assert python(image, "import os; print(os.getuid(), os.getgid(), os.getgroups())").split()[:2] == image.user.split(":")


def test_no_compiler(image):
    """The image has nothing to build with, nor what was built from; the first stage has."""
    code = """
import importlib.util, shutil
print([name for name in ("cc", "gcc", "g++", "clang", "ld", "as", "make") if shutil.which(name)])
print([name for name in ("Cython", "setuptools") if importlib.util.find_spec(name)])
"""
    assert python(image, code).split() == ["[]", "[]"]
    names = [path.relative_to(image.root.folder).as_posix() for path in image.root.folder.rglob("*")]
    ours = [name for name in names if "onnxruntime_ep_sparse" in name]
    assert any(name.endswith(".so") for name in ours)
    assert not [name for name in ours if name.endswith((".pyx", ".c", ".whl"))]


@pytest.mark.parametrize("system", [roots.USUAL, ("proc", "sys", "devices"), ()], ids=["usual", "no-shm", "bare"])
@pytest.mark.parametrize("user", [None, STRANGER], ids=["user", "stranger"])
def test_model(image, system, user):
    """A model runs with a read-only root; also where /dev/shm, /proc and /sys are missing, and for a user without name and home."""
    code = model_with()
    process = roots.execute(image.root, ["python", "-c", code], user or image.user, image.directory, system=system, read_only=True)
    assert (process.returncode, process.stdout) == (0, "right\n"), process.stdout + process.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_limits_of_cpus(image):
    """`--cpus` and `--cpuset-cpus` limit the threads that the provider cuts work for."""

    def usable(before):
        process = roots.execute(image.root, ["ort-sparse", "check"], image.user, before=before)
        assert process.returncode == 0, process.stdout + process.stderr
        return int(re.search(r"usable at once: (\d+)", process.stdout)[1])

    assert usable("") >= 2
    with quota(1) as group:
        assert usable(f"echo 0 > {group}") == 1
    assert usable(f"taskset --cpu-list --pid {min(os.sched_getaffinity(0))} $$ > /dev/null") == 1


def test_cache_dir(image, tmp_path):
    """`cache_dir` takes a folder that is mounted for it, and one that cannot be written to costs nothing but the verdicts."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    options = {"policy": "measure", "measure_budget_ms": "200"}
    code = (
        model_with({**options, "cache_dir": "/cache"})
        .replace("assert all(decision.taken for", "print([decision.taken for")
        .replace("sparse.explain(session))", "sparse.explain(session)])")
    )
    mounted = python(image, code, mounts={"/cache": tmp_path / "cache"}, read_only=True)
    assert mounted.endswith("right\n")
    assert list((tmp_path / "cache").iterdir())
    refused = python(image, code.replace("'/cache'", "'/nowhere/cache'"), read_only=True)
    assert refused.endswith("right\n")


def test_folder_of_the_user(image, tmp_path):
    """A command writes its results into a folder that is mounted, with the rights of a user without home."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results").chmod(0o777)
    code = model_with().replace("sparse.register()", "open('/results/model.onnx', 'wb').write(model)\nsparse.register()")
    assert python(image, code, mounts={"/results": tmp_path / "results"}, read_only=True) == "right\n"
    packed = dockerfile.start(
        image,
        "pack",
        "/results/model.onnx",
        "/results/packed.onnx",
        user=STRANGER,
        mounts={"/results": tmp_path / "results"},
        read_only=True,
    )
    assert packed.returncode == 0, packed.stdout + packed.stderr
    assert (tmp_path / "results" / "packed.onnx").stat().st_size < (tmp_path / "results" / "model.onnx").stat().st_size
