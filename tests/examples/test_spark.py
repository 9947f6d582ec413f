"""The example of Spark: its README's commands, damaged images, wrong use."""

import shutil
import sys

import numpy as np
import pytest

from support.examples import EXAMPLES, commands, words
from support.photos import by_single_session

CLASSIFY = [sys.executable, EXAMPLES / "spark" / "classify.py"]
MAKE, RUN = commands(EXAMPLES / "spark" / "README.md")[1:]


@pytest.mark.skipif(not shutil.which("java"), reason="NOT TESTED: Spark needs Java 17 or newer on PATH")
def test_readme(run, tmp_path):
    """Two tasks at once: the rows are those of a single session, to the bit. A damaged image is a row with an error."""
    from pyarrow import parquet

    run(*words(MAKE, count="40"))
    (tmp_path / "photos" / "damaged.jpg").write_bytes((tmp_path / "photos" / "0000" / "0000001.jpg").read_bytes()[:900])
    assert run(*words(RUN)).stdout.startswith("41 rows in results-spark, 1 of them errors")
    rows = parquet.read_table(tmp_path / "results-spark").to_pylist()
    outputs = by_single_session(tmp_path / "photos")
    assert sorted(row["path"] for row in rows) == ["0000/" + f"{number:07d}.jpg" for number in range(40)] + ["damaged.jpg"]
    for row in rows:
        if row["path"] == "damaged.jpg":
            assert row["output"] is None
            assert "as an image" in row["error"]
        else:
            assert row["error"] is None
            np.testing.assert_array_equal(np.array(row["output"], np.float32), outputs[row["path"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "results"], "there is no folder nowhere"),
        (["photos", "results"], "there is no image in photos"),
        (["photos", "photos"], "photos exists: choose another folder"),
        (["photos", "results", "--model", "none.onnx"], "there is no file none.onnx"),
        (["photos", "results", "--model", "text.onnx"], "text.onnx: "),
    ],
)
def test_wrong_use(run, tmp_path, arguments, message):
    """One line that says what is wrong, before Spark is started."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    if "text.onnx" in arguments:
        (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    (line,) = run(*CLASSIFY, *arguments, expect=2).stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
