"""The tutorial for PyTorch says what its commands do: they run, in its order, and its claims hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="NOT TESTED: the tutorial needs torch (pip install torch)")
pytest.importorskip("sklearn", reason="the tutorial needs scikit-learn")

pytestmark = pytest.mark.slow
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "pytorch.md"
PROGRAMS = {"python": [sys.executable], "ort-sparse": [sys.executable, "-m", "onnxruntime_ep_sparse"]}


def accuracies(text):
    """All shares in a text."""
    return [float(share) for share in re.findall(r"(\d+\.\d+)%", text)]


def test_tutorial(tmp_path, anywhere):
    """All commands but the measurement, which says nothing here."""
    text = TUTORIAL.read_text()
    for name, code in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)```", text, re.M | re.S):
        (tmp_path / name).write_text(code)
    commands = re.findall(r"^\$ (.*)$", text, re.M)
    assert len(commands) > 8
    found = {}
    for command in commands:
        program, *arguments = command.split()
        if "bench" in arguments:
            continue
        arguments += ["--no-timing"] * ("prune" in arguments)
        command_line = [*PROGRAMS[program], *arguments]
        process = subprocess.run(command_line, cwd=tmp_path, env=anywhere, capture_output=True, text=True, timeout=300, check=False)
        assert process.returncode == 0, process.stderr
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
