"""The numbers that Python and C share; `setup.py` writes `runtime/_enums.pxd` from this file and `limits.py`.

Imports nothing, because the build loads it before the package exists. A member's number stands in no file: compiled models hold names.
"""

from __future__ import annotations

from enum import IntEnum


class StepKind(IntEnum):
    """Kinds of steps."""

    PRODUCT = 0
    """Conv, Gemm, MatMul by packed weights."""
    POOL = 1
    """MaxPool, AveragePool."""
    REDUCE = 2
    """Global pools, ReduceMean, ReduceSum and the like."""
    ACTIVATE = 3
    BINARY = 4
    RESHAPE = 5
    """No data moves unless the result must be in a buffer of its own."""
    CONCAT = 6
    """One operand of a Concat; no data moves where its maker can write into the result."""
    PAD = 7
    RESIZE = 8
    SHUFFLE = 9
    """DepthToSpace and SpaceToDepth, and how the phases of a ConvTranspose become an image."""
    DEPTHWISE = 10
    """Conv whose outputs each read one channel."""
    RECURRENT = 11
    """LSTM, GRU, RNN after their input projection."""
    NORMALIZE = 12
    """LayerNormalization and RMSNormalization over the last dimension."""
    TRANSPOSE = 13
    NORMALIZE_GROUPS = 14
    """GroupNormalization, InstanceNormalization."""
    PART = 15
    """Slice, Split, Gather; no data moves where the part is one run of the value."""
    EXPAND = 16
    SOFTMAX = 17
    CONVERT = 18
    """float16 or bfloat16 to float32, the reverse, or float32 rounded to numbers of these types."""
    LOOK_UP = 19
    """A function of 256 integers."""
    COMBINE = 20
    """QLinearAdd, QLinearMul."""
    DYNAMIC_QUANTIZE = 21
    """DynamicQuantizeLinear."""
    CARRY = 22
    """From integers to floats less a zero point, or back."""
    BYTE_PRODUCT = 23
    """Conv, Gemm, MatMul of bytes by packed weights of 8 bits."""
    NORMALIZE_NEAR = 24
    """LRN, by channels that stand near each other."""
    RESAMPLE = 25
    """Resize along one axis."""
    PAIR_PRODUCT = 26
    """MatMul of two values that a run computes."""
    BYTE_DEPTHWISE = 27
    """Conv of bytes whose outputs each read one channel."""
    INTEGERS = 28
    """Arithmetic and comparisons of int64 or int32, and Cast from and to them."""
    RANGE = 29
    CHOOSE = 30
    """Where."""
    TAKE = 31
    """Gather and GatherND by indices that a run computes."""
    ROTATE = 32
    """RotaryEmbedding."""
    EXTEND = 33
    """Keys or values of earlier positions, and those of new ones after them."""
    ACCUMULATE = 34
    """CumSum."""
    SCALE_CHANNELS = 35
    """BatchNormalization that no convolution before it takes in, and the activation after it."""
    SCATTER = 36
    """ScatterND."""


class ShapeRule(IntEnum):
    """How the output's shape of a product follows from its input's."""

    CONV = 0
    """x[N, C, spatial] -> [N, M, spatial']"""
    MATMUL_RIGHT = 1
    """x[..., rows, K] . W[batch, K, M]"""
    MATMUL_LEFT = 2
    """W[batch, M, K] . x[..., K, pixels]"""
    GEMM = 3
    """2-D, x and y possibly transposed."""


class Cell(IntEnum):
    """Recurrent cells."""

    LSTM = 0
    GRU = 1
    RNN = 2


class AutoPad(IntEnum):
    """How a window gets its padding: given, or from ONNX's auto_pad."""

    EXPLICIT = 0
    SAME_UPPER = 1
    SAME_LOWER = 2


class PadMode(IntEnum):
    """ONNX's modes of Pad: a number around the input, or elements of the input."""

    CONSTANT = 0
    REFLECT = 1
    EDGE = 2
    WRAP = 3


class Coordinates(IntEnum):
    """ONNX's coordinate_transformation_mode: where a pixel of a resized image stands in the original."""

    ASYMMETRIC = 0
    HALF_PIXEL = 1
    PYTORCH_HALF_PIXEL = 2
    ALIGN_CORNERS = 3
    TF_HALF_PIXEL_FOR_NN = 4
    HALF_PIXEL_SYMMETRIC = 5


class Interpolation(IntEnum):
    """How a resized image reads the original: linearly, by cubic polynomials, or the one pixel that ONNX's nearest_mode chooses."""

    LINEAR = 0
    ROUND_PREFER_FLOOR = 1
    ROUND_PREFER_CEIL = 2
    FLOOR = 3
    CEIL = 4
    VERSION_10 = 5
    """Nearest before modes had names (Resize 10): up when shrinking, else down."""
    CUBIC = 6


class ElementType(IntEnum):
    """The element type of a value: the number of ONNX (`ONNXTensorElementDataType`), and the type of numpy that holds the bits.

    numpy has no bfloat16; its bits are those of uint16.
    """

    onnx: int
    bits: str

    def __new__(cls, onnx: int, bits: str) -> ElementType:
        """Number the members in their order."""
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.onnx = onnx
        member.bits = bits
        return member

    FLOAT32 = 1, "float32"
    FLOAT16 = 10, "float16"
    BFLOAT16 = 16, "uint16"
    UINT8 = 2, "uint8"
    INT8 = 3, "int8"
    INT32 = 6, "int32"
    INT64 = 7, "int64"
    BOOL = 9, "bool"


class NumberOp(IntEnum):
    """How a plan computes numbers: from shapes, from other numbers, or from an input of integers."""

    LITERAL = 0
    """Given."""
    INPUT = 1
    """The contents of an input of the program."""
    SHAPE = 2
    """Dimensions of a value."""
    PICK = 3
    """Some of the operand's, in any order."""
    JOIN = 4
    """Those of both operands, one after the other."""
    SELECT = 5
    """Those of the second operand where the first is not 0, else those of the third."""
    CAST = 6
    NEG = 7
    ABS = 8
    FLOOR = 9
    CEIL = 10
    ROUND = 11
    SQRT = 12
    NOT = 13
    ADD = 14
    SUB = 15
    MUL = 16
    DIV = 17
    MOD = 18
    MIN = 19
    MAX = 20
    EQUAL = 21
    LESS = 22
    LESS_EQUAL = 23
    AND = 24
    OR = 25
    SUM = 26
    """Of all numbers of the operand."""
    PRODUCT = 27


C_PREFIXES = {
    StepKind: "STEP",
    ShapeRule: "SHAPE",
    Cell: "CELL",
    AutoPad: "PAD",
    PadMode: "FILL",
    Coordinates: "AT",
    Interpolation: "READ",
    ElementType: "TYPE",
    NumberOp: "NUMBER",
}
"""Each enum with the prefix of its members in C: `Cell.GRU` is CELL_GRU."""
