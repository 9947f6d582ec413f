"""What was measured, in words and as a file: damaged files are none, writers do not disturb each other."""

import subprocess
import sys
from dataclasses import replace

import pytest

from onnxruntime_ep_sparse.partition.verdict import FRAME, SizeTimes, Verdict, load, restored, save, stored

TIMES = SizeTimes(1, "row", 0.96, 0.52, 1.84)
VERDICT = Verdict((TIMES, SizeTimes(8, "row", 2.5, 1.0, 2.5)))
KEY = "one.verdict"


def test_words():
    """The slowest and the fastest ratio, and the times of each size."""
    assert str(Verdict((TIMES,))) == "1.84x ONNX Runtime's CPU provider (0.52 against 0.96 ms at 1 row)"
    assert str(VERDICT) == "1.84x to 2.50x ONNX Runtime's CPU provider (0.52 against 0.96 ms at 1 row; 1 against 2.5 ms at 8 rows)"
    assert str(Verdict((replace(TIMES, count=None),))).endswith("(0.52 against 0.96 ms)")


def test_faster():
    """At every size."""
    assert VERDICT.faster
    assert not Verdict((*VERDICT.times, replace(TIMES, ratio=1.0))).faster


def test_files(tmp_path):
    """Come back as they were, from a folder that is made; another key is another verdict."""
    folder = tmp_path / "a" / "b"
    assert load(folder, KEY) is None
    save(folder, KEY, VERDICT)
    assert load(folder, KEY) == VERDICT
    assert load(folder, "other.verdict") is None
    assert [path.name for path in folder.iterdir()] == [KEY]


def test_every_damaged_byte_and_every_end():
    """Is an error."""
    data = stored(VERDICT)
    damaged = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(len(data))]
    for content in (*damaged, *(data[:i] for i in range(len(data))), data + b" "):
        with pytest.raises(ValueError, match="verdict"):
            restored(content)


@pytest.mark.parametrize(
    "text",
    ["[]", "1", "null", "{}", '{"times": []}', '{"times": 1}', '{"times": [1]}', '{"times": [{}]}', "{", '{"times": [[]]}', "[" * 100_000]
    + [
        '{{"times": [{{"count": {}, "unit": {}, "theirs_ms": {}, "ours_ms": 1.0, "ratio": {}}}]}}'.format(*values)
        for values in (
            ('"1"', '"row"', "1.0", "1.0"),
            ("1", "1", "1.0", "1.0"),
            ("1", '"row"', "-1.0", "1.0"),
            ("1", '"row"', "NaN", "1.0"),
            ("1", '"row"', "1.0", "Infinity"),
            ("1", '"row"', "1.0", '"1.0"'),
            ("true", '"row"', "1.0", "1.0"),
            ("1", '"row"', "1.0", '1.0, "more": 1'),
        )
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_verdict(text, tmp_path):
    """With a checksum that fits; a folder with such a file has no verdict, and a new one replaces it."""
    data = bytearray(FRAME.pack() + text.encode())
    FRAME.sign(data)
    with pytest.raises(ValueError, match="verdict"):
        restored(bytes(data))
    (tmp_path / KEY).write_bytes(data)
    assert load(tmp_path, KEY) is None
    save(tmp_path, KEY, VERDICT)
    assert load(tmp_path, KEY) == VERDICT


WRITER = """if True:
    import sys
    from pathlib import Path
    from onnxruntime_ep_sparse.partition.verdict import SizeTimes, Verdict, load, save
    folder, key, ratio = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    for _ in range(40):
        save(folder, key, Verdict((SizeTimes(1, "row", 0.96, 0.52, ratio),)))
        assert load(folder, key) is not None
    """


def test_writers_at_the_same_time(tmp_path):
    """Every reader finds a whole file, and nothing else is left in the folder."""
    ratios = (1.0, 2.0, 3.0)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), KEY, str(ratio)]) for ratio in ratios]
    assert [writer.wait(120) for writer in writers] == [0] * 3
    assert [path.name for path in tmp_path.iterdir()] == [KEY]
    assert load(tmp_path, KEY).times[0].ratio in ratios
