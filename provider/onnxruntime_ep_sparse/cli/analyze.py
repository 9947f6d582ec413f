"""`ort-sparse analyze`: which nodes of a model the provider takes, and why."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from ..diagnostics.explain import expected, explain
from ..options import EP_NAME
from ..partition.decision import NodeDecision
from ..reasons import ADVICE, COMPILED
from ..records import counted
from .common import Batch, JsonOption, ModelArgument, Output, ProviderOptions, Shapes, Threads, UsageError, provider_options
from .given import GivenModel
from .inputs import open_sizes_for, shapes_for
from .macs import PRODUCTS, key_of, macs_of
from .tables import Footnotes
from .what_if import Impose, impose_files, show_what_if

COLUMNS = ("node", "op", "weight", ">sparsity", ">needed", "pattern", ">MACs", ">CPU ms", ">ms", ">region", ">note")


def analyze(
    model: ModelArgument,
    *,
    every: Annotated[bool, typer.Option("--all", help="List every node, not only products.")] = False,
    option: ProviderOptions = None,
    batch: Batch = None,
    shape: Shapes = None,
    threads: Threads = 0,
    impose_sparsity: Impose = None,
    measure: Annotated[bool, typer.Option("--measure", help="With --impose-sparsity: measure the model with the zeros.")] = False,
    json: JsonOption = None,
) -> None:
    """Show which nodes the sparse provider takes, and why.

    Each row shows a node's sparsity, the sparsity that it needs to be worth taking, its pattern and its region. The notes
    after the table say why, and what you can do. Another line says which share of the multiplications each pattern has,
    where layers have blocks or N:M. Multiplications (MACs) and the milliseconds that both providers are
    expected to take follow from the model's shapes. Give open dimensions by --batch and --shape.

    --impose-sparsity shows what more zeros would gain, layer by layer, before anything is pruned: in the layers that
    `prune` would choose, in those of an operator (Conv=0.9), or in those that a file names ({"layer": "0.9:4x1"}).
    """
    out = Output("analyze", json, model, impose_files(impose_sparsity))
    options = provider_options(option)
    if measure and not impose_sparsity:
        raise UsageError("--measure goes with --impose-sparsity; `ort-sparse bench` measures a model as it is")
    given = GivenModel.of(model, out.steps)
    if impose_sparsity:
        show_what_if(given, out, impose_sparsity, measured=measure, batch=batch, shapes=shape, threads=threads, options=options)
        return
    session = given.session(EP_NAME, options, threads)
    shapes = shapes_for(session, shape)
    sizes = open_sizes_for(session, batch, shapes)
    if sizes:
        session = given.session(EP_NAME, options, threads, sizes)
    macs = macs_of(given.source, batch or 1, shapes)
    decisions = explain(session)
    times = expected(decisions)
    rows = [(d, macs.get(key_of(d)) if d.op_type in PRODUCTS else None) for d in decisions]
    shown = [row for row in rows if every or _is_weighty(row[0])]

    typed = bool({d.dtype for d, _ in shown} - {"", "float32"})
    columns = [column for name in COLUMNS for column in (name, *["dtype"] * (typed and name == "weight"))]
    table, notes = out.table(*columns), Footnotes()
    for d, count in shown:
        table.add_row(
            "(compiled region)" if d.code == COMPILED.code else d.name or "(unnamed)",
            f"{d.domain}.{d.op_type}" if d.domain else d.op_type,
            "x".join(map(str, d.shape)) if d.shape is not None else "",
            *[d.dtype] * typed,
            *(f"{share:.1%}" if share is not None else "" for share in (d.sparsity, d.limit)),
            d.pattern,
            _count(count),
            *(f"{ms:.3f}" if ms is not None else "" for ms in (d.cpu_ms, d.ms)),
            str(d.region) if d.region is not None else "-",
            notes.number(d.code, _reason(d)),
        )
    if shown:
        out.print(table)
        out.notes(notes.notes(), {d.code: ADVICE[d.code] for d, _ in shown if not d.taken or d.code == COMPILED.code})
        out.print()
    totals = _totals(rows)
    out.print(_summary(totals))
    shares = totals["patterns"]
    if shares and not shares.keys() <= {"", "dense", "unstructured"}:
        out.print("patterns by MACs: " + ", ".join(f"{pattern or 'not constant'} {share:.1%}" for pattern, share in shares.items()))
    if times is not None:
        out.print(
            f"expected: {times.cpu_ms:.3f} ms with the CPU provider, {times.ms:.3f} ms with {EP_NAME}, {times.speedup:.2f} times as fast"
        )
    inputs = [i for i in session.get_inputs() if not all(isinstance(size, int) for size in i.shape)]
    if inputs and not sizes and any(d.code == "below-break-even" for d, _ in shown):
        left_open = ", ".join(f"{i.name} [{', '.join(map(str, i.shape))}]" for i in inputs)
        out.print(f"open sizes: {left_open}; a layer has to gain at every size. --batch and --shape show the decisions for fixed sizes.")
    nodes = [{**d.to_dict(), "advice": ADVICE[d.code], "macs": n, "macs_share": _share(n, totals["macs"])} for d, n in shown]
    out.document({"model": given.name, "options": options, "totals": totals, "expected": times and times.to_dict(), "nodes": nodes})


def _is_weighty(d: NodeDecision) -> bool:
    """Return whether a node is shown without --all: a product, one with a constant weight, or a compiled region."""
    return d.op_type in PRODUCTS or d.sparsity is not None or d.code == COMPILED.code


def _reason(d: NodeDecision) -> str:
    return f"{d.reason} (override: {d.option})" if d.option and not d.taken else d.reason


def _totals(rows: list[tuple[NodeDecision, int | None]]) -> dict[str, Any]:
    """Return counts over all nodes, and shares of all MACs of products. The shares are None if one product's are unknown."""
    compiled = sum(d.code == COMPILED.code for d, _ in rows)
    pruned = [d for d, _ in rows if is_pruned(d)]
    products = [(d, count) for d, count in rows if d.op_type in PRODUCTS]
    known = [(d, count) for d, count in products if count is not None]
    total = sum(count for _, count in known) if len(known) == len(products) else 0
    return {
        "nodes": len(rows),
        "nodes_taken": sum(d.taken for d, _ in rows),
        "compiled": compiled,
        "regions": len({d.region for d, _ in rows if d.taken}),
        "pruned_nodes": len(pruned),
        "pruned_nodes_taken": sum(d.taken for d in pruned),
        "products": len(products),
        "macs": total or None,
        "macs_taken_share": sum(count for d, count in known if d.taken) / total if total else None,
        "macs_zero_share": sum(count * (d.sparsity or 0.0) for d, count in known) / total if total else None,
        "patterns": _shares_of_patterns(known, total),
    }


def _shares_of_patterns(known: list[tuple[NodeDecision, int]], total: int) -> dict[str, float] | None:
    """Return the share of all MACs that layers of each pattern of zeros have, the largest first; None if MACs are unknown."""
    if not total:
        return None
    macs: Counter[str] = Counter()
    for d, count in known:
        macs[d.pattern] += count
    return {pattern: count / total for pattern, count in macs.most_common()}


def _share(count: int | None, total: int | None) -> float | None:
    return count / total if count is not None and total else None


def is_pruned(d: NodeDecision) -> bool:
    """Return whether the weight of a node is pruned."""
    return d.sparsity is not None and d.pattern not in ("", "dense")


def _summary(t: dict[str, Any]) -> str:
    if t["compiled"]:
        others = counted(t["nodes"] - t["compiled"], "other node")
        return f"a compiled model: {counted(t['compiled'], 'region')} of {EP_NAME}, whose nodes and weights are not in it, and {others}"
    words = f"{EP_NAME} takes {t['nodes_taken']} of {counted(t['nodes'], 'node')} in {counted(t['regions'], 'region')}"
    words += f", {t['pruned_nodes_taken']} of {t['pruned_nodes']} pruned ones"
    if not t["products"]:
        return words
    if t["macs"] is None:
        return f"{words}; MACs unknown: the shapes of some products cannot be inferred (try --shape)"
    share = f"{t['macs_taken_share']:.1%} of {_count(t['macs'])} MACs"
    return f"{words}, {share}; {t['macs_zero_share']:.1%} of all MACs multiply with a zero weight"


def _count(count: int | None) -> str:
    if count is None:
        return ""
    unit = next((u for u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= u[0]), (1, ""))
    return f"{count / unit[0]:.3g} {unit[1]}".rstrip() if unit[1] else str(count)
