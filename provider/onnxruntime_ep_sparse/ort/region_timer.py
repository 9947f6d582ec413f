"""Times a region in two sessions, one of each provider, while another session is being created (`policy=measure`).

The region becomes a model of its own. Both sessions have the threads of the hint `threads` and do not spin between runs. They run in turn
until the interval of their paired ratios is clear of 1, or the time is used up. Ours has `policy=always`, so it measures nothing again.

One session at a time measures in a process, since two would disturb each other: it holds `MEASURING`. Nothing else takes that lock, neither
the sessions inside nor runs of any session.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .._version import __version__
from ..cache_folder import CacheFolder, say_once
from ..cpus import cpu_model
from ..graph.ir import Graph
from ..options import EP_NAME, Options, byte_set_of, workers_of
from ..partition.nominal import Sizes
from ..partition.verdict import FRAME, SizeTimes, UnmeasuredError, Verdict, restored, stored
from ..timing import LEAST_PAIRS, alternate, ratio
from . import registration
from .sessions import CPU, make_session, ownership

PAIRS = 30
"""At most, of each size."""
REMEMBERED = 1024
"""Verdicts that a process remembers: a session may be created again, and ONNX Runtime may show one graph several times."""
MESSAGE = 200
"""Characters of an error in a reason."""
INSIDE = {"policy": "always", "profile": "0", "cache_dir": ""}
"""Options of our session of a region: given, so that no environment variable sets them. Candidates leave nothing in the cache."""
USED_UP = "the time for measuring is used up"

MEASURING = threading.Lock()
"""Held by the caller of a `RegionTimer`."""
_known: OrderedDict[str, Verdict] = OrderedDict()


class RegionTimer:
    """Measures regions for a session with these options. It knows what this process and `cache_dir` have measured before."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cache = CacheFolder(options.cache_dir, "verdict", options.cache_max_mb) if options.cache_dir else None

    def __call__(self, region: Graph, sizes: Sequence[Sizes], seconds: float) -> Verdict:
        """Return the times of a region at some sizes, smallest first; UnmeasuredError if `seconds` are too few, or a session fails.

        Sizes are left out for which there is no time left, at which the region does not run, or whose result cannot matter.
        """
        end = time.perf_counter() + seconds
        if seconds <= 0 and not _known and self.cache is None:
            raise UnmeasuredError(USED_UP)
        ort = _module()
        try:
            from ..formats.region_model import model_of
        except ImportError as error:
            raise _unreachable(f"the module {error.name} is missing") from None
        try:
            model = model_of(region).SerializeToString(deterministic=True)
        except Exception as error:  # weights that cannot be read, too little memory, protobuf's own
            raise UnmeasuredError(f"its model cannot be written: {error}") from None
        key = self._key(ort, model)
        verdict = _known.get(key) or (self.cache.load(key, _read) if self.cache is not None else None)
        if verdict is None:
            verdict = self._measured(model, region.inputs, sizes, end)
        _known[key] = verdict
        _known.move_to_end(key)
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
        if self.cache is not None:
            self.cache.keep(key, stored(verdict), _read)
        return verdict

    def _key(self, ort: ModuleType, model: bytes) -> str:
        """Return what a verdict depends on, as a key: machine, threads, versions, budget and the content of the region."""
        options = self.options
        depends = [
            *(FRAME.version, __version__, ort.__version__, cpu_model(), byte_set_of(options)),
            *(options.threads, workers_of(options), options.measure_budget_ms),
        ]
        content = blake2b(json.dumps(depends).encode(), digest_size=20)
        content.update(model)
        return content.hexdigest()

    def _measured(self, model: bytes, names: Sequence[str], sizes: Sequence[Sizes], end: float) -> Verdict:
        """Measure a model at some sizes until `end`. UnmeasuredError as of `__call__`."""
        if time.perf_counter() >= end:
            raise UnmeasuredError(USED_UP)
        given = {**INSIDE, "isa": self.options.isa}
        threads = self.options.threads or 0
        try:
            sessions = make_session(model, CPU, None, threads, silent=True), make_session(model, EP_NAME, given, threads, silent=True)
            owned = ownership(sessions[1])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UnmeasuredError(f"no session of it can be created: {_short(error)}") from None
        if not owned.owned or owned.owned != owned.nodes:
            raise UnmeasuredError(f"alone, {owned.nodes - owned.owned} of its {owned.nodes} nodes stay with the CPU provider")
        times: list[SizeTimes] = []
        why = USED_UP
        for size in sizes:
            left = end - time.perf_counter()
            if left <= 0 or (times and _expected(times[-1], size) > left):
                break
            try:
                times.append(_times(*sessions, names, size, left))
            except Exception as error:  # a node that fits no such batch, too little memory
                why = f"it does not run at nominal shapes: {_short(error)}"
                continue
            if times[-1].ratio <= 1:
                break
        if not times:
            raise UnmeasuredError(why)
        return Verdict(tuple(times))


def _read(file: Path) -> Verdict:
    """Return the verdict in a file of `cache_dir`. OSError or ValueError if there is none that is whole."""
    return restored(file.read_bytes())


def _short(error: Exception) -> str:
    """Return the beginning of a message of ONNX Runtime, which may name every tensor."""
    text = " ".join(str(error).removeprefix("[ONNXRuntimeError] : ").split()) or type(error).__name__
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]}..."


def _module() -> ModuleType:
    """Return the module onnxruntime if it is what this session runs in. UnmeasuredError if it is out of reach.

    It is not imported: in a program that is not Python's, that would load another copy of ONNX Runtime.
    """
    ort = sys.modules.get("onnxruntime")
    if ort is None or not registration.is_registered(ort):
        raise _unreachable("the module onnxruntime is not in use here, or does not have this provider")
    return ort


def _unreachable(why: str) -> UnmeasuredError:
    """Return the error that nothing can be measured in this process, after saying so once."""
    say_once(f"policy=measure decides like policy=auto: {why}")
    return UnmeasuredError(why)


def _expected(before: SizeTimes, size: Sizes) -> float:
    """Return the seconds that a size needs at least if the times grow with it: three runs to warm up, and the least number of pairs."""
    growth = (size.count or 1) / (before.count or 1)
    return (3 + LEAST_PAIRS) * (before.theirs_ms + before.ours_ms) / 1e3 * growth


BYTES = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
"""The 8-bit types of inputs, as `get_inputs` names them."""


def _random(rng: np.random.Generator, kind: str, shape: Sequence[int]) -> np.ndarray:
    """Return a random input of a type that `get_inputs` names: of 8 bits, float16 or float32."""
    if kind in BYTES:
        info = np.iinfo(BYTES[kind])
        return rng.integers(info.min, info.max, shape, BYTES[kind], endpoint=True)
    return rng.standard_normal(shape, np.float32).astype(np.float16 if kind == "tensor(float16)" else np.float32)


def _times(theirs: Any, ours: Any, names: Sequence[str], size: Sizes, seconds: float) -> SizeTimes:
    """Measure one size on random inputs, which the sessions have in the order of `names`."""
    rng = np.random.default_rng(0)
    given = zip(theirs.get_inputs(), names, strict=True)
    feeds = {value.name: _random(rng, value.type, size.shapes[name]) for value, name in given}
    first, second = alternate(theirs, ours, feeds, pairs=PAIRS, budget_s=seconds, enough=lambda found: found.low > 1 or found.high < 1)
    theirs_ms, ours_ms = (float(np.median(times)) * 1e3 for times in (first, second))
    return SizeTimes(size.count, size.unit, theirs_ms, ours_ms, ratio(first, second).median)
