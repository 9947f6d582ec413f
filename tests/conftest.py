"""What every test may use."""

import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse


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
