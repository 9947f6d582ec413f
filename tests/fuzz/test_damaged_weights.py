"""A short series of the fuzzing that compressed_weights.py does at length."""

import numpy as np
import pytest
from compressed_weights import RAN, REFUSED, corrected, run, weights
from mutations import MUTATIONS, mutated

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
@pytest.mark.parametrize(("target", "runs"), [("reader", 20_000), ("sessions", 300), ("files", 400)])
def test_series(target, runs):
    """No promise broken; and the damage is neither so little nor so much that only one side is tried."""
    counts = run(target, runs, seed=1)
    assert counts.total() == runs
    assert min(counts[REFUSED], counts[RAN]) > runs / 100


@pytest.mark.parametrize("mutation", [*MUTATIONS, mutated], ids=lambda mutation: mutation.__name__)
def test_mutations(mutation):
    """Bytes from bytes, none too; the same from the same generator; and most often others."""
    data = bytes(range(40))
    assert isinstance(mutation(np.random.default_rng(0), b""), bytes)
    changed = [mutation(np.random.default_rng(seed), data) for seed in range(100)]
    assert changed == [mutation(np.random.default_rng(seed), data) for seed in range(100)]
    assert sum(each != data for each in changed) > 60


def test_corrected():
    """Nothing else than the checksum; the right one stays."""
    for _, values, index in weights():
        assert corrected(values, index) == index
        assert corrected(values, index[:8] + bytes(4) + index[12:]) == index
    assert corrected(b"", b"short") == b"short"
