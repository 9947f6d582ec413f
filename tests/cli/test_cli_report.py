"""`report`."""

import json

import pytest

from onnxruntime_ep_sparse.cli.common import Steps

pytest.importorskip("jinja2", reason="needs the extra: pip install '.[report]'")


def test_page_and_document(cli, model_file, tmp_path):
    """The page and the same figures as JSON, with the commands that give them again."""
    page, document = tmp_path / "page.html", tmp_path / "figures.json"
    arguments = ("--batch", 2, "--threads", 1, "--pairs", 6, "--no-curves", "--option", "policy=always", "--weight", "second")
    result = cli("report", model_file, "-o", page, "--json", document, *arguments)
    assert "times as fast as CPUExecutionProvider" in result.out
    assert "not in the report: Speed by batch: not asked for" in result.out
    assert f"wrote {page}" in result.err
    found = json.loads(document.read_text())
    assert found["command"] == "report"
    assert found["density"]["layer"] == "conv_second"
    assert found["commands"][0].endswith("-o report.html --batch 2 --threads 1 --option policy=always --weight second")
    assert found["commands"][2] == f"ort-sparse analyze {model_file} --all --batch 2 --threads 1 --option policy=always"
    assert f"{found['speed']['speed_up']['median']:.2f}x" in page.read_text()


def test_stopped(cli, model_file, tmp_path, monkeypatch):
    """Ctrl-C leaves a page of what is done, and ends with 130."""
    step = Steps.__call__

    def stopped(self, name, share, what=""):
        if name == "both providers in turn":
            raise KeyboardInterrupt
        step(self, name, share, what)

    monkeypatch.setattr(Steps, "__call__", stopped)
    page = tmp_path / "page.html"
    page.write_text("old")
    result = cli("report", model_file, "-o", page, "--threads", 1, expect=130)
    assert "not in the report: Speed and agreement: stopped before it was collected" in result.out
    assert "This report was stopped early" in page.read_text()
    assert f"replaced {page}" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.onnx",), "no such file: missing.onnx"),
        (("MODEL", "-o", "MODEL"), "--output: "),
        (("MODEL", "-o", "missing/page.html"), "--output: "),
        (("MODEL", "-o", "-", "--json", "-"), "only one of them can go to stdout"),
        (("MODEL", "-o", "page.html", "--json", "page.html"), "--json: "),
        (("MODEL", "--shape", "y=1x2"), "the model has no input 'y'"),
    ],
)
def test_refused(cli, model_file, monkeypatch, arguments, words):
    """Wrong use is one line and exit code 2, before anything is measured."""
    monkeypatch.chdir(model_file.parent)
    result = cli("report", *(str(model_file) if word == "MODEL" else word for word in arguments), expect=2)
    assert words in result.err
    assert len(result.err.splitlines()) == 1
    assert not (model_file.parent / "report.html").exists()


def test_without_jinja2(cli, model_file, monkeypatch):
    """It says what to install, at once."""
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    assert "pip install jinja2" in cli("report", model_file, "-o", model_file.with_name("x.html"), expect=2).err
