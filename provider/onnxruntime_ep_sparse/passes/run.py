"""The list of passes: what is judged is what is lowered, because `partition` and `pipeline.py` both run this list."""

from __future__ import annotations

from ..graph.ir import Graph
from .activations import fuse_gates, fuse_gelus, fuse_tanh_gelus, name_slopes
from .batchnorm import fold_batchnorms
from .dead_channels import remove_dead_channels
from .decompress import join_weights
from .layer_norm import fuse_layer_norms, fuse_rms_norms
from .masks import fuse_nan_fills
from .pads import fold_pads
from .pairs import order_pairs
from .quantized import read_quantized
from .unblock import unblock

PASSES = (
    *(unblock, join_weights, read_quantized, fold_batchnorms, fuse_gates, fuse_gelus, fuse_tanh_gelus, name_slopes),
    *(fuse_layer_norms, fuse_rms_norms, fuse_nan_fills, order_pairs, fold_pads, remove_dead_channels),
)
"""In this order: ONNX Runtime's blocked layout first, and compressed weights, which become parts of what reads them. Then what is
quantised, because its groups hold operators that others fuse. Then fusions, because dead channels are followed through what is fused."""


def run_passes(graph: Graph) -> Graph:
    """Return the graph after all passes. Its inputs and outputs stay as they are; nodes keep their index."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph
