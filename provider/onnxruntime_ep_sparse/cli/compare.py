"""`ort-sparse compare`: whether the outputs of both providers agree, and if not, from which node on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import measure
from ..measure import CPU
from ..measure.agreement import BYTES, HALF_TOLERANCE, SPREAD, TOLERANCE
from ..measure.spread import judged
from ..options import EP_NAME
from ..records import counted
from .common import (
    Batch,
    FailedError,
    Inputs,
    JsonOption,
    ModelArgument,
    Output,
    ProviderOptions,
    Seed,
    Shapes,
    Threads,
    UsageError,
    provider_options,
)
from .given import GivenModel, run
from .inputs import feeds_for

if TYPE_CHECKING:
    from ..measure.node_results import NodeComparison

BAR = 40
"""Longest bar of a histogram."""
Other = Annotated[str | None, typer.Argument(metavar="[OTHER]", help="A second model, which the sparse provider runs instead.")]


def compare(
    model: ModelArgument,
    other: Other = None,
    *,
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    rtol_scale: Annotated[
        float | None,
        typer.Option(
            "--rtol-scale",
            metavar="SHARE",
            min=0.0,
            help=f"Largest max|y - y_ort| / max|y_ort| of an output. {TOLERANCE:g} without, {HALF_TOLERANCE:g} for float16, "
            f"or {SPREAD} times as much as runs of the CPU provider with other settings differ.",
        ),
    ] = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="Find the first node whose value differs by more than that.")] = False,
    require_owned: Annotated[bool, typer.Option("--require-owned", help="Fail if the sparse provider takes no node.")] = False,
    option: ProviderOptions = None,
    json: JsonOption = None,
) -> None:
    """Compare the outputs of both providers.

    With OTHER, the CPU provider runs MODEL and the sparse provider runs OTHER: a copy, or another export.
    --nodes compares every value of the model, in the order of the nodes. To see the values inside of regions, it cuts
    the regions; meanwhile the sparse provider takes all nodes that it can run.
    Exit code 1 if an output or a value differs by more than --rtol-scale, or if nothing could be compared.
    """
    out = Output("compare", json, model, [inputs, other])
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    second = given if other is None else GivenModel.of(other, out.steps)
    reference = given.session(CPU, threads=threads)
    feeds = feeds_for(reference, batch, shape, inputs, seed)
    theirs = run(reference, feeds, CPU)
    if nodes:
        del reference
        _compare_nodes(given, second, feeds, out, {"options": options, "threads": threads, "tolerance": rtol_scale}, require_owned)
        return
    session = second.session(EP_NAME, options, threads)
    if second is not given:
        _check_same(given, reference, second, session)
    ours = run(session, feeds, EP_NAME)
    owned = measure.ownership(session)
    names = [output.name for output in reference.get_outputs()]
    agreements = measure.agree(names, ours, theirs)
    if second is given and rtol_scale is None:
        mine, other_side = (dict(zip(names, outputs, strict=True)) for outputs in (ours, theirs))
        agreements = judged(agreements, mine, other_side, given.source, feeds, threads)

    table = out.table("output", "shape", ">max|y_ort|", ">max abs", ">mean abs", ">max relative to scale", ">cosine", ">arg-max", "verdict")
    for a in agreements:
        table.add_row(
            a.output,
            "x".join(map(str, a.shape)),
            f"{a.scale:.4g}",
            f"{a.max_abs:.2e}",
            f"{a.mean_abs:.2e}",
            f"{a.max_relative:.2e}",
            f"{a.cosine:.8f}",
            "" if a.argmax is None else f"{a.argmax:.2%}",
            "ok" if a.within(rtol_scale) else "DIFFERS",
        )
    out.print(table)
    for a in agreements:
        if a.spread is not None:
            out.print(f"{a.output}: {a.verdict}")
    ok = bool(agreements) and all(a.within(rtol_scale) for a in agreements) and not (require_owned and not owned.owned)
    if not agreements:
        out.print("nothing compared: no output is a tensor of numbers")
    note = "" if owned.owned else "; no node taken: compared the CPU provider with itself"
    out.print(f"{EP_NAME} has {owned.owned} of {counted(owned.nodes, 'node')}{note}")
    out.print("ok" if ok else "FAIL")
    out.document(
        {
            "model": given.name,
            "other": None if second is given else second.name,
            "options": options,
            "rtol_scale": rtol_scale,
            "ok": ok,
            "ownership": owned.to_dict(),
            "outputs": [{**a.to_dict(), "ok": a.within(rtol_scale)} for a in agreements],
        }
    )
    if not ok:
        raise typer.Exit(1)


def _compare_nodes(
    given: GivenModel, second: GivenModel, feeds: measure.Feeds, out: Output, arguments: dict[str, Any], require_owned: bool
) -> None:
    """Find the first node whose value differs, and show it."""
    from ..measure.nodes import compare_nodes

    if second is not given:
        _check_same(given, given.session(CPU), second, second.session(CPU))
    other = None if second is given else second.source
    try:
        result = compare_nodes(given.source, feeds, other=other, **arguments, progress=out.steps)
    except ValueError as error:
        raise UsageError(f"{given.name}: {error}") from None
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()
    show(result, out)
    ok = result.agrees and not (require_owned and not result.ownership.owned)
    if not result.values:
        out.print("nothing compared: no value is a tensor of numbers")
    out.print(f"without cuts, {EP_NAME} has {result.ownership.owned} of {counted(result.ownership.nodes, 'node')}")
    out.print("ok" if ok else "FAIL")
    names = {"model": given.name, "other": None if second is given else second.name}
    rest = {"options": arguments["options"], "rtol_scale": arguments["tolerance"], "ok": ok}
    out.document({**result.to_dict(), **names, **rest})
    if not ok:
        raise typer.Exit(1)


def show(result: NodeComparison, out: Output) -> None:
    """Print the first difference: its node, its constants, statistics of both values, a histogram of the errors and the worst elements."""
    first = result.first
    if first is None:
        near = [each for each in result.values if not each.inherited]
        worst = max(near, key=lambda each: each.agreement.max_relative, default=None)
        about = "" if worst is None else f"; the farthest are {worst.agreement.max_relative:.1e} apart: {worst.value} of {worst.node}"
        out.print(f"{counted(len(near), 'value')} of {counted(result.nodes, 'node')} within {result.tolerance:.0e}{about}")
        _show_rounding(result, out)
        return
    out.print(f"first difference: {first.node} ({first.op_type}), node {first.number} of {result.nodes}, in its value {first.value}")
    if first.fused:
        out.print("It shows only where the provider fuses this node with those before it: cut at every value, all values agree.")
    error = first.agreement.max_relative
    size = "x".join(map(str, first.agreement.shape)) or "a scalar"
    if first.agreement.dtype in BYTES:
        how_far = f"by at most {counted(round(first.agreement.max_abs), 'step')}, {first.beyond:.2%} by more than the tolerance"
        out.print(f"{first.agreement.different:,} elements of {size} differ, {how_far}")
    else:
        out.print(f"max|y - y_ort| = {error:.1e} max|y_ort|, {first.beyond:.2%} of {size} beyond the tolerance of {result.tolerance:.0e}")
    for name, before in first.inputs.items():
        out.print(f"its input {name} agrees within {before:.1e}")
    for weight in first.weights:
        if weight.different is None:
            out.print(f"its constant {weight.name} has another shape or type in the second file")
        else:
            count = f"{weight.different:,} of {weight.size:,} elements"
            out.print(f"its constant {weight.name} differs between the files: {count}, by at most {weight.largest:.4g}")
    table = out.table("value", ">least", ">largest", ">mean", ">deviation", ">zeros", ">not finite")
    for name, each in ((CPU, first.reference), (EP_NAME, first.ours)):
        figures = [f"{number:.4g}" for number in (each.least, each.largest, each.mean, each.deviation)]
        table.add_row(name, *figures, f"{each.zeros:.1%}", str(each.not_finite))
    out.print(table)
    if first.histogram:
        most = max(count for _, count in first.histogram)
        in_steps = first.agreement.dtype in BYTES
        table = out.table(">error in steps" if in_steps else ">error / max|y_ort|", ">elements", "share")
        for i, (end, elements) in enumerate(first.histogram):
            bound = first.histogram[i - 1][0] if math.isinf(end) else end
            words = f"{'above' if math.isinf(end) else 'up to'} {f'{bound:g}' if in_steps else f'{bound:.0e}'}"
            table.add_row(words, f"{elements:,}", "#" * math.ceil(BAR * elements / most))
        out.print(table)
    if first.worst:
        table = out.table("element", f">{CPU}", f">{EP_NAME}", ">difference")
        for element in first.worst:
            figures = [f"{number:.7g}" for number in (element.reference, element.ours, element.ours - element.reference)]
            table.add_row("[" + ", ".join(map(str, element.index)) + "]", *figures)
        out.print(table)


def _show_rounding(result: NodeComparison, out: Output) -> None:
    """Say which 8-bit values were rounded otherwise, and how many values inherit that."""
    rounded = [each for each in result.values if each.agreement.dtype in BYTES and each.agreement.different]
    if not rounded:
        return
    elements = sum(math.prod(each.agreement.shape) for each in result.values if each.agreement.dtype in BYTES)
    different = sum(each.agreement.different for each in rounded)
    steps = counted(round(max(each.agreement.max_abs for each in rounded)), "step")
    inherited = sum(each.inherited for each in result.values)
    out.print(f"{different:,} of {elements:,} 8-bit integers differ, by at most {steps}; first in {rounded[0].value}")
    if inherited:
        out.print(f"{counted(inherited, 'value')} after it inherit that: on the inputs of {CPU}, their nodes agree")


def _check_same(given: GivenModel, reference: Any, second: GivenModel, session: Any) -> None:
    """Raise UsageError if two models have inputs or outputs of different names."""
    for what in ("inputs", "outputs"):
        names = [{each.name for each in getattr(one, f"get_{what}")()} for one in (reference, session)]
        if names[0] != names[1]:
            lists = [", ".join(sorted(each)) for each in names]
            raise UsageError(f"the {what} of {given.name} are {lists[0]}, those of {second.name} are {lists[1]}: they cannot be compared")
