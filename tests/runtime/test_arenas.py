"""The pool of arenas: whatever runs take and return, it is never more than the largest run needs times the runs at the same time."""

import ctypes
import gc
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.runtime._arenas import EPOCH_RUNS as EPOCH
from onnxruntime_ep_sparse.runtime._arenas import Loan, forget, held
from support.making import examples

USERS = (1, 2, 3)
FLOAT = 4
MB = 2**20
HUGE_PAGE = 2 * MB
PAGE = 64 * 1024
"""Bytes that an arena is at least."""
SLACK = 8 * MB
"""What Python and malloc may take meanwhile."""


@pytest.fixture(autouse=True)
def no_garbage():
    """No session of an earlier test waits to be collected. Once a test: in a whole run it takes 0.3 s, 300 examples 90 s."""
    gc.collect()


class Pool:
    """Runs of a few programs that take arenas and return them, and what must hold meanwhile."""

    def __init__(self):
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
        count, touched = held()
        assert touched <= count * self.largest
        assert count + len(self.running) <= max(self.before, self.most)
        assert all(loan.floats * FLOAT <= 1.25 * self.largest + PAGE for loan in self.running)

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
    count, touched = held()
    assert count <= max(pool.before, callers)
    assert touched <= max(pool.before, callers) * pool.largest
    pool.close()


def test_sizes_that_repeat():
    """Once the pool has an arena of the largest size for each caller, nothing is made any more."""
    pool = Pool()
    sizes = (64 * PAGE, 6400 * PAGE, 640 * PAGE)
    for _ in range(2):
        for floats in sizes:
            pool.take(1, floats)
            pool.give_back(0)
    pool.take(1, max(sizes))
    address = pool.running[0].address
    pool.give_back(0)
    for floats in sizes:
        pool.take(2, floats)
        assert pool.running[0].address == address
        pool.give_back(0)
    pool.close()


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def run(user, floats):
    """A run that writes to all that it takes."""
    loan = Loan(user, floats)
    ctypes.memset(loan.address, 1, floats * FLOAT)
    loan.give_back()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
@examples(5)
@given(st.lists(st.integers(1, 8 * MB // FLOAT), min_size=2, max_size=20))
def test_resident_memory(sizes):
    """Runs of any sizes in turn hold as much of the system's memory as the largest of them, and a huge page; afterwards none."""
    gc.collect()
    before = resident()
    for user, floats in enumerate(sizes):
        run(USERS[user % len(USERS)], floats)
    assert resident() - before <= max(sizes) * FLOAT + HUGE_PAGE + SLACK
    for user in USERS:
        forget(user)
    assert resident() - before <= SLACK


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
@examples(3)
@given(st.integers(1, 1000), st.integers(32 * MB // FLOAT, 64 * MB // FLOAT))
def test_large_run_of_long_ago(small, large):
    """Two epochs of small runs after it the process is as large as these need."""
    gc.collect()
    for user in USERS:
        forget(user)
    before = resident()
    run(1, large)
    assert resident() - before >= large * FLOAT - SLACK
    for _ in range(2 * EPOCH + 1):
        run(1, small)
    assert resident() - before <= HUGE_PAGE + SLACK
    assert held()[1] <= HUGE_PAGE * held()[0]
    forget(1)


def test_large_run_that_comes_again():
    """Sizes that take turns within an epoch stay where they are, pages and all."""
    pool = Pool()
    for _ in range(4 * EPOCH // 10):
        for floats in [4 * MB // FLOAT] + [1000] * 9:
            pool.take(1, floats)
            pool.give_back(0)
        assert held()[1] >= 4 * MB
    pool.close()


def test_arenas_of_a_burst():
    """Of eight callers at once only one goes on: two epochs later the process has one arena."""
    pool = Pool()
    for _ in range(8):
        pool.take(1, 1000)
    while pool.running:
        pool.give_back(0)
    assert held()[0] == max(pool.before, 8)
    for _ in range(3 * EPOCH):
        pool.take(1, 1000)
        pool.give_back(0)
    assert held()[0] == 1
    pool.close()
