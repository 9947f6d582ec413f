"""The one table of provider options. Parsing, error messages and `docs/options.md` come from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import ISAS, Isa, byte_sets_for, isa_named

from . import cpus

EP_NAME = "SparseExecutionProvider"

SESSION_PREFIX = f"ep.{EP_NAME.lower()}."
"""ONNX Runtime's prefix of a provider option's key in a session's configuration entries."""


@dataclass(frozen=True)
class Options:
    """The options of one session. `min_sparsity`, `threads` and `cache_dir` are None if not given."""

    policy: str
    min_sparsity: float | None
    isa: str
    threads: int | None
    profile: bool = False
    measure_budget_ms: int = 10_000
    cache_dir: str | None = None
    cache_max_mb: int = 4000


@dataclass(frozen=True)
class Option:
    """One row of the table. `parse` returns the value of a string, and raises ValueError if the string is not `valid`."""

    name: str
    type: str
    default: str
    valid: str
    meaning: str
    parse: Callable[[str], object]

    @property
    def variable(self) -> str:
        """Return the environment variable that sets the option if it is not given."""
        return f"ORT_SPARSE_{self.name.upper()}"

    def read(self, text: str) -> object:
        """Return the value of `text`. ValueError that lists the valid values."""
        try:
            return self.parse(text)
        except ValueError as error:
            reason = f": {error}" if isinstance(error, _UnavailableError) else ""
            raise ValueError(f"option {self.name!r}: {text!r} is not valid{reason}; valid: {self.valid}") from None


class _UnavailableError(ValueError):
    """A valid value that this machine or build does not support."""


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return parse


def _fraction(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _count(text: str) -> int | None:
    if not text:
        return None
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _amount(text: str) -> int:
    if not text.isdecimal() or not text.isascii():
        raise ValueError
    return int(text)


def _folder(text: str) -> str | None:
    if "\0" in text:
        raise ValueError
    return text or None


def _flag(text: str) -> bool:
    return _one_of("0", "1")(text) == "1"


BYTE_SETS = {row.name: row for row in byte_sets_for(ISAS)}
ISA_CHOICES = ("auto", *(isa.name for isa in ISAS), *BYTE_SETS)


def _isa(text: str) -> str:
    name = _one_of(*ISA_CHOICES)(text)
    if name not in ("auto", *kernels.available_isas(), *kernels.available_byte_sets()):
        isa = BYTE_SETS[name].isa.name if name in BYTE_SETS else name
        lacking = "this CPU" if isa in kernels.compiled_isas() else "this build"
        raise _UnavailableError(f"{lacking} lacks it, the best available is {kernels.available_isas()[0]!r}")
    return name


OPTIONS = (
    Option(
        "policy",
        "choice",
        "auto",
        "'auto', 'always', 'never', 'measure'",
        "`auto` takes nodes that are expected to run faster than on the CPU provider, `always` all supported nodes, `never` none. "
        "`measure` runs both providers when the session is created, and takes [what is faster](#measured-decisions).",
        _one_of("auto", "always", "never", "measure"),
    ),
    Option(
        "min_sparsity",
        "number",
        "",
        "a number from 0 to 1",
        "`auto` takes layers with at least this share of zeros, instead of those above their computed break-even.",
        _fraction,
    ),
    Option(
        "isa",
        "choice",
        "auto",
        ", ".join(repr(isa) for isa in ISA_CHOICES),
        "Instruction set of the kernels; `auto` is the best one that CPU and build support. A name that ends in `_madd` or `_vnni` "
        "also says how products of 8-bit integers multiply; without such an ending they use the best way that the CPU supports.",
        _isa,
    ),
    Option(
        "threads",
        "integer",
        "",
        "an integer of at least 1",
        "Number of threads that work is divided among: by default those of the session that can run at once. It starts no threads.",
        _count,
    ),
    Option(
        "profile",
        "flag",
        "0",
        "'0', '1'",
        "`1` measures the time of every step, for `step_times(session)` and `ort-sparse bench --per-step`.",
        _flag,
    ),
    Option(
        "measure_budget_ms",
        "integer",
        "10000",
        "a whole number of at least 0",
        "Milliseconds that `policy=measure` spends on measuring in all; what is left when they are used up is decided as by `auto`.",
        _amount,
    ),
    Option(
        "cache_dir",
        "folder",
        "",
        "a path",
        "Folder for [packed weights](compressed.md#a-cache-instead-of-compiled-models) and for the measurements of `policy=measure`, which "
        "later sessions and other processes use. It is created if it does not exist.",
        _folder,
    ),
    Option(
        "cache_max_mb",
        "integer",
        "4000",
        "a whole number of at least 0",
        "MB (of 1,000,000 bytes) that the entries in `cache_dir` may have together. A session that adds one removes those whose last use "
        "is longest ago. `0` allows any size.",
        _amount,
    ),
)

assert [option.name for option in OPTIONS] == [field.name for field in fields(Options)]


def parse(given: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Options:
    """Return the options: as given, else by environment variable, else the default. ValueError for an unknown key or an invalid value."""
    environ = os.environ if environ is None else environ
    known = {option.name for option in OPTIONS}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; valid options: {', '.join(sorted(known))}")
    values = {}
    for option in OPTIONS:
        if option.name in given:
            values[option.name] = option.read(str(given[option.name]))
        elif environ.get(option.variable):
            try:
                values[option.name] = option.read(environ[option.variable])
            except ValueError as error:
                raise ValueError(f"environment variable {option.variable}: {error}") from None
        else:
            values[option.name] = option.parse(option.default)
    return Options(**values)  # type: ignore[arg-type]  # each row's parse gives its field's type


def from_session(entries: Mapping[str, str], environ: Mapping[str, str] | None = None, pool: int = 0) -> Options:
    """Return the options in a session's configuration entries. Errors as of `parse`.

    If `threads` is not given, it follows from ONNX Runtime's own settings: see `pool_threads`.
    """
    environ = os.environ if environ is None else environ
    given = {key.removeprefix(SESSION_PREFIX): value for key, value in entries.items() if key.startswith(SESSION_PREFIX)}
    if "threads" not in given and not environ.get("ORT_SPARSE_THREADS"):
        given["threads"] = str(expected_threads(pool_threads(entries, pool, environ)))
    return parse(given, environ)


@dataclass(frozen=True)
class DynamicOption:
    """An option that a session accepts after its creation. `accepts` says whether a value is `valid`."""

    name: str
    valid: str
    meaning: str
    accepts: Callable[[str], bool]


DYNAMIC_OPTIONS = (
    DynamicOption("cancel", "'1'", "Stops [all runs of the session that are in progress](#stopping-runs).", "1".__eq__),
    DynamicOption("explain", "a token", "Asks for the decisions about the nodes: used by `explain(session)`.", bool),
    DynamicOption("profile", "a token", "Asks for the time of every step: used by `step_times(session)`.", bool),
)

RUNTIME_PREFIX = "ep.dynamic."
"""Of keys of ONNX Runtime itself, which it shows to every provider of a session."""


def check_dynamic(key: str, value: str) -> None:
    """ValueError, which lists what is valid, for a dynamic option that this provider does not have or a value that it does not accept."""
    option = next((option for option in DYNAMIC_OPTIONS if option.name == key), None)
    if option is None:
        if not key.startswith(RUNTIME_PREFIX):
            valid = ", ".join(repr(option.name) for option in DYNAMIC_OPTIONS)
            raise ValueError(f"unknown dynamic option {key!r}; valid: {valid}")
    elif not option.accepts(value):
        raise ValueError(f"dynamic option {key!r}: {value!r} is not valid; valid: {option.valid}")


def dynamic_markdown() -> str:
    """Return the table of dynamic options for the documentation."""
    rows = [f"| `{o.name}` | {o.valid} | {o.meaning} |" for o in DYNAMIC_OPTIONS]
    return "\n".join(["| dynamic option | valid | meaning |", "| --- | --- | --- |", *rows, ""])


def pool_threads(entries: Mapping[str, str], pool: int, environ: Mapping[str, str] | None = None) -> int:
    """Return the number of threads that ONNX Runtime's settings give a session, 0 if it is not known or left to ONNX Runtime.

    It is the entry `session.intra_op_num_threads` (of ONNX Runtime 1.28 and later), the number of threads of the session's own `pool`
    (0: not known), or the variable ORT_INTRA_OP_NUM_THREADS.
    """
    environ = os.environ if environ is None else environ
    numbers = (entries.get("session.intra_op_num_threads", ""), str(pool), environ.get("ORT_INTRA_OP_NUM_THREADS", ""))
    return next((int(text) for text in numbers if text.isdecimal() and int(text)), 0)


def markdown() -> str:
    """Return the table for the documentation."""
    rows = [f"| `{o.name}` | {o.type} | {f'`{o.default}`' if o.default else 'none'} | {o.valid} | {o.meaning} |" for o in OPTIONS]
    return "\n".join(["| option | type | default | valid | meaning |", "| --- | --- | --- | --- | --- |", *rows, ""])


def words(options: Options) -> str:
    """Return what a session runs with, for its log: instruction set, threads, and the options that differ from their defaults."""
    defaults = parse({}, {})
    others = {f.name: value for f in fields(Options) if (value := getattr(options, f.name)) != getattr(defaults, f.name)}
    shown = "".join(f", {name}={value}" for name, value in others.items() if name not in ("isa", "threads"))
    available = ", ".join(kernels.available_isas())
    sets = f"instruction set {isa_of(options).name}, of {available}; kernels for bytes {byte_set_of(options)}"
    count = workers_of(options)
    return f"{sets}; {count} thread{'' if count == 1 else 's'}{shown}"


def isa_of(options: Options) -> Isa:
    """Return the instruction set that `options.isa` stands for on this CPU."""
    if options.isa in BYTE_SETS:
        return BYTE_SETS[options.isa].isa
    return isa_named(kernels.available_isas()[0] if options.isa == "auto" else options.isa)


def byte_set_of(options: Options) -> str:
    """Return the name of the kernels for bytes that `options.isa` stands for on this CPU."""
    return options.isa if options.isa in BYTE_SETS else kernels.best_byte_set(isa_of(options).name)


def expected_threads(pool: int = 0) -> int:
    """Return how many threads of a pool can work at once: the pool's, but not more than CPUs that this process may use.

    `pool` 0 stands for ONNX Runtime's default, a thread per physical core of the machine. Work is not cut for threads beyond the CPUs:
    they would wait for each other, and ONNX Runtime wakes no more threads than a section has parts.
    """
    usable = cpus.usable()
    return min(pool or cpus.cores() or usable, usable)


def workers_of(options: Options) -> int:
    """Return the number of threads that a session is expected to have, for which work is cut and packed."""
    return min(options.threads or expected_threads(), MAX_WORKERS)


MAX_WORKERS = 1024
"""Each gets memory of its own."""
