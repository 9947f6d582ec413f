"""The example that streams frames: its README at a small size, tiles, sources, and errors."""

import json
import subprocess
import sys

import numpy as np
import pytest

from support.examples import EXAMPLES, commands, words

Image = pytest.importorskip("PIL.Image", reason="needs pillow: pip install '.[video]'")
EXAMPLE = EXAMPLES / "video"


@pytest.fixture
def run(anywhere, tmp_path):
    """Run a command in a folder of its own; `expect` is its exit code."""

    def call(line, expect=0):
        done = subprocess.run(list(map(str, line)), cwd=tmp_path, env=anywhere, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return call


def test_readme(run, tmp_path):
    """The commands of the README: both nets, with small frames."""
    install, write, features, unet = commands(EXAMPLE / "README.md")
    assert "'.[video]'" in install
    run(words(write))
    text = run([*words(features, frames="2", size="64x96"), "--threads", "1", "--json", "features.json"]).stdout
    document = json.loads((tmp_path / "features.json").read_text())
    assert document["size"] == [64, 96]
    assert document["frames"] == 2
    assert document["difference"] <= 1e-4
    assert document["speedup"] > 0
    ours, theirs = document["providers"]["sparse"], document["providers"]["cpu"]
    assert ours["owned_nodes"] > 50
    assert theirs["owned_nodes"] == 0
    assert ours["peak_mb"] > 0
    assert f"{document['speedup']:.2f} times as fast" in text
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)).save(folder / "0.png")
    run([*words(unet, frames="1", size="256x32", tiles="2x1"), "--threads", "1", "--source", folder, "--json", "unet.json"])
    assert json.loads((tmp_path / "unet.json").read_text())["providers"]["sparse"]["owned_nodes"] == 49


def test_tiles(monkeypatch):
    """Tiles cover a frame once, read more on both sides as far as there is any, and are joined as they stood."""
    monkeypatch.syspath_prepend(EXAMPLE)
    import stream

    found = stream.parts(540, 3, 32)
    assert [(part.first, part.last) for part in found] == [(0, 128), (128, 256), (256, 540)]
    assert [(part.low, part.high) for part in found] == [(0, 160), (96, 288), (224, 540)]
    x = np.random.default_rng(0).standard_normal((1, 1, 540, 300)).astype(np.float32)
    seen = []
    y = stream.by_tiles(lambda tile: seen.append(tile.shape[2:]) or 2 * tile, x, found, stream.parts(300, 2, 0))
    assert np.array_equal(y, 2 * x)
    assert seen[:2] == [(160, 128), (160, 172)]
    assert len(stream.parts(96, 2, 32)) == 1
    with pytest.raises(ValueError, match="--tiles is for models"):
        stream.by_tiles(lambda tile: tile[:, :, ::2], x, found, stream.parts(300, 1, 0))


def test_sources(monkeypatch, tmp_path):
    """Frames of a folder come again and again in one size; made-up ones move; what cannot be read is named."""
    monkeypatch.syspath_prepend(EXAMPLE)
    from frames import Unusable, frames, into

    made = frames(None, 32, 48)
    first, second = next(made), next(made)
    assert first.size == second.size == (48, 32)
    assert np.asarray(first).tobytes() != np.asarray(second).tobytes()
    x = np.empty((1, 3, 32, 48), np.float32)
    into(first, x)
    assert np.array_equal(x[0, 1], np.asarray(first)[:, :, 1] * np.float32(4 / 255) - np.float32(2))
    (tmp_path / "text.png").write_text("no picture")
    for source, message in ((tmp_path, "cannot read"), (tmp_path / "none.mp4", "no such"), (tmp_path / "text.png", "as a video")):
        with pytest.raises(Unusable, match=message):
            next(frames(source, 32, 48))
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "text.png")
    again = frames(tmp_path, 32, 48)
    assert [next(again).size for _ in range(3)] == [(48, 32)] * 3


def test_errors(run, tmp_path):
    """A line that says what is wrong."""
    program = [sys.executable, EXAMPLE / "stream.py"]
    assert run([*program, "none.onnx"], expect=1).stderr.strip() == "stream.py: no such file: none.onnx"
    assert "invalid size value" in run([*program, "none.onnx", "--size", "0x3"], expect=2).stderr
