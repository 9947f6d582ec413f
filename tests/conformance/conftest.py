"""Counts outcomes for the last line of a test run."""

from collections import Counter

import pytest

COUNTS = Counter()


@pytest.fixture
def count():
    """Note an outcome."""

    def note(word):
        COUNTS[word] += 1

    return note


def pytest_terminal_summary(terminalreporter):
    """How many cases had which outcome."""
    if COUNTS:
        terminalreporter.write_line("conformance: " + ", ".join(f"{n} {word}" for word, n in sorted(COUNTS.items(), key=lambda c: -c[1])))
