"""Where the time goes: the steps of our regions by their kind, and the nodes that stay with the CPU provider.

    python tests/benchmarks/steps.py [--threads 1] [--sparsity 0.9] [--runs 10] [--json FILE] [NET ...]

A line per net: milliseconds of a run of one item, and shares of it. Steps are timed with the option `profile`, as `ort-sparse bench
--per-step` does.
"""

from __future__ import annotations

import argparse

from report import Report, add_json

from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.models import BUILDERS, inputs_for

NETS = ("resnet50", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "bert_base", "lstm")
GROUPS = {"product": "products", "recurrent": "recurrent", "depthwise": "depthwise"}
OTHERS, OUTSIDE = "other steps", "CPU provider and calls"
COLUMNS = (("net", "{net}"), ("ms", "{ms:.2f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--runs", type=int, default=10)
    add_json(parser)
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET")
    arguments = parser.parse_args()
    with Report(arguments.json) as report:
        report.table("", COLUMNS, ("{kind}", "{share:.0%}"))
        for net in arguments.nets:
            model = BUILDERS[net](sparsity=arguments.sparsity)
            profile = measure.profile(model.SerializeToString(), inputs_for(model), {}, arguments.threads, runs=arguments.runs, budget_s=4)
            shares = dict.fromkeys([*GROUPS.values(), OTHERS], 0.0)
            for kind, cost in profile.kinds.items():
                shares[GROUPS.get(kind, OTHERS)] += cost.ms / profile.wall_ms
            shares[OUTSIDE] = max(1 - sum(shares.values()), 0.0)
            report.rows([{"net": net, "ms": profile.wall_ms, "kind": kind, "share": share} for kind, share in shares.items()])


if __name__ == "__main__":
    main()
