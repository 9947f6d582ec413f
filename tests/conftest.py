"""What every test may use."""

import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels


@pytest.fixture(scope="session", autouse=True)
def registered():
    """The provider is registered, as a program that uses it would do once."""
    sparse.register()


@pytest.fixture
def session():
    """Make a session that has the provider and fails rather than falling back."""

    def make(model, options=None, **arguments):
        providers = [(sparse.EP_NAME, options or {}), "CPUExecutionProvider"]
        return onnxruntime.InferenceSession(model, providers=providers, enable_fallback=0, **arguments)

    return make


def pytest_terminal_summary(terminalreporter):
    """Kernels that were built but cannot run here must not look tested."""
    for isa in kernels.compiled_isas():
        if isa not in kernels.available_isas():
            terminalreporter.section(f"NOT RUN: {isa} kernels", sep="!", red=True, bold=True)
            terminalreporter.line(f"This CPU lacks {isa}: its kernels were compiled, their machine code was not executed.")
