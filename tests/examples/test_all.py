"""What every example has: a README with commands, an extra that installs what it needs, a test file."""

import pytest

from support.examples import EXAMPLES, EXTRAS, commands, extra_of, missing

NAMES = sorted(path.name for path in EXAMPLES.glob("*") if path.is_dir() and not path.name.startswith((".", "_")))


@pytest.mark.parametrize("name", NAMES)
def test_complete(name, request):
    """The README's commands install the extra, which `[examples]` has too; a test file runs the others."""
    extra = extra_of(name)
    assert extra in EXTRAS
    assert f"onnxruntime-ep-sparse[{extra}]" in EXTRAS["examples"]
    assert any(f"'.[{extra}]'" in line for line in commands(EXAMPLES / name / "README.md"))
    assert (request.path.parent / f"test_{name}.py").exists()


def test_no_test_without_example(request):
    """A test file whose name is no example's would neither be marked nor skipped."""
    tests = {path.stem.removeprefix("test_") for path in request.path.parent.glob("test_*.py")} - {"all"}
    assert tests == set(NAMES)


def test_commands(tmp_path):
    """Of blocks of shell commands alone, without comments; a command may have several lines."""
    page = tmp_path / "README.md"
    page.write_text("# Title\n```sh\n# first\none --a\n\ntwo \\\n  --b\n```\n```python\nthree\n```\n```sh\nfour  # last\n```\n")
    assert [line.split() for line in commands(page)] == [["one", "--a"], ["two", "--b"], ["four"]]


def test_missing(monkeypatch):
    """A package that is absent, or older than asked for, is missing; extras of this package are followed, and markers count."""
    wanted = {
        "a": ["pytest>=8", "no-such-package-of-anyone>=1", "pytest>=1000; python_version<'3'"],
        "b": ["onnxruntime-ep-sparse[a]", "numpy>=1000"],
    }
    monkeypatch.setitem(EXTRAS, "a", wanted["a"])
    monkeypatch.setitem(EXTRAS, "b", wanted["b"])
    assert missing("b") == ["no-such-package-of-anyone>=1", "numpy>=1000"]
