"""The variable ORT_SPARSE_LOG: from which of ONNX Runtime's levels on the provider's messages are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "ORT_SPARSE_LOG"
LEVELS = {"verbose": 0, "info": 1, "warning": 2, "error": 3, "off": 5}
"""Names of the levels, and ONNX Runtime's numbers for them (`log_severity_level`); 5 is above all of them."""
LETTERS = "VIWEF"
"""Letters of the levels in the lines that ONNX Runtime prints."""
AS_SESSION = -1
"""Stands for the level of the session's own logger."""


def chosen_level(environ: Mapping[str, str] | None = None) -> int:
    """Return the number of the level that the variable names, AS_SESSION if it is not set. ValueError for another value."""
    text = (os.environ if environ is None else environ).get(VARIABLE, "")
    if not text:
        return AS_SESSION
    if text.lower() not in LEVELS:
        valid = ", ".join(map(repr, LEVELS))
        raise ValueError(f"environment variable {VARIABLE}: {text!r} is not valid; valid: {valid}")
    return LEVELS[text.lower()]
