"""The pool of arenas: whatever runs take and return, it is never more than the largest run needs times the runs at the same time."""

import gc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.runtime._arenas import Loan, forget, held
from support.making import examples

USERS = (1, 2, 3)
FLOAT = 4


class Pool:
    """Runs of a few programs that take arenas and return them, and what must hold meanwhile."""

    def __init__(self):
        gc.collect()
        self.before, self.largest = held()
        self.running: list[Loan] = []
        self.most = 0
        """Runs at the same time."""

    def take(self, user, floats):
        """A run begins."""
        self.running.append(Loan(user, floats))
        assert self.running[-1].floats >= floats
        self.most = max(self.most, len(self.running))
        self.largest = max(self.largest, floats * FLOAT)
        self.check()

    def give_back(self, i):
        """A run ends."""
        self.running.pop(i % len(self.running)).give_back()
        self.check()

    def check(self):
        """No two runs share memory; arenas and their bytes are bounded."""
        spans = sorted((loan.address, loan.address + loan.floats * FLOAT) for loan in self.running)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
        count, size = held()
        count += len(self.running)
        size += sum(loan.floats for loan in self.running) * FLOAT
        assert count <= max(self.before, self.most)
        assert size <= max(self.before, self.most) * self.largest

    def close(self):
        """All runs end and all programs go."""
        while self.running:
            self.give_back(0)
        for user in USERS:
            forget(user)
        assert held()[0] <= self.before


@examples(200)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(USERS), st.integers(1, 400)), max_size=60))
def test_any_order(calls):
    """Of takes and returns, of any sizes."""
    pool = Pool()
    for takes, user, number in calls:
        if takes or not pool.running:
            pool.take(user, 64 * number)
        else:
            pool.give_back(number)
    pool.close()


@examples(100)
@given(st.integers(1, 4), st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_sizes_that_grow(callers, growth):
    """Each round of runs needs more than the one before: nothing of that stays but the last."""
    pool = Pool()
    floats = 16
    for more in growth:
        floats += 16 * more
        for user in range(callers):
            pool.take(USERS[user % len(USERS)], floats)
        while pool.running:
            pool.give_back(-1)
    count, size = held()
    assert count <= max(pool.before, callers)
    assert size <= max(pool.before, callers) * max(floats * FLOAT, pool.largest)
    pool.close()


def test_sizes_that_repeat():
    """Once the pool has an arena of the largest size for each caller, nothing is made any more."""
    pool = Pool()
    for _ in range(2):
        for floats in (64, 6400, 640):
            pool.take(1, floats)
            pool.give_back(0)
    pool.take(1, 6400)
    address = pool.running[0].address
    pool.give_back(0)
    for floats in (64, 6400, 640):
        pool.take(2, floats)
        assert pool.running[0].address == address
        pool.give_back(0)
    pool.close()
