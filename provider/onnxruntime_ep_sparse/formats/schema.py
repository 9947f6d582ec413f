"""The one table of compressed operators: their names, attributes, inputs and the ranks of their weights.

They belong to the domain `ep.sparse` and mean ONNX's operators of the same name. The inputs of products are X, the nonzeros of the weight,
the index of the weight (`formats/weight_codec.py`) and then ONNX's own from the third on. Those of Weight, which stands for a weight of
any other operator, are its nonzeros and its index.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.ir import FLOAT, INT8, UINT8
from .weight_codec import MAX_RANK

DOMAIN = "ep.sparse"
VERSION = 1
WEIGHT_SHAPE = "weight_shape"
"""The attribute with the shape of the dense weight."""
SINCE_VERSION = 13
"""The version of ONNX's operators that the compressed ones mean."""


@dataclass(frozen=True, slots=True)
class CompressedOp:
    """One operator: how many inputs it has at most, the ranks its weight may have, and its attributes.

    In `attributes`, `tuple` stands for several integers. The attribute WEIGHT_SHAPE belongs to every operator. The nonzeros of the weight
    are the input `weight`, and its index the one after that. `types` are the element types that the weight and the result may have.
    """

    inputs: int
    weight_ranks: tuple[int, ...]
    attributes: dict[str, type]
    weight: int = 1
    types: tuple[int, ...] = (FLOAT,)


WEIGHT = "Weight"
"""The operator that is the weight itself."""


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
    WEIGHT: CompressedOp(
        inputs=2, weight_ranks=tuple(range(1, MAX_RANK + 1)), attributes={WEIGHT_SHAPE: tuple}, weight=0, types=(FLOAT, INT8, UINT8)
    ),
}
"""The operators by name."""
PRODUCTS = tuple(name for name in OPERATORS if name != WEIGHT)
"""The operators that multiply by their weight."""
HELD = {
    "ConvInteger": (1,),
    "DequantizeLinear": (0,),
    "GRU": (1, 2),
    "LSTM": (1, 2),
    "MatMulInteger": (0, 1),
    "QGemm": (3,),
    "QLinearConv": (3,),
    "QLinearMatMul": (0, 3),
    "RNN": (1, 2),
}
"""Operators of files whose weights become a Weight, and the inputs that are weights."""
