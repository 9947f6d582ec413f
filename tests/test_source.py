"""The source itself: linters and types."""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from support import repository
from support.repository import ROOT, name_of, sources

TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    ["ruff check --no-cache .", "ruff format --no-cache --diff .", "cython-lint provider kernels", "mypy"],
    ids=lambda command: command.replace(" --no-cache", ""),
)
def test_lint(command):
    """Nothing to say."""
    if not (TOOLS / command.split()[0]).exists():
        pytest.skip(f"needs {command.split()[0]} beside {sys.executable}")
    # cython-lint calls pycodestyle by its name
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = subprocess.run(command.split(), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


HABITS = re.compile(
    r"(?<!there )\b(?:is|are) none\b(?! of)|(?<!there )(?<!There )\b(?:is|are) no\b(?! longer)"
    r"|\b(?:[Nn]obody|[Ss]omebody|[Ww]hoever|[Aa]nybody|[Ee]verybody|[Tt]heirs|rim|(?:some|any|every)one else)\b"
    r"|(?<!leave )(?<!left )\bbehind\b|\bin vain\b"
)
"""Words that hide who does what, or say "not a" in a way that readers stumble over: docs/style.md, rules 3, 5 and 9."""

PER = re.compile(r"\b\d+ (?:ns|us|µs|ms|s|bytes?|[KMG]?B|floats?|times?) an? (?:nonzero|element|worker|call|byte|dimension|item|step)\b")
"""Ratios without "per": rule 4."""

NOT_A_VERB = re.compile(
    r"(?:The|An?|What|Whether|How|If|In|Of|Is|For|Where|Which|All|One|Two|As|On|At|By|With|Without|From|Its?|This|These|Every)\b"
)
"""Beginnings of docstrings of functions that do not say what the function does: rule 8."""

PAGES = [page for page in repository.PAGES if page.name not in ("style.md", "CHANGELOG.md")]
"""Pages to read. The one left out has the words as examples, the other tells the past."""

LONGER = {"docs/benchmarks.md", "docs/experiments.md"}
"""Pages whose sentences are longer than rule 10 allows, with ratios that rule 4 forbids. No other page may join them."""


def prose_of(page):
    """The text of a page without code blocks and markup."""
    text = re.sub(r"^ *```.*?^ *```$|<!--.*?-->|^ {4,}[^\n]*$|<\w[^>]*>", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def words_of(path):
    """All comments and strings of a source file, documentation included. Names in backticks are left out."""
    text = path.read_text()
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
        found = [token.string for token in tokens if token.type in kinds]
    else:
        found = re.findall(
            r'"""(?:.*?)"""|#(?!include|define|if|end|else|error|pragma).*|//.*|/\*.*?\*/|"[^"\n]*"',
            text,
            re.S if path.suffix == ".h" else 0,
        )
        found += re.findall(r'""".*?"""', text, re.S)
    return re.sub(r"`[^`\n]*`", "", "\n".join(found))


RIDDLES = re.compile(r"(?:^\"{3}|^# ?|[.:] )(?:What|Whatever|Who)\b(?![^.!?\n]*\?)[^.\n]*", re.M)
"""Sentences that begin with a clause in place of a noun: rule 2. Questions are none of them."""


def test_sentences_begin_with_a_noun():
    """Comments and documentation in the source name the thing they speak of."""
    found = {name_of(path): RIDDLES.findall(words_of(path)) for path in sources()}
    assert {place: words for place, words in found.items() if words} == {}


def test_plain_words():
    """Pages, messages, help texts, documentation in the source and comments name the actor and say "not a"."""
    texts = {path: prose_of(path) for path in PAGES} | {path: words_of(path) for path in sources()}
    found = {name_of(path): HABITS.findall(text) + PER.findall(text) for path, text in texts.items()}
    assert {place: words for place, words in found.items() if words and (place not in LONGER or HABITS.search(texts[ROOT / place]))} == {}


def test_habits_are_found():
    """The pattern finds what it is for, and lets "there is no file", "no longer" and "left behind" pass."""
    texts = (
        "x is no number",
        "that is none",
        "that nobody reads",
        "for whoever asks",
        "the node behind it",
        "at the rim",
    )
    assert all(HABITS.search(text) for text in texts)
    fine = (
        "there is no file",
        "is no longer there",
        "none of them is",
        "they are none of these",
        "left behind",
        "are None where",
    )
    assert not any(HABITS.search(text) for text in fine)


def docstrings_of(path):
    """The names and docstrings of the functions in a source file."""
    text = path.read_text()
    if path.suffix == ".py":
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        return [(node.name, ast.get_docstring(node) or "") for node in functions]
    signature = r'^ *(?:cdef|cpdef|def) [^\n]*?(\w+)\((?:[^()]|\([^()]*\))*\)[^\n:]*:\n +"""(.*?)"""'
    return re.findall(signature, text, re.M | re.S)


def test_docstrings_begin_with_a_verb():
    """The first word of a function's docstring says what it does."""
    places = ((path, name, text) for path in sources() for name, text in docstrings_of(path))
    assert [f"{name_of(path)}: {name}: {text[:60]}" for path, name, text in places if NOT_A_VERB.match(text)] == []


def sentences(text):
    """The sentences and clauses of prose: they end with a full stop, a colon, a semicolon, or their paragraph, list item or cell."""
    text = re.sub(r"`[^`]*`", "X", text)
    for paragraph in re.split(r"\n\s*\n|\n *(?=[-*#] |\d+\. )|\|", text):
        yield from re.split(r"(?<=[.!?])\**\s+(?=[A-Z*(\"])|(?<=[:;])\s+", " ".join(paragraph.split()))


def test_sentences_are_short():
    """At most 25 words."""
    pages = [page for page in PAGES if name_of(page) not in LONGER]
    long = [f"{name_of(page)}: {s}" for page in pages for s in sentences(prose_of(page)) if len(re.findall(r"\S*\w\S*", s)) > 25]
    assert long == []


def test_sentences_are_found():
    """A sentence ends where a reader takes a breath, and code counts as one word."""
    assert list(sentences("One. Two `a. B` is: three; four\n- five\n\nsix | seven")) == [
        "One.",
        "Two X is:",
        "three;",
        "four",
        "- five",
        "six",
        "seven",
    ]
