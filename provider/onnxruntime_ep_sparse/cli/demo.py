"""`ort-sparse demo`: pruned nets on both providers, one of realistic size and one trained on real data, pruned in two ways."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import numpy as np
import typer

from .. import measure
from ..measure import CPU
from ..measure.machine import environment
from ..options import EP_NAME
from .bench import measured
from .bench_tables import show_point
from .common import JsonOption, Output, Threads, UsageError
from .given import GivenModel
from .inputs import feeds_for

NET = "model:resnet50:0.9"
ONE_SHOT = 0.95


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Measure fewer pairs of runs and train for a shorter time.")] = False,
    threads: Threads = 0,
    json: JsonOption = None,
) -> None:
    """Measure two pruned nets and prune a third, in a minute.

    The first is a ResNet-50 with random weights of which 90 % are zero. The second is a small net that is trained and
    pruned here on handwritten digits, to compare its accuracy on both providers. The third is the same net, trained
    dense and then pruned by `ort-sparse prune`, without more training.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError("the demo needs scikit-learn: pip install scikit-learn")
    out = Output("demo", json)
    out.print("ResNet-50, 90 % of its weights zero, one image")
    given = GivenModel.of(NET, out.steps)
    feeds = feeds_for(given.session(CPU, threads=threads))
    pairs, budget = (10, 5.0) if quick else (30, 8.0)
    result = measured(given, feeds, out, threads=threads, pairs=pairs, budget_s=budget, memory=False)
    show_point(result, out)

    out.print()
    out.print("A small convolutional net, trained on scikit-learn's handwritten digits and pruned during training")
    digits = _digits(out, threads, 12 if quick else 20)

    out.print()
    out.print(f"The same net, trained dense, then {ONE_SHOT:.0%} of two layers pruned from its images alone, without labels or training")
    one_shot = _one_shot(out, threads, *((10, 1.0) if quick else (30, 4.0)))
    ok = result.speed_up is not None and result.agrees and digits["ok"] and one_shot["ok"]
    out.print("ok" if ok else "FAIL")
    out.document(
        {
            "ok": ok,
            "environment": environment(),
            "resnet50": result.to_dict(),
            "digits": digits,
            "one_shot": one_shot,
        }
    )
    if not ok:
        raise typer.Exit(1)


def _digits(out: Output, threads: int, epochs: int) -> dict[str, Any]:
    """Return the nodes that the sparse provider has in the digits net, and the accuracy of both providers on test images."""
    from threadpoolctl import threadpool_limits

    from ..models import digits

    with threadpool_limits(1):  # products this small get slower with more threads: 52 s of CPU time instead of 19 s on a busy machine
        trained = digits.train(seed=0, progress=lambda share: out.steps("train", share), epochs=epochs)
    model = trained.model.SerializeToString()
    ours, theirs = measure.make_session(model, EP_NAME, None, threads), measure.make_session(model, CPU, None, threads)
    owned = measure.ownership(ours)
    feeds = {ours.get_inputs()[0].name: trained.images__nchw}
    results = {EP_NAME: ours.run(None, feeds)[0], CPU: theirs.run(None, feeds)[0]}
    accuracy = {name: float(trained.accuracy(y)) for name, y in results.items()}
    (agreement,) = measure.agree([ours.get_outputs()[0].name], [results[EP_NAME]], [results[CPU]])

    out.print(f"{EP_NAME} has {owned.owned} of {owned.nodes} nodes")
    table = out.table("provider", f">accuracy on {len(np.asarray(trained.labels))} images")
    for name, share in accuracy.items():
        table.add_row(name, f"{share:.2%}")
    out.print(table)
    out.print(f"agreement  max|y - y_ort| = {agreement.max_relative:.1e} max|y_ort|, arg-max equal in {agreement.argmax or 0:.2%}")
    return {
        "ok": owned.owned > 0 and agreement.within(),
        "ownership": owned.to_dict(),
        "accuracy": accuracy,
        "agreement": agreement.to_dict(),
    }


def _one_shot(out: Output, threads: int, pairs: int, budget_s: float) -> dict[str, Any]:
    """Return the accuracy of a net that is pruned after its training, by magnitude and by `admm`, and the speed of the latter."""
    from threadpoolctl import threadpool_limits

    from ..models import digits
    from ..prune import prune

    with threadpool_limits(1):
        trained = digits.train(seed=0, progress=lambda share: out.steps("train without pruning", share), sparsity=0.0, epochs=8)
    models = {"dense": trained.model}
    out.steps("prune", 0)
    for number, method in enumerate(("magnitude", "admm"), 1):
        models[method] = prune(trained.model, [{"image": trained.training__nchw}], sparsity=ONE_SHOT, method=method, timed=False).model
        out.steps("prune", number / 2)
    feeds = {"image": trained.images__nchw}
    accuracy = {}
    for name, model in models.items():
        (logits,) = measure.make_session(model.SerializeToString(), CPU, None, threads).run(None, feeds)
        accuracy[name] = trained.accuracy(logits)
    given = GivenModel("the pruned net", models["admm"].SerializeToString())
    result = measured(given, feeds, out, threads=threads, pairs=pairs, budget_s=budget_s, memory=False)

    table = out.table("pruned by", f">accuracy on {len(trained.labels)} images")
    for name, share in accuracy.items():
        table.add_row("nothing" if name == "dense" else f"--method {name}", f"{share:.2%}")
    out.print(table)
    show_point(result, out)
    better = accuracy["admm"] > accuracy["magnitude"]
    return {"ok": better and result.speed_up is not None and result.agrees, "accuracy": accuracy, **result.to_dict()}
