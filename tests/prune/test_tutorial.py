"""The tutorial for PyTorch says what its commands do: they run, in its order, and its claims hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import commands, fits

pytest.importorskip("torch", reason="NOT TESTED: the tutorial needs torch (pip install torch)")
pytest.importorskip("sklearn", reason="the tutorial needs scikit-learn")

pytestmark = pytest.mark.slow
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "pytorch.md"
PROGRAMS = {"python": [sys.executable], "ort-sparse": [sys.executable, "-m", "onnxruntime_ep_sparse"]}


def accuracies(text):
    """All shares in a text."""
    return [float(share) for share in re.findall(r"(\d+\.\d+)%", text)]


def test_tutorial(tmp_path, anywhere):
    """All commands run, and print what the page shows, but for numbers."""
    for name, code in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)```", TUTORIAL.read_text(), re.M | re.S):
        (tmp_path / name).write_text(code)
    shown = [(command, output) for command, output in commands(TUTORIAL) if output is not None]
    assert len(shown) > 8
    found = {}
    for command, output in shown:
        program, *arguments = command.split()
        command_line = [*PROGRAMS[program], *arguments]
        process = subprocess.run(command_line, cwd=tmp_path, env=anywhere, capture_output=True, text=True, timeout=300, check=False)
        assert process.returncode == 0, process.stderr
        assert fits(output, process.stdout), f"{command}\n{process.stdout}"
        found[command] = process.stdout
    dense, pruned = accuracies(found["python check.py dense.onnx pruned.onnx"])
    (magnitude,) = accuracies(found["python check.py magnitude.onnx"])
    assert dense - 1 <= pruned
    assert magnitude < pruned - 30
    lines = found["python finetune.py"].splitlines()
    assert accuracies(lines[0])[0] < accuracies(lines[1])[0] - 50
    assert accuracies(lines[0])[1] < accuracies(lines[1])[1]
    assert "99.0% zeros" in lines[2]
    assert accuracies(found["python check.py finetuned.onnx"]) == [pytest.approx(accuracies(lines[1])[1], abs=0.3)]
    assert accuracies(found["python gradual.py"])[0] > 90
