"""The one table of compressed operators: their names, attributes, inputs and the ranks of their weights.

They belong to the domain `ep.sparse` and mean ONNX's operators of the same name. Their inputs are X, the nonzeros of the weight, the index
of the weight (`formats/weight_codec.py`) and then ONNX's own from the third on.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "ep.sparse"
VERSION = 1
WEIGHT_SHAPE = "weight_shape"
"""The attribute with the shape of the dense weight."""
SINCE_VERSION = 13
"""The version of ONNX's operators that the compressed ones mean."""


@dataclass(frozen=True, slots=True)
class CompressedOp:
    """One operator: how many inputs it has at most, the ranks its weight may have, and its attributes.

    In `attributes`, `tuple` stands for several integers. The attribute WEIGHT_SHAPE belongs to every operator.
    """

    inputs: int
    weight_ranks: tuple[int, ...]
    attributes: dict[str, type]


OPERATORS = {
    "Conv": CompressedOp(
        inputs=4,
        weight_ranks=(3, 4, 5),
        attributes={
            "auto_pad": str,
            "dilations": tuple,
            "group": int,
            "kernel_shape": tuple,
            "pads": tuple,
            "strides": tuple,
            WEIGHT_SHAPE: tuple,
        },
    ),
    "MatMul": CompressedOp(inputs=3, weight_ranks=(2,), attributes={WEIGHT_SHAPE: tuple}),
    "Gemm": CompressedOp(
        inputs=4, weight_ranks=(2,), attributes={"alpha": float, "beta": float, "transA": int, "transB": int, WEIGHT_SHAPE: tuple}
    ),
}
"""The operators by name."""
