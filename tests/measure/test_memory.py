"""Memory of a session in a fresh process."""

import pytest

from onnxruntime_ep_sparse import measure


def test_a_failed_memory_process_says_why():
    """Its last line is in the error."""
    with pytest.raises(RuntimeError, match=r"CPUExecutionProvider failed: .*INVALID_PROTOBUF"):
        measure.memory_of(b"no model", measure.CPU, {})
