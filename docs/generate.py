"""Writes the documents that follow from tables in the code: `python docs/generate.py` with the package installed."""

from __future__ import annotations

from pathlib import Path

from onnxruntime_ep_sparse import options
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.row import FUSED
from onnxruntime_ep_sparse.program import limits

HERE = Path(__file__).parent

OPTIONS = """\
# Options

<!-- Written by generate.py from options.py. -->

Provider options are strings, given where ONNX Runtime takes them, or checked in Python at once by `session_options()`:

```python
providers = [("SparseExecutionProvider", {{"policy": "always", "threads": "2"}}), "CPUExecutionProvider"]
session = onnxruntime.InferenceSession("model.onnx", providers=providers, enable_fallback=0)

chosen = onnxruntime_ep_sparse.session_options({{"policy": "always"}})
session = onnxruntime.InferenceSession("model.onnx", chosen)
```

{table}
An option that is not given is read from the environment: {variables}.
Without that it has its default.

An unknown option, or a value that is not valid, is an error that lists what is. On the `providers=` way ONNX Runtime prints that error
and goes on with the CPU provider alone, unless the session is created with `enable_fallback=0`.

`threads` is filled in by `session_options()` from `intra_op_num_threads`. Elsewhere the entry `session.intra_op_num_threads` and the
variable `ORT_INTRA_OP_NUM_THREADS` serve, and without them the number of CPUs that the process may use. A wrong number
costs speed only; above 1024 it counts as that.
"""

MODELS = """\
# Supported models

<!-- Written by generate.py from ops/table.py. -->

An ordinary ONNX file with float32 weights that hold zeros: no conversion, no annotation. `ort-sparse analyze MODEL`, or `explain(session)`
in Python, tells for every node whether it is taken, why, and which option would change that.

## What is taken

The unit is a region: a connected piece of the graph around products with pruned weights.

1. A **product** is wanted when its share of zeros reaches its break-even, which a model of cost computes from the shape of the layer
   (`min_sparsity` overrides it). A product too small to gain from any sparsity is not wanted. One below its break-even is wanted all the
   same if enough of it goes with **dead channels**: outputs without weights, constant from there on, and inputs that nothing reads.
2. The region grows over neighbours that can be run, pruned or not, as long as it can be contracted into one node without a cycle.
   **Activations** behind a product, the addition of a residual, and constants that act as bias become part of the product.
3. Nodes at the rim go back where handing over is expected to cost less than keeping them, and the region is taken only if it is expected
   to gain as a whole, or `min_sparsity` says so.

`policy=always` takes all that can be run and `policy=never` nothing.

## Operators

| operators | role | limits |
| --- | --- | --- |
{operators}

All take float32 tensors of known rank, at most {rank} dimensions; any dimension may vary from run to run.
The numbers of a window (kernel, strides, dilations, pads) are below 65,536, and it spans at most a million pixels.

## What is declined

- every other operator, and the ones above beyond their limits;
- other types than float32: float16, bfloat16, float64, and quantised models (`QLinearConv`, `QDQ` nodes);
- products whose weights are not constant in the file, or are graph inputs that a caller may override;
- the bodies of `If`, `Loop` and `Scan`;
- nodes that another provider has already taken.

What is declined runs on ONNX Runtime's CPU provider, as without this one.

## Usual nets

| net | a region may hold | between regions |
| --- | --- | --- |
| ResNet, VGG, MobileNet, EfficientNet | everything, the first convolution and the classifier included | |
| U-Net | everything, skips and upsampling by `Resize` included | `ConvTranspose` |
| BERT, ViT | `MatMul` and `Gemm` with weights, bias, GELU, residual | attention, `LayerNormalization`, `Softmax` |
| LSTM, GRU, RNN | everything, what is between layers included | |
"""


def operators() -> str:
    """The table of operators; those of equal role and limits share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for row in ops.OPS.values():
        if row.domains == (FUSED,):
            continue
        names = [f"`{domain + '.' if domain else ''}{row.op_type}`" for domain in row.domains if domain != "ai.onnx"]
        rows.setdefault((row.role, row.note), []).extend(names)
    return "\n".join(f"| {', '.join(names)} | {role} | {note} |" for (role, note), names in rows.items())


def documents() -> dict[str, str]:
    """File name -> text."""
    variables = ", ".join(f"`{option.variable}`" for option in options.OPTIONS)
    return {
        "options.md": OPTIONS.format(table=options.markdown(), variables=variables),
        "supported-models.md": MODELS.format(operators=operators(), rank=limits.MAX_RANK),
    }


if __name__ == "__main__":
    for name, text in documents().items():
        (HERE / name).write_text(text)
