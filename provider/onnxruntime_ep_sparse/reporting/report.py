"""`report()`: everything that is known of a model's speed with the provider, as an object and as an HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write
from ..measure import CPU, Feeds, Progress, make_session
from ..measure.bench import FeedsOf
from ..models.inputs import fitting, inputs_for
from ..options import EP_NAME
from ..ort.registration import register
from ..records import Record, Tabular
from .sections import CURVES, SECTIONS, Figures, Section, Subject, about, layers_named

PAIRS, BUDGET_S = 30, 20.0
"""Of the measurement that the headline shows."""
STOPPED = "stopped before it was collected"


@dataclass(frozen=True)
class Report(Tabular):
    """The result of `report()`. `about` has file, inputs, machine and commands; `sections` has the figures by the keys of the sections.

    `left_out` says why sections are missing. `complete` is False if Ctrl-C has ended it early. `html` is the page, which `save()` writes.
    `to_pandas()` and `to_csv()` have the rows of `records()`, which Jupyter shows as a table.
    """

    about: Figures
    sections: dict[str, Figures]
    left_out: dict[str, str]
    complete: bool

    @property
    def html(self) -> str:
        """Return the page, which needs no other file. ImportError if jinja2 is missing."""
        from .page import rendered

        return rendered(self)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the page to a file, which appears when it is complete. ImportError if jinja2 is missing, OSError if that fails."""
        write(Path(file), self.html.encode())

    def records(self) -> list[Record]:
        """Return a row per node: the decision, and the measured ms of its layer with both providers, None where they are not known."""
        rows = self.sections.get("layers", {}).get("rows", [])
        times = {row["node"]: (row["cpu_ms"], row["ms"]) for row in rows if row["node"]}
        nodes = self.sections.get("decisions", {}).get("nodes", [])
        measured = ("measured_cpu_ms", "measured_ms")
        return [{**node, **dict(zip(measured, times.get(node["name"], (None, None)), strict=True))} for node in nodes]

    def caption(self) -> str:
        """Return the speed-up with its interval, and how many nodes are taken."""
        found, decided = self.sections.get("speed"), self.sections.get("decisions")
        words = [] if decided is None else [f"{EP_NAME} takes {decided['taken']} of {len(decided['nodes'])} nodes"]
        if found is not None and found["speed_up"] is not None:
            ratio = found["speed_up"]
            words.append(f"{ratio['median']:.2f} times as fast as {CPU} [{ratio['low']:.2f}, {ratio['high']:.2f}]")
        return f"{self.about['model']}: {', '.join(words) or STOPPED}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the keys of `about`, one for each section, None if it is left out, `left_out` and `complete`."""
        return {
            **self.about,
            **{section.key: self.sections.get(section.key) for section in SECTIONS},
            "left_out": self.left_out,
            "complete": self.complete,
        }


def report(
    model: Any,
    feeds: Feeds | FeedsOf | None = None,
    *,
    batch: int | None = None,
    threads: int = 0,
    options: Mapping[str, object] | None = None,
    curves: bool = True,
    weight: str | None = None,
    pairs: int = PAIRS,
    budget_s: float = BUDGET_S,
    seed: int = 0,
    name: str | None = None,
    words: Sequence[tuple[str, str]] = (),
    progress: Progress = lambda step, share: None,
) -> Report:
    """Collect what is known of a model: decisions, speed on both providers, time by layer, zeros, what more zeros would gain, curves.

    `model` is a path, bytes or an `onnx.ModelProto`. `feeds` are inputs by name, or a function that returns them for a batch; without them
    they are random, from `seed`. `threads` 0 leaves their number to ONNX Runtime. Without `curves`, speeds at other batches and numbers of
    threads are not measured. `weight` is the name of a layer or constant whose nonzeros are shown, by default the largest pruned weight.
    `pairs` and `budget_s` limit the measurement of the speed as in `bench()`. `name` is what the model is called in the report,
    and `words` are more options for the commands that it shows, such as ("--shape", "x=1x3x224x224").

    KeyboardInterrupt ends the collection early, and the report has what was done until then. A section that cannot be collected is left
    out with the reason. ValueError if an option or an input is not valid; onnxruntime's exceptions for a model that it cannot load or run.
    """
    register()
    source = model if isinstance(model, bytes) else model.SerializeToString() if hasattr(model, "SerializeToString") else os.fspath(model)
    session = make_session(source, CPU)
    inputs = session.get_inputs()
    if feeds is not None and not callable(feeds):
        feeds = fitting(feeds, session)
    del session
    if weight is not None:
        check_weight(source, weight)
    given = feeds if callable(feeds) else (lambda _: feeds) if feeds is not None else None
    subject = Subject(
        name or ("model" if isinstance(source, bytes) else source),
        source,
        given or (lambda size: inputs_for(inputs, batch=size or 1, seed=seed)),
        batch,
        (feeds is None or callable(feeds)) and any(i.shape and not isinstance(i.shape[0], int) for i in inputs),
        threads,
        {key: str(value) for key, value in (options or {}).items()},
        pairs,
        budget_s,
        weight,
        tuple(words),
        progress,
    )
    return _collected(subject, [section for section in SECTIONS if curves or section.key not in CURVES])


def check_weight(source: str | bytes, name: str) -> None:
    """Raise ValueError if no layer and no constant weight of a model has that name."""
    from ..prune.selection import source_of

    layers_named(source_of(source), name)


def _collected(subject: Subject, wanted: list[Section]) -> Report:
    """Collect the sections one by one."""
    found: dict[str, Figures] = {}
    left_out = {section.key: "not asked for" for section in SECTIONS if section not in wanted}
    basis = about(subject)
    try:
        for section in wanted:
            try:
                found[section.key] = section.collect(subject, found)
            except ModuleNotFoundError as error:
                package = str(error.name).partition(".")[0]
                left_out[section.key] = f"needs {package}: pip install {package}"
            except Exception as error:
                if section.key in ("decisions", "speed"):  # a report without these would say nothing
                    raise
                left_out[section.key] = " ".join(str(error).split()) or type(error).__name__
    except KeyboardInterrupt:
        left = [section.key for section in wanted if section.key not in found and section.key not in left_out]
        return Report(basis, found, {**left_out, **dict.fromkeys(left, STOPPED)}, complete=False)
    return Report(basis, found, left_out, complete=True)
