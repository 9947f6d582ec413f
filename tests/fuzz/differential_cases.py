"""The random cases of differential.py, in a process of one instruction set; it needs tests/ and tests/conformance on its path."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import test_hostile_graphs
import test_random_graphs
import test_run_time_shapes
import test_windows
from hypothesis import given, settings

import onnxruntime_ep_sparse as sparse
from support import random_bytes
from support.products import assert_promise, convolutions, gemms, large, matmuls

Case = Callable[[np.random.Generator, str], None]
ENTROPY = 8192
"""Bytes of which Hypothesis makes a case; none has wanted more."""
SHOWN = 300
"""Characters of an error's words."""


def seeded(test: Any, **arguments: str) -> Case:
    """Cases of a property test that draws a seed."""
    return lambda rng, isa: test.hypothesis.inner_test(seed=int(rng.integers(2**32)), **arguments)


def seeded_with_threads(test: Any, **arguments: str) -> Case:
    """Cases of a property test that draws a seed and a number of threads."""
    return lambda rng, isa: test.hypothesis.inner_test(seed=int(rng.integers(2**32)), threads=int(rng.integers(1, 4)), **arguments)


def drawn(strategy: Any, check: Callable[[Any, dict[str, str]], Any]) -> Case:
    """Cases that Hypothesis draws from random bytes; `check` gets them with options of the provider."""

    def case(rng: np.random.Generator, isa: str) -> None:
        options = {"isa": isa, "threads": str(rng.integers(1, 5))}

        @settings(database=None)
        @given(strategy)
        def once(one: Any) -> None:
            check(one, options)

        if once.hypothesis.fuzz_one_input(rng.bytes(ENTROPY)) is None:
            raise RuntimeError("Hypothesis made no case of these bytes")

    return case


def window(op: str) -> Case:
    """Cases of one window."""
    return drawn(test_windows.windows(op), lambda case, options: test_windows.assert_equal(op, case))


def product(strategy: Any) -> Case:
    """Cases of one product."""
    return drawn(strategy, lambda case, options: assert_promise(*case, options))


KINDS: dict[str, tuple[int, Case]] = {
    "graphs": (25, seeded(test_random_graphs.test_equal_to_the_cpu_provider, policy="always")),
    "hostile": (10, seeded(test_hostile_graphs.test_refused_like_by_the_cpu_provider, policy="always")),
    **{
        f"sizes {kind}": (4, seeded_with_threads(test_run_time_shapes.test_equal_to_the_cpu_provider, kind=kind))
        for kind in test_run_time_shapes.KINDS
    },
    **{f"window {op}": (5, window(op)) for op in test_windows.WINDOWS},
    **{f"product {s.__name__}": (share, product(s())) for share, s in ((5, convolutions), (4, gemms), (4, matmuls), (2, large))},
    **{f"bytes {kind}": (3, partial(random_bytes.check, kind)) for kind in random_bytes.CASES},
}
"""Kinds of cases, each with its share in per cent."""


def kind_of(rng: np.random.Generator) -> str:
    """The kind of the next case."""
    return list(KINDS)[int(np.searchsorted(np.cumsum([share for share, _ in KINDS.values()]), rng.integers(100), side="right"))]


def cases(seed: int, numbers: Sequence[int], isa: str, wanted: str = "") -> Iterator[tuple[int, str, str | None]]:
    """(number, kind, None) before each of these cases, and (number, kind, words) after each that failed.

    Only kinds that begin with `wanted` are tried. `isa` is also what the environment variable ORT_SPARSE_ISA must say, for sessions without
    that option.
    """
    if os.environ.get("ORT_SPARSE_ISA") != isa:
        raise ValueError(f"ORT_SPARSE_ISA is not {isa}")
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        kind = kind_of(rng)
        if not kind.startswith(wanted):
            continue
        yield number, kind, None
        try:
            KINDS[kind][1](rng, isa)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pytest's own failures are no Exception
            yield number, kind, f"{type(error).__name__}: {' '.join(str(error).split())[:SHOWN]}"


def main(isa: str, seed: str, first: str, last: str, step: str, wanted: str = "") -> None:
    """Write what `cases` says, one JSON list a line."""
    faulthandler.enable()
    warnings.simplefilter("ignore")  # of numbers that overflow
    sparse.register()
    for line in cases(int(seed), range(int(first), int(last), int(step)), isa, wanted):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
