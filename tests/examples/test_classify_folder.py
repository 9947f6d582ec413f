"""The example that classifies pictures: its README, results against direct calls, damaged files, videos, other people's models."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.examples import EXAMPLES, commands
from support.making import pruned

Image = pytest.importorskip("PIL.Image", reason="needs pillow: pip install '.[classify]'")
EXAMPLE = EXAMPLES / "classify_folder"
PROGRAMS = {".venv/bin/python": [sys.executable], ".venv/bin/ort-sparse": [sys.executable, "-m", "onnxruntime_ep_sparse"]}


@pytest.fixture
def classify(anywhere, tmp_path):
    """Run the program in a folder of its own; `expect` is its exit code."""

    def run(*arguments, expect=0):
        line = [sys.executable, str(EXAMPLE / "classify_folder.py"), *map(str, arguments)]
        done = subprocess.run(line, cwd=tmp_path, env=anywhere, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return run


def net(path, *, channels_last=False, batch="batch", classes=5, size=32, zeros=0.95):
    """Write a net of two convolutions and a classifier."""
    rng = np.random.default_rng(0)
    shapes = {"first": (64, 3, 3, 3), "second": (128, 64, 3, 3)}
    weights = [numpy_helper.from_array(pruned(rng, shape, zeros), name) for name, shape in shapes.items()]
    weights.append(numpy_helper.from_array(rng.standard_normal((128, classes)).astype(np.float32), "last"))
    nodes = [helper.make_node("Transpose", ["x"], ["first_x"], perm=[0, 3, 1, 2])] if channels_last else []
    nodes += [
        helper.make_node("Conv", ["first_x" if channels_last else "x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "last"], ["y"]),
    ]
    shape = [batch, size, size, 3] if channels_last else [batch, 3, size, size]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def pictures(folder, count=5):
    """Write noisy pictures of several sizes, as PNG."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for at in range(count):
        grey = rng.integers(0, 256, (40 + at, 60, 3)) * np.array([1, at % 2, 0.5])
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{at}.png")
    return folder


@pytest.mark.parametrize(("channels_last", "batch"), [(False, "batch"), (True, "batch"), (False, 1), (False, 4)])
def test_results_are_those_of_direct_calls(classify, tmp_path, channels_last, batch):
    """Classes and probabilities, in any layout of the input and any fixed batch."""
    model, folder = net(tmp_path / "net.onnx", channels_last=channels_last, batch=batch), pictures(tmp_path / "pictures")
    document = json.loads(classify(folder, "--model", model, "--mean", 0.5, "--std", 0.25, "--batch", 2, "--json", "-").stdout)
    assert document["agree"] == len(document["pictures"]) == 5
    assert 0 < document["owned_nodes"] <= document["nodes"]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for at, picture in enumerate(document["pictures"]):
        assert picture["name"] == f"{at}.png"
        opened = Image.open(folder / picture["name"])
        side = (opened.width - opened.height) / 2  # the square in the middle
        square = opened.resize((32, 32), Image.Resampling.BILINEAR, (side, 0, side + opened.height, opened.height))
        x = ((np.asarray(square, np.float32) / 255 - 0.5) / 0.25)[None]
        x = x if channels_last else x.transpose(0, 3, 1, 2)
        scores = session.run(None, {"x": np.repeat(x, batch if isinstance(batch, int) else 1, 0)})[0][0]
        probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        for side_of in ("dense", "pruned"):
            found = picture[side_of]
            assert [each["class"] for each in found] == np.argsort(-probabilities)[:3].tolist()
            assert [each["label"] for each in found] == [f"class {each['class']}" for each in found]
            assert [each["probability"] for each in found] == pytest.approx(np.sort(probabilities)[::-1][:3], abs=1e-3)


def test_damaged_pictures_are_listed(classify, tmp_path):
    """And the others are classified, in all formats; labels come from a file."""
    folder = pictures(tmp_path / "pictures", 2)
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:500])
    (folder / "other.txt").write_text("not looked at")
    (folder / "below").mkdir()
    Image.open(folder / "0.png").convert("L").save(folder / "below" / "grey.webp")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"thing {number}" for number in range(5)))
    model = net(tmp_path / "net.onnx")
    done = classify(folder, "--model", model, "--labels", labels, "--json", "out.json", "--sheet", "sheet.png")
    document = json.loads((tmp_path / "out.json").read_text())
    assert [skipped["name"] for skipped in document["skipped"]] == ["cut.png", "text.jpg"]
    assert [line.split(":")[0] for line in done.stderr.splitlines() if line] == ["skipped cut.png", "skipped text.jpg"]
    assert [picture["name"] for picture in document["pictures"]] == ["0.png", "1.png", "below/grey.webp"]
    assert document["pictures"][0]["pruned"][0]["label"].startswith("thing ")
    assert "same label for 3 of 3 pictures, 2 skipped" in done.stdout


def test_sheet_marks_what_differs(classify, tmp_path):
    """A frame is green where both models agree, and red where they do not: here the dense model has its classes in another order."""
    folder, model, other = pictures(tmp_path / "pictures", 4), net(tmp_path / "net.onnx"), tmp_path / "other.onnx"
    changed = onnx.load(model)
    last = next(tensor for tensor in changed.graph.initializer if tensor.name == "last")
    last.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(last)[:, ::-1]), "last"))
    onnx.save(changed, other)
    frames = {}
    for name, dense in (("same.png", model), ("other.png", other)):
        document = json.loads(classify(folder, "--model", model, "--dense", dense, "--sheet", name, "--json", "-").stdout)
        colors = {color: count for count, color in Image.open(tmp_path / name).getcolors(1 << 24)}
        frames[name] = document["agree"], colors.get((27, 127, 59), 0), colors.get((198, 40, 40), 0)
    agree, green, red = frames["same.png"]
    assert agree == 4
    assert green > 4 * 2000 > red == 0
    agree, green, red = frames["other.png"]
    assert agree < 4
    assert red > 2000 * (4 - agree)


def test_many_pictures(classify, tmp_path):
    """The sheet has at most 64, and says so."""
    folder = pictures(tmp_path / "pictures", 70)
    classify(folder, "--model", net(tmp_path / "net.onnx"), "--sheet", "sheet.webp")
    assert Image.open(tmp_path / "sheet.webp").height < 2500


def video(path, frames=30):
    """Write a video that gets brighter."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(frames):
            picture = Image.new("RGB", (64, 48), (at * 8, 40, 200 - at * 5))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def test_video(classify, tmp_path):
    """One frame of so many, by its time; a damaged part is listed."""
    model, film = net(tmp_path / "net.onnx"), video(tmp_path / "film.mp4")
    document = json.loads(classify(film, "--model", model, "--every", 10, "--json", "-").stdout)
    assert [picture["name"] for picture in document["pictures"]] == ["0.00 s", "1.00 s", "2.00 s"]
    assert document["skipped"] == []


def test_what_cannot_be_used(classify, tmp_path, dense_model):
    """One line and exit code 1; 2 for wrong use."""
    folder, model, empty = pictures(tmp_path / "pictures", 1), net(tmp_path / "net.onnx"), tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.png").write_text("no picture")
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 20)
    two = tmp_path / "labels.txt"
    two.write_text("one\ntwo\n")
    for arguments, words in (
        ([tmp_path / "nothing", "--model", model], "no such folder or file"),
        ([empty, "--model", model], "has no pictures"),
        ([damaged, "--model", model], "none of the pictures"),
        ([noise, "--model", model], "cannot read"),
        ([folder, "--model", noise], "cannot use"),
        ([folder, "--model", tmp_path / "nothing.onnx"], "cannot use"),
        ([folder, "--model", tmp_path / "nothing.onnx", "--dense", model], "no file"),
        ([folder, "--model", net(tmp_path / "filled.onnx", zeros=0)], "takes no node"),
        ([folder, "--model", model, "--labels", two], "has 2 lines, and the model has 5 classes"),
        ([folder, "--model", net(tmp_path / "open.onnx", size="side")], "give --size 224"),
        ([folder, "--model", model, "--dense", dense_model], "one is not made of the other"),
        ([folder, "--model", model, "--dense", net(tmp_path / "larger.onnx", size=64)], "x of any number x 3 x 64 x 64"),
    ):
        last = classify(*arguments, expect=1).stderr.strip().splitlines()[-1]
        assert last.startswith("classify_folder.py: "), last
        assert words in last
    classify(folder, "--model", model, "--mean", "a", expect=2)
    classify(folder, "--model", model, "--sheet", "sheet.txt", expect=2)
    classify(folder, "--model", model, "--batch", 0, expect=2)


def test_video_without_pyav(tmp_path, anywhere):
    """Says what to install."""
    blocked = f"import sys; sys.modules['av'] = None; sys.path.insert(0, {str(EXAMPLE)!r}); sys.argv = ['x', *sys.argv[1:]]"
    code = f"{blocked}; import classify_folder; classify_folder.main()"
    arguments = [video(tmp_path / "film.mp4"), "--model", net(tmp_path / "net.onnx")]
    line = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(line, env=anywhere, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "videos need PyAV: pip install '.[classify]' in a clone of onnxruntime-ep-sparse" in done.stderr


def test_checkpoint_with_other_objects_is_refused(tmp_path, anywhere):
    """A pickle that names a function is not run."""
    code = f"""
import io, os, pickle, sys
sys.path.insert(0, {str(EXAMPLE)!r})
from efficientnet_lite0 import read_checkpoint
class Evil:
    def __reduce__(self):
        return os.mkdir, ({str(tmp_path / "made")!r},)
try:
    read_checkpoint(io.BytesIO(pickle.dumps(1) * 3 + pickle.dumps(Evil())))
except pickle.UnpicklingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=anywhere, capture_output=True, text=True, timeout=120, check=False)
    assert "mkdir, which is not the weights of a net" in done.stdout, done.stderr
    assert not (tmp_path / "made").exists()


def test_readme(tmp_path, anywhere):
    """Its commands, in their order, but the installation; with less data for the pruning, whose time is not measured."""
    install, *lines = commands(EXAMPLE / "README.md")
    assert "pip install '.[classify]'" in install
    for line in lines:
        program, *arguments = line.replace("docs/examples/", f"{EXAMPLES}/").split()
        arguments += ["--samples", "24", "--no-timing"] * ("prune" in arguments)
        environment = {**anywhere, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100"}
        command = [*PROGRAMS[program], *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "results.json").read_text())
    found = {picture["name"]: picture["dense"][0]["label"] for picture in document["pictures"]}
    assert found["coffee-0.jpg"] == "espresso"
    assert len(found) == 24
    assert document["owned_nodes"] >= document["nodes"] - 1  # the classifier, which is dense, may gain nothing
    assert document["agree"] >= 6
    sheet = Image.open(tmp_path / "sheet.jpg")
    assert sheet.width > 1200
    assert os.path.getsize(tmp_path / "sheet.jpg") > 50_000
