"""What-if against measurement: the speed-up that `what_if` expects of nets with more zeros, and the one that the nets have then.

    python tests/benchmarks/what_if.py [--threads 1] [--pairs 12] [--json FILE] [NET ...]

Nets are built dense; the zeros are imposed by magnitude in the layers that `prune` would choose. "gain" is the sum over these layers.
"""

from __future__ import annotations

import argparse

from report import Report, add_json

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models

NETS = ("resnet50", "mobilenet_v2", "bert_base")
ZEROS = (0.8, 0.9)
COLUMNS = (
    ("net", "{net}"),
    ("zeros", "{zeros:.0%}"),
    ("expected", "{expected:.2f}"),
    ("measured [95 %]", "{measured:.2f} [{low:.2f}, {high:.2f}]"),
    ("expected / measured", "{ratio:.2f}"),
    ("gain expected, ms", "{gain:.2f}"),
    ("gain measured, ms", "{measured_gain:.2f}"),
    ("A/A", "{control:.3f}"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=12)
    add_json(parser)
    arguments = parser.parse_args()
    with Report(arguments.json) as made:
        made.table("", COLUMNS)
        for net in arguments.nets:
            model = models.BUILDERS[net](sparsity=0.0)
            for zeros in ZEROS:
                found = sparse.what_if(model, zeros, threads=arguments.threads, measured=True, pairs=arguments.pairs)
                if found.measured is None or found.measured.speed_up is None or found.measured.control is None:
                    made.row(net=net, zeros=zeros, expected=found.speedup)
                    continue
                ratio = found.measured.speed_up
                both = [layer for layer in found.layers if layer.measured_gain_ms is not None]
                made.row(
                    net=net,
                    zeros=zeros,
                    expected=found.speedup,
                    measured=ratio.median,
                    low=ratio.low,
                    high=ratio.high,
                    ratio=found.speedup / ratio.median,
                    gain=sum(layer.gain_ms for layer in both),
                    measured_gain=sum(layer.measured_gain_ms or 0.0 for layer in both),
                    control=found.measured.control.median,
                )


if __name__ == "__main__":
    main()
