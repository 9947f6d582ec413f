"""Ways to run the command line."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.cli import app
from onnxruntime_ep_sparse.models import digits


@dataclass
class Result:
    """What a command left: exit code, what it printed, and its JSON document if it wrote one to stdout."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The document; nothing else may be on stdout."""
        found = json.loads(self.out)
        assert found["schema"] == 1
        return found


@pytest.fixture
def cli():
    """Run a command in this process; an exception that escapes it fails the test."""

    def run(*arguments, expect=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == expect, result.output
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def small_demo(monkeypatch, chain):
    """The demo with a small net and a short training."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install '.[demo]'")
    train = digits.train
    monkeypatch.setitem(models.BUILDERS, "resnet50", chain)
    monkeypatch.setattr(digits, "train", lambda epochs, **rest: train(epochs=1, channels=(16, 32), hidden=128, **rest))
