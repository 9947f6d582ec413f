"""The table of reasons: each has advice that a user can follow."""

import re

import pytest

from onnxruntime_ep_sparse import options, reasons
from onnxruntime_ep_sparse.reasons import REASONS, Finding


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.code)
def test_advice_is_one_sentence(reason):
    """It begins with a capital, ends with a full stop, and names the option that overrides the decision."""
    assert re.fullmatch(r"[A-Z][^\n]*\.", reason.advice)
    assert not re.search(r"[.!?] [A-Z]", reason.advice)
    assert len(reason.advice.split()) <= 25
    assert reason.option in reason.advice


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason.option], ids=lambda reason: reason.code)
def test_option_exists(reason):
    """An option of the provider, with a valid value if it has one."""
    name, _, value = reason.option.partition("=")
    option = next(option for option in options.OPTIONS if option.name == name)
    if value:
        assert option.read(value) == value


def test_codes_are_unique():
    """And in lower case, with hyphens."""
    codes = [reason.code for reason in REASONS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in codes)


def test_finding_fills_in_the_fields():
    """It is its text, and knows its row."""
    finding = reasons.BELOW_BREAK_EVEN(about="about ", sparsity=0.5, limit=0.753)
    assert str(finding) == finding.text == "sparsity about 50.0% is below the break-even 75.3%"
    assert (finding.code, finding.option) == ("below-break-even", "min_sparsity")
    assert finding.advice == reasons.BELOW_BREAK_EVEN.advice
    assert finding == Finding(reasons.BELOW_BREAK_EVEN, finding.text, limit=0.753)


def test_missing_fields_are_errors():
    """A text with holes must not reach a user."""
    with pytest.raises(KeyError, match="operator"):
        reasons.UNSUPPORTED_OPERATOR()
