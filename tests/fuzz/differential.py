"""Random cases on our provider and on the CPU provider: graphs, hostile graphs, sizes at run time, windows, products; steps on bytes.

    python tests/fuzz/differential.py --count 100000 --seed S [--isa NAME] [--kind graphs]

Case number i is a function of seed and i alone, and so are its kind and its instruction set: `--first I --count 1` repeats it. The cases
are those of the property tests in tests/conformance and tests/ops, and so is what is asserted of them: with `policy=always` who owns the
nodes, products within the promised distance of float64, graphs within 1e-4 of the largest value, refusals where the CPU provider refuses.
Steps on bytes run on every set of kernels for bytes of the instruction set, and equal exact integers (tests/support/random_bytes.py).

Every instruction set has a process of its own, one after the other. A process that dies is reported with the case that killed it, and a new
one goes on behind that case. A line per case that failed; the exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime_ep_sparse_kernels as kernels

TESTS = Path(__file__).parents[1]
CASES = Path(__file__).with_name("differential_cases.py")
EVERY_S = 30.0
"""Seconds between lines of progress."""


def supervised(worker: Callable[[range], list[str]], numbers: range, environment: dict[str, str]) -> Iterator[tuple[int, str, str | None]]:
    """What the process says that `worker` gives the command of, and in further ones behind cases that kill it.

    Such a case is (number, kind, "the process died: ...").
    """
    while numbers:
        last: tuple[int, str] | None = None
        with subprocess.Popen(worker(numbers), stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                number, kind, words = json.loads(line)
                last = (number, kind)
                yield number, kind, words
        if process.returncode == 0:
            return
        if last is None:
            raise RuntimeError(f"the process of {numbers} ended with {process.returncode} before its first case")
        yield *last, f"the process died: exit status {process.returncode}"
        numbers = numbers[numbers.index(last[0]) + 1 :]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--isa", choices=kernels.available_isas(), help="only the cases of this instruction set")
    parser.add_argument("--kind", default="", help="only kinds that begin so, for example bytes")
    arguments = parser.parse_args()
    isas = kernels.available_isas()
    first, last = arguments.first, arguments.first + arguments.count
    path = os.pathsep.join([str(TESTS), str(TESTS / "conformance"), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = shown = time.monotonic()
    ran: Counter[str] = Counter()
    failed = 0
    for turn, isa in enumerate(isas):
        if arguments.isa not in (None, isa):
            continue

        def worker(numbers: range, isa: str = isa) -> list[str]:
            limits = map(str, (arguments.seed, numbers.start, numbers.stop, numbers.step))
            return [sys.executable, str(CASES), isa, *limits, arguments.kind]

        numbers = range(first + (turn - first) % len(isas), last, len(isas))
        for number, kind, words in supervised(worker, numbers, {**os.environ, "PYTHONPATH": path, "ORT_SPARSE_ISA": isa}):
            if words is None:
                ran[kind] += 1
            else:
                failed += 1
                print(f"FAILED: --seed {arguments.seed} --first {number} --count 1 ({kind}, {isa}): {words}", flush=True)
            if time.monotonic() - shown > EVERY_S:
                shown = time.monotonic()
                print(f"{ran.total()} cases in {shown - began:.0f} s, {isa} at {number} of {last}", file=sys.stderr, flush=True)
    each = ", ".join(f"{count} {kind}" for kind, count in sorted(ran.items()))
    print(f"{ran.total()} cases, {failed} failed, seed {arguments.seed}: {each}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
