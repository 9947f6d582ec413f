"""`ort-sparse compare`: whether the outputs of both providers agree."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import measure
from ..measure import CPU, TOLERANCE
from ..options import EP_NAME
from .common import (
    Batch,
    Inputs,
    JsonOption,
    ModelArgument,
    Output,
    ProviderOptions,
    Seed,
    Shapes,
    Threads,
    provider_options,
)
from .given import GivenModel, run
from .inputs import feeds_for


def compare(
    model: ModelArgument,
    *,
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    rtol_scale: Annotated[
        float, typer.Option("--rtol-scale", min=0.0, help="Largest max|y - y_ort| / max|y_ort| of an output.")
    ] = TOLERANCE,
    require_owned: Annotated[bool, typer.Option("--require-owned", help="Fail if the sparse provider takes no node.")] = False,
    option: ProviderOptions = None,
    json: JsonOption = None,
) -> None:
    """Compare the outputs of both providers.

    Exit code 1 if an output differs by more than --rtol-scale, or if no output could be compared.
    """
    out = Output("compare", json, model, [inputs])
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    reference = given.session(CPU, threads=threads)
    feeds = feeds_for(reference, batch, shape, inputs, seed)
    theirs = run(reference, feeds, CPU)
    session = given.session(EP_NAME, options, threads)
    ours = run(session, feeds, EP_NAME)
    owned = measure.ownership(session)
    agreements = measure.agree([output.name for output in session.get_outputs()], ours, theirs)

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
    ok = bool(agreements) and all(a.within(rtol_scale) for a in agreements) and not (require_owned and not owned.owned)
    if not agreements:
        out.print("nothing compared: no output is a tensor of numbers")
    note = "" if owned.owned else "; no node taken: compared the CPU provider with itself"
    out.print(f"{EP_NAME} has {owned.owned} of {owned.nodes} nodes{note}")
    out.print("ok" if ok else "FAIL")
    out.document(
        {
            "model": given.name,
            "options": options,
            "rtol_scale": rtol_scale,
            "ok": ok,
            "ownership": owned.to_dict(),
            "outputs": [{**a.to_dict(), "ok": a.within(rtol_scale)} for a in agreements],
        }
    )
    if not ok:
        raise typer.Exit(1)
