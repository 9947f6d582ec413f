"""What was measured, in words and as bytes: damaged bytes are no verdict."""

from dataclasses import replace

import pytest

from onnxruntime_ep_sparse.partition.verdict import FRAME, SizeTimes, Verdict, restored, stored

TIMES = SizeTimes(1, "row", 0.96, 0.52, 1.84)
VERDICT = Verdict((TIMES, SizeTimes(8, "row", 2.5, 1.0, 2.5)))


def test_words():
    """The slowest and the fastest ratio, and the times of each size."""
    assert str(Verdict((TIMES,))) == "1.84x ONNX Runtime's CPU provider (0.52 against 0.96 ms at 1 row)"
    assert str(VERDICT) == "1.84x to 2.50x ONNX Runtime's CPU provider (0.52 against 0.96 ms at 1 row; 1 against 2.5 ms at 8 rows)"
    assert str(Verdict((replace(TIMES, count=None),))).endswith("(0.52 against 0.96 ms)")


def test_faster():
    """At every size."""
    assert VERDICT.faster
    assert not Verdict((*VERDICT.times, replace(TIMES, ratio=1.0))).faster


def test_bytes():
    """Come back as they were."""
    assert restored(stored(VERDICT)) == VERDICT


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
def test_what_is_no_verdict(text):
    """With a checksum that fits."""
    data = bytearray(FRAME.pack() + text.encode())
    FRAME.sign(data)
    with pytest.raises(ValueError, match="verdict"):
        restored(bytes(data))
