"""The example of a service, as a child process with a real HTTP client: results, refusals, metrics, start and end; and its README."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import mobilenet_v1
from support.examples import EXAMPLES, commands

EXAMPLE = EXAMPLES / "service"
JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"
SHAPE = (3, 64, 64)
LIMIT = 1_000_000


class Client:
    """A started service."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    def ask(self, method, path, body=None, **headers):
        """Return status, body and content type of an answer, over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.connect()
            with suppress(ConnectionError):  # the service answers long bodies before it has read them
                connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("content-type")
        finally:
            connection.close()

    def predict(self, body, content_type=NPY, **headers):
        """Send a request for results."""
        return self.ask("POST", "/predict", body, Content_Type=content_type, **headers)

    def metric(self, name):
        """Return the value of one line of the metrics."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def until(self, true):
        """Wait until something holds."""
        end = time.monotonic() + 120
        while not true():
            assert time.monotonic() < end, "in vain"
            time.sleep(0.02)


def command(anywhere, *arguments, **environment):
    """Start the service; returns the process."""
    line = [sys.executable, str(EXAMPLE / "serve.py"), *map(str, arguments)]
    return subprocess.Popen(line, env={**anywhere, **environment}, stderr=subprocess.PIPE, text=True)


@contextmanager
def service(anywhere, *arguments, **environment):
    """A service that says it is ready, stopped by SIGTERM at the end."""
    process = command(anywhere, *arguments, "--port", 0, **environment)
    try:
        ready = process.stderr.readline()
        assert ready.startswith("ready at"), ready + process.stderr.read()
        yield Client(process, int(re.search(r":(\d+) after", ready)[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def environment():
    """The fixture `anywhere` of the whole module."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A MobileNetV1 for small images."""
    path = tmp_path_factory.mktemp("service") / "mobilenet.onnx"
    onnx.save(mobilenet_v1(0.9, image=64), path)
    return path


@pytest.fixture(scope="module")
def running(environment, mobilenet):
    """A service of that model that many tests use."""
    with service(environment, mobilenet, "--max-body-mb", LIMIT / 1e6, "--max-wait-ms", 5) as client:
        yield client


def npy(array):
    """Return an array as npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save=np.savez, **arrays):
    """Return arrays as npz."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def images(rows=1, seed=0):
    """Return random images."""
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("kind", [JSON, NPY, NPZ])
def test_results_are_those_of_a_direct_call(running, mobilenet, kind):
    """In each of the three forms, bit for bit."""
    session = sparse.SessionFactory(mobilenet)()
    x = images(3)
    (expected,) = session.run(None, {"input": x})
    body = {JSON: json.dumps({"inputs": {"input": x.tolist()}}), NPY: npy(x), NPZ: npz(input=x)}[kind]
    status, content, answered = running.predict(body, kind)
    assert (status, answered) == (200, kind), content
    (name,) = (output.name for output in session.get_outputs())
    if kind == JSON:
        result = np.array(json.loads(content)["outputs"][name], np.float32)
    else:
        loaded = np.load(io.BytesIO(content))
        result = loaded[name] if kind == NPZ else loaded
    assert np.array_equal(result, expected)


def test_answers_in_json_if_asked_to(running):
    """With an array as the request."""
    status, content, kind = running.predict(npy(images()), Accept="application/json")
    assert (status, kind) == (200, JSON)
    assert len(next(iter(json.loads(content)["outputs"].values()))[0]) == 1000


def test_arrays_in_another_order(running):
    """Fortran's order and the other byte order are the same array."""
    x = images()
    expected = running.predict(npy(x))
    assert running.predict(npy(np.asfortranarray(x))) == expected
    assert running.predict(npy(x.astype(">f4"))) == expected


HEADER = b"\x93NUMPY\x01\x00\x76\x00"
REFUSED = {
    "malformed JSON": (b'{"inputs": ', JSON, 400, "not JSON"),
    "NaN in JSON": (b'{"inputs": {"input": [NaN]}}', JSON, 400, "not JSON"),
    "too deep": (b"[" * 100_000, JSON, 400, "depth"),
    "no inputs": (b"[1]", JSON, 422, '{"inputs": {"input": [...]}}'),
    "text": (b'{"inputs": {"input": ["a"]}}', JSON, 422, "expected numbers for float32, got text"),
    "nothing": (b'{"inputs": {"input": null}}', JSON, 422, "no numbers"),
    "uneven lists": (b'{"inputs": {"input": [[1], [1, 2]]}}', JSON, 422, "differ in length"),
    "infinite in float32": (json.dumps({"inputs": {"input": (np.ones((1, *SHAPE)) * 1e39).tolist()}}), JSON, 422, "NaN or infinite"),
    "unknown input": (b'{"inputs": {"image": [1]}}', JSON, 422, "unknown input 'image': the model has input"),
    "missing input": (b'{"inputs": {}}', JSON, 422, "input input is missing"),
    "wrong shape": (npy(images()[:, :, :32]), NPY, 422, "expected shape (batch, 3, 64, 64), got (1, 3, 32, 64)"),
    "wrong rank": (npy(images()[0]), NPY, 422, "expected shape"),
    "wrong dtype": (npy(images().astype(np.float64)), NPY, 422, "expected float32, got float64"),
    "structured": (npy(np.zeros(3, [("a", "f4")])), NPY, 422, "expected float32"),
    "NaN": (npy(images() * np.nan), NPY, 422, "NaN or infinite"),
    "no rows": (npy(images(0)), NPY, 422, "expected 1 to 8 rows"),
    "too many rows": (npy(images(9)), NPY, 422, "expected 1 to 8 rows"),
    "cut off": (npy(images())[:-5], NPY, 400, "not an npy file"),
    "no array": (b"junk", NPY, 400, "not an npy file"),
    "nothing at all": (b"", NPY, 400, "not an npy file"),
    "pickle": ((HEADER + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }").ljust(127) + b"\n", NPY, 400, "Python objects"),
    "huge": ((HEADER + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }").ljust(127) + b"\n", NPY, 400, "reshape"),
    "no archive": (b"PK\x03\x04junk", NPZ, 400, "not an npz file"),
    "bomb": (npz(np.savez_compressed, input=np.zeros((100, *SHAPE), np.float32)), NPZ, 413, "more than 1000000 bytes"),
    "unknown input in npz": (npz(x=images()), NPZ, 422, "unknown input 'x'"),
    "content type": (b"x", "text/plain", 415, "content type text/plain: send application/json"),
    "too long": (b"x" * (LIMIT + 1), NPY, 413, "longer than 1000000 bytes"),
    "much too long": (b"x" * (6 * LIMIT), NPY, 413, "longer than 1000000 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_in_one_line(running, case):
    """Bad input is the client's error, and the next request works."""
    body, kind, status, words = REFUSED[case]
    check_refused(running.predict(body, kind), status, words)
    assert running.predict(npy(images()))[0] == 200


def check_refused(answer, status, words):
    """An answer with this status and one line with these words."""
    found, content, kind = answer
    assert (found, kind) == (status, JSON), content
    assert content.count(b"\n") == 0
    assert words in json.loads(content)["error"]


def test_refuses_long_bodies_in_chunks(running):
    """A body without Content-Length."""
    check_refused(running.predict(b"x" * 100_000 for _ in range(15)), 413, "longer than 1000000 bytes")


def test_unknown_routes(running):
    """They name those that there are."""
    check_refused(running.ask("GET", "/nothing"), 404, "no route /nothing: there are POST /predict")
    check_refused(running.ask("GET", "/predict"), 405, "/predict takes POST, not GET")


def test_metrics(running):
    """Owned nodes, and counters that count."""
    before = [running.metric(name) for name in ("predict_seconds_count", 'answers_total{status="200"}', "batch_rows_sum")]
    assert running.predict(npy(images(5)))[0] == 200
    after = [running.metric(name) for name in ("predict_seconds_count", 'answers_total{status="200"}', "batch_rows_sum")]
    assert np.subtract(after, before).tolist() == [1, 1, 5]
    assert running.metric("owned_nodes") == running.metric("nodes") > 50
    assert running.metric("requests_in_flight") == 0


def answers(client, bodies):
    """Send requests at the same time; returns what came back, when all are sent."""
    found = [None] * len(bodies)

    def send(at):
        found[at] = client.predict(bodies[at])

    threads = [threading.Thread(target=send, args=(at,)) for at in range(len(bodies))]
    for thread in threads:
        thread.start()
    return found, threads


def test_requests_run_together(environment, mobilenet):
    """What comes while a batch waits joins it, with the results of each; what does not fit runs next."""
    session = sparse.SessionFactory(mobilenet)()
    arrays = [images(rows, seed) for seed, rows in enumerate((1, 2, 1, 1, 3))]
    with service(environment, mobilenet, "--max-wait-ms", 3000, "--max-batch", 4) as client:
        began = client.metric("batch_rows_count")
        found, threads = answers(client, [npy(x) for x in arrays])
        for thread in threads:
            thread.join()
        assert client.metric("batch_rows_count") - began < len(arrays)
        assert client.metric("batch_rows_sum") == 8
    for x, (status, content, _) in zip(arrays, found, strict=True):
        assert status == 200, content
        assert np.array_equal(np.load(io.BytesIO(content)), session.run(None, {"input": x})[0])


def test_sigterm(environment, mobilenet):
    """Requests in flight are answered, new connections refused, and the process ends."""
    with service(environment, mobilenet, "--sessions", 1, "--max-wait-ms", 6000) as client:
        found, threads = answers(client, [npy(images(1, seed)) for seed in range(5)])
        client.until(lambda: client.metric("requests_in_flight") == 5)
        client.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                socket.create_connection(("127.0.0.1", client.port), timeout=5).close()
            except ConnectionRefusedError:
                return True
            return False

        client.until(refused)
        assert found == [None] * 5, "the requests were answered before the end began: the test shows nothing"
        for thread in threads:
            thread.join()
        assert [status for status, _, _ in found] == [200] * 5
        assert client.process.wait(timeout=30) == -signal.SIGTERM


def test_is_not_healthy_before_the_warm_up_is_done(environment, mobilenet):
    """It listens, and says so."""
    process = command(environment, mobilenet, "--port", port := free_port(), "--max-batch", 32)
    client = Client(process, port)
    states, refused = [], []

    def ready():
        try:
            status, content, _ = client.ask("GET", "/health")
            refused.append(client.predict(npy(images())))
        except ConnectionRefusedError:
            return False
        states.append((status, json.loads(content)["status"]))
        return status == 200

    try:
        client.until(ready)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert states[0] == (503, "warming up")
    assert states[-1] == (200, "ok")
    check_refused(refused[0], 503, "not ready")
    assert refused[-1][0] == 200


def test_too_many_requests(environment, mobilenet):
    """More than so many in flight are refused."""
    with service(environment, mobilenet, "--sessions", 1, "--max-wait-ms", 2000, "--max-in-flight", 2) as client:
        found, threads = answers(client, [npy(images())] * 2)
        client.until(lambda: client.metric("requests_in_flight") == 2)
        check_refused(client.predict(npy(images())), 503, "2 requests are in flight")
        for thread in threads:
            thread.join()
        assert [status for status, _, _ in found] == [200, 200]


def free_port():
    """Return a port that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_does_not_start(environment, mobilenet, dense_model, tmp_path):
    """One line and an exit code for what is wrong at the start."""
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(mobilenet.read_bytes()[:1000])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = (
            ([tmp_path / "no.onnx"], 1, "no file"),
            ([damaged], 1, "damaged.onnx"),
            ([dense_model], 1, "--allow-unowned starts all the same"),
            ([mobilenet, "--port", taken.getsockname()[1]], 1, "cannot listen at"),
            ([mobilenet, "--option", "polcy=always"], 1, "unknown option 'polcy'"),
            ([mobilenet, "--size", "sequence=3"], 1, "no open size"),
            ([mobilenet, "--max-batch", "0"], 2, "is not a whole number of at least 1"),
            ([], 2, "no model"),
        )
        started = [command(environment, *arguments) for arguments, _, _ in cases]
        for process, (_, code, words) in zip(started, cases, strict=True):
            said = process.communicate(timeout=60)[1]
            assert process.returncode == code, said
            assert said.startswith("serve.py: ")
            assert said.count("\n") == 1
            assert words in said


def test_starts_unowned_if_allowed(environment, dense_model):
    """By the environment variable."""
    with service(environment, dense_model, SERVICE_ALLOW_UNOWNED="1", SERVICE_MAX_BATCH="2") as client:
        assert client.metric("owned_nodes") == 0
        assert client.predict(npy(np.zeros((2, 64, 28, 28), np.float32)))[0] == 200
        check_refused(client.predict(npy(np.zeros((3, 64, 28, 28), np.float32))), 422, "1 to 2 rows")


def embedding(*, mixing):
    """ids -> Gather -> y, whose rows are mixed by a mean over the batch if so asked."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["g"]), helper.make_node("Identity", ["g"], ["y"])]
    if mixing:
        nodes[1:] = [helper.make_node("ReduceMean", ["g"], ["m"], axes=[0]), helper.make_node("Sub", ["g", "m"], ["y"])]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 8])
    table = numpy_helper.from_array(np.random.default_rng(0).standard_normal((10, 8)).astype(np.float32), "table")
    graph = helper.make_graph(nodes, "embedding", [ids], [y], [table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_open_sizes_and_bad_neighbours(environment, saved):
    """Sizes of the warm-up must be given; only the request with an unknown id fails, not those that ran with it."""
    path = saved(embedding(mixing=False))
    process = command(environment, path, "--allow-unowned")
    assert "the sizes of sequence are open" in process.communicate(timeout=60)[1]
    with service(environment, path, "--allow-unowned", "--size", "sequence=2,3", "--max-wait-ms", 2000) as client:
        good, longer, bad = (json.dumps({"inputs": {"ids": ids}}) for ids in ([[1, 2]], [[1, 2, 3]], [[1, 99]]))
        found = [None] * 3

        def send(at, body):
            found[at] = client.predict(body, JSON)

        threads = [threading.Thread(target=send, args=(at, body)) for at, body in enumerate((good, longer, bad))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [status for status, _, _ in found] == [200, 200, 422]
        check_refused(found[2], 422, "the model cannot run with these inputs")
        check_refused(client.predict(b'{"inputs": {"ids": [[1.5, 2]]}}', JSON), 422, "got fractions")


def test_rows_that_change_each_other(environment, saved):
    """Such a model is not served in batches."""
    path = saved(embedding(mixing=True))
    arguments = [path, "--allow-unowned", "--size", "sequence=2", "--port", free_port()]
    process = command(environment, *arguments)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "rows that run together change each other's y: start with --max-batch 1" in said
    with service(environment, *arguments[:-2], "--max-batch", 1) as client:
        assert client.predict(b'{"inputs": {"ids": [[1, 2]]}}', JSON)[0] == 200


def test_several_inputs_and_outputs(environment, saved):
    """As npz; the CPU provider serves them too."""
    names = ("a", "b")
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in (*names, "sum", "difference")]
    graph = helper.make_graph(nodes, "two", values[:2], values[2:])
    path = saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), np.float32)
    with service(environment, path, "--provider", "cpu") as client:
        status, content, _ = client.predict(npz(a=a, b=b), NPZ)
        assert status == 200, content
        expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["sum", "difference"], {"a": a, "b": b})
        assert [np.load(io.BytesIO(content))[name].tolist() for name in ("sum", "difference")] == [e.tolist() for e in expected]
        check_refused(client.predict(npy(a)), 422, "the model has 2 inputs, a, b")
        check_refused(client.predict(npz(a=a, b=b[:1]), NPZ), 422, "expected shape (n, 4)")
        assert client.metric("nodes") == 0


def test_readme(environment, tmp_path):
    """Its commands, in their order, but the installation: with a free port, and a shorter load."""
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: the README of the service needs curl")
    install, *lines = commands(EXAMPLE / "README.md")
    assert "pip install '.[service]'" in install
    port, server, said = free_port(), None, []
    changes = {"docs/examples/": f"{EXAMPLES}/", ".venv/bin/python": sys.executable, "8000": str(port), "--seconds 30": "--seconds 2"}
    try:
        for line in lines:
            command = line
            for old, new in changes.items():
                command = command.replace(old, new)
            if command.endswith("&"):
                server = subprocess.Popen(["bash", "-c", f"exec {command[:-1]}"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
                continue
            done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False)
            assert done.returncode == 0, f"{line}: {done.stdout[:500]!r} {done.stderr!r}"
            said.append(done.stdout.decode(errors="replace"))
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    figures = dict(line.split(maxsplit=1) for line in said[-1].splitlines())
    assert figures["errors"] == "{}"
    assert float(figures["largest_difference"]) == 0
    assert int(figures["requests"]) > 16
    assert np.load(tmp_path / "result.npy").shape == (1, 1000)
