"""Expected times and break-evens: numbers that must not change by accident, and what must hold for every operator."""

import pytest

from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.partition import cost
from support.nodes import C, one_node

CASES = {
    "conv": ("Conv", [(1, 64, 56, 56), (C, 64, 64, 3, 3)], (1, 64, 56, 56), {}),
    "conv 1x1": ("Conv", [(1, 256, 14, 14), (C, 1024, 256, 1, 1)], (1, 1024, 14, 14), {}),
    "conv on 7x7": ("Conv", [(1, 512, 7, 7), (C, 512, 512, 3, 3), (C, 512)], (1, 512, 7, 7), {}),
    "conv of one pixel": ("Conv", [(1, 512, 1, 1), (C, 128, 512, 1, 1)], (1, 128, 1, 1), {}),
    "conv of few pixels": ("Conv", [(1, 512, 2, 2), (C, 128, 512, 1, 1)], (1, 128, 2, 2), {}),
    "conv of open sizes": ("Conv", [("n", 16, "h", "w"), (C, 32, 16, 3, 3)], ("n", 32, None, None), {}),
    "conv of a batch": ("Conv", [(16, 16, 30, 30), (C, 32, 16, 3, 3)], (16, 32, 28, 28), {"strides": (1, 1)}),
    "conv 1-D": ("Conv", [(2, 80, 1500), (C, 384, 80, 3)], (2, 384, 1500), {}),
    "conv 1-D, open": ("Conv", [("n", 80, "t"), (C, 384, 80, 3)], ("n", 384, "t"), {}),
    "conv 3-D": ("Conv", [(1, 8, 8, 16, 16), (C, 16, 8, 3, 3, 3)], (1, 16, 8, 16, 16), {}),
    "depthwise": ("Conv", [(1, 128, 28, 28), (C, 128, 1, 3, 3)], (1, 128, 28, 28), {"group": 128}),
    "grouped": ("Conv", [(1, 128, 28, 28), (C, 256, 32, 3, 3)], (1, 256, 28, 28), {"group": 4}),
    "gemm": ("Gemm", [(32, 1024), (C, 1024, 4096), (C, 4096)], (32, 4096), {}),
    "gemm transB": ("Gemm", [(1, 2048), (C, 1000, 2048), (C, 1000)], (1, 1000), {"transB": 1}),
    "gemm of open rows": ("Gemm", [("n", 768), (C, 3072, 768)], ("n", 3072), {"transB": 1}),
    "gemm, weight on the left": ("Gemm", [(C, 300, 200), (200, 50)], (300, 50), {}),
    "gemm transA": ("Gemm", [(C, 200, 300), (200, "n")], (300, "n"), {"transA": 1}),
    "matmul": ("MatMul", [(128, 768), (C, 768, 3072)], (128, 3072), {}),
    "matmul of open rows": ("MatMul", [("n", 768), (C, 768, 3072)], ("n", 3072), {}),
    "matmul of open sequences": ("MatMul", [("n", "t", 768), (C, 768, 768)], ("n", "t", 768), {}),
    "matmul of 8 rows": ("MatMul", [(8, 512), (C, 512, 512)], (8, 512), {}),
    "matmul of a vector": ("MatMul", [(512,), (C, 512, 512)], (512,), {}),
    "matmul by a vector": ("MatMul", [(20, 512), (C, 512)], (20,), {}),
    "matmul on the left": ("MatMul", [(C, 64, 32), (4, 32, 100)], (4, 64, 100), {}),
    "matmul of a batch of weights": ("MatMul", [(4, 10, 64), (C, 4, 64, 32)], (4, 10, 32), {}),
    "lstm": ("LSTM", [(50, 1, 256), (C, 1, 1024, 256), (C, 1, 1024, 256)], (50, 1, 1, 256), {}),
    "lstm, open": ("LSTM", [("t", "n", 650), (C, 1, 2600, 650), (C, 1, 2600, 650)], ("t", 1, "n", 650), {}),
    "gru both ways": ("GRU", [(100, 4, 128), (C, 2, 1536, 128), (C, 2, 1536, 512)], (100, 2, 4, 512), {}),
    "rnn, batch first": ("RNN", [("n", 20, 64), (C, 1, 96, 64), (C, 1, 96, 96)], ("n", 20, 1, 96), {"layout": 1}),
    "relu": ("Relu", [(1, 64, 56, 56)], (1, 64, 56, 56), {}),
    "gelu": ("Gelu", [("n", "t", 3072)], ("n", "t", 3072), {}),
    "add": ("Add", [("n", 64, "h", "w"), ("n", 64, "h", "w")], ("n", 64, "h", "w"), {}),
    "pool": ("MaxPool", [(1, 64, 56, 56)], (1, 64, 28, 28), {"kernel_shape": (2, 2)}),
    "norm": ("LayerNormalization", [("n", 128, 768), (C, 768), (C, 768)], ("n", 128, 768), {}),
    "transpose": ("Transpose", [("n", 128, 12, 64)], ("n", 12, 128, 64), {}),
    "reshape": ("Reshape", [(1, 512, 7, 7), (C, 2)], (1, 25088), {}),
    "flatten": ("Flatten", [(1, 512, 7, 7)], (1, 25088), {}),
    "squeeze": ("Squeeze", [(1, 512, 1, 1), (C, 2)], (1, 512), {}),
    "concat": ("Concat", [(1, 32, 8, 8), (1, 64, 8, 8)], (1, 96, 8, 8), {"axis": 1}),
}
"""Operator, shapes of its inputs, shape of its output, attributes."""


PINNED = {
    "conv": (0.0032127640000000003, 0.0006157880426666667, 0.0031775527719298245, 0.42029622171312897),
    "conv 1x1": (0.0014287284444444443, 0.000281052, 0.0014037871578947369, 0.4562778841709507),
    "conv on 7x7": (0.0032127640000000003, 0.0005820970773333334, 0.003060475438596491, 0.4852607453724065),
    "conv of one pixel": (6.74288e-06, 3.4166315789473687e-06, 3.4166315789473687e-06, 0.8065233106737013),
    "conv of few pixels": (8.781777777777777e-06, 7.3142720000000005e-06, 9.166526315789474e-06, 0.8867394713674899),
    "conv of open sizes": (0.000101852, 2.7141301333333333e-05, 0.00010702364912280701, 0.4690573884577981),
    "conv of a batch": (0.001607132, 0.0004117608213333333, 0.0016898783859649123, 0.4682156635536443),
    "conv 1-D": (0.0076815, 0.00147029232, 0.007589289473684211, 0.4234330827696178),
    "conv 1-D, open": (0.00032918, 6.384112000000001e-05, 0.00032524568421052634, 0.419849784261791),
    "conv 3-D": (0.000198108, 4.4570805333333334e-05, 0.0002014135438596491, 0.4392963185794875),
    "depthwise": (9.181679999999999e-05, 1.0531680000000001e-05, 9.181679999999999e-05, 0.09241892779839223),
    "grouped": (0.0057817751999999995, 0.00057952752, 0.0057817751999999995, 0.09093268211048633),
    "gemm": (0.0037297702222222223, 0.001032512352, 0.0035663134736842106, 0.6637664720771491),
    "gemm transB": (0.00016534, 5.62440701754386e-05, 5.62440701754386e-05, 0.7935829274891775),
    "gemm of open rows": (0.008390108, 0.001732436832, 0.008046906315789474, 0.855963134765625),
    "gemm, weight on the left": (8.483333333333333e-05, 2.6473333333333333e-05, 8.628070175438596e-05, 0.6353820335011557),
    "gemm transA": (0.00021483333333333334, 5.795333333333334e-05, 0.00021853859649122807, 0.8668686868686869),
    "matmul": (0.008390108, 0.001732436832, 0.008046906315789474, 0.5389308139865394),
    "matmul of open rows": (0.008390108, 0.001732436832, 0.008046906315789474, 0.855963134765625),
    "matmul of open sequences": (0.0020986520000000003, 0.000458810208, 0.0020374275789473684, 0.5449770657201987),
    "matmul of 8 rows": (5.975422222222222e-05, 1.6655200000000003e-05, 5.873621052631579e-05, 0.6126249679411301),
    "matmul of a vector": (2.2471519999999998e-05, 8.654526315789474e-06, 8.654526315789474e-06, 0.7964842164671266),
    "matmul by a vector": (1.7844444444444444e-06, 5.024698666666666e-06, 5.186140350877193e-06, 2.0),
    "matmul on the left": (2.4255555555555556e-05, 1.4661813333333335e-05, 3.159122807017544e-05, 0.740364618251095),
    "matmul of a batch of weights": (3.7755555555555555e-06, 4.722456140350877e-06, 4.722456140350877e-06, 0.9601241632123119),
    "lstm": (0.0015403648888888887, 0.0006828759359999999, 0.00556425936, 0.767719835348352),
    "lstm, open": (0.011921144444444445, 0.0046758400000000006, 0.044008900000000004, 0.759014080359788),
    "gru both ways": (0.023225633333333332, 0.010355154826666668, 0.08913204826666668, 0.7770813224252614),
    "rnn, batch first": (5.1578933333333335e-05, 4.191425066666667e-05, 0.00011164250666666666, 0.835777543976642),
    "relu": (2.00704e-05, 2.00704e-05, 2.00704e-05, None),
    "gelu": (3.93216e-05, 3.93216e-05, 3.93216e-05, None),
    "add": (2.00704e-05, 2.00704e-05, 2.00704e-05, None),
    "pool": (2.00704e-05, 2.00704e-05, 2.00704e-05, None),
    "norm": (3.93216e-05, 3.93216e-05, 3.93216e-05, None),
    "transpose": (3.93216e-05, 3.93216e-05, 3.93216e-05, None),
    "reshape": (0.0, 0.0, 0.0, None),
    "flatten": (0.0, 0.0, 0.0, None),
    "squeeze": (2.048e-07, 2.048e-07, 2.048e-07, None),
    "concat": (2.4576e-06, 2.4576e-06, 2.4576e-06, None),
}
"""Of each case: seconds of ONNX Runtime, ours at density 0.1, ours at density 1; and the break-even of a node with a weight."""


@pytest.mark.parametrize("name", CASES)
def test_numbers_stay(name):
    """A change of the cost model is made on purpose, with these numbers."""
    graph, node = one_node(*CASES[name])
    ort, few, all_, limit = PINNED[name]
    assert cost.node_seconds(graph, node, 0.1) == (ort, few)
    assert cost.node_seconds(graph, node, 1.0) == (ort, all_)
    if limit is not None:
        assert cost.break_even(graph, node) == limit


def test_every_operator_with_a_weight_has_a_case():
    """Products and recurrent nodes are what break-evens decide about."""
    judged = {row.op_type for row in ops.OPS.values() if row.role in ("product", "recurrent")}
    assert judged <= {op_type for op_type, *_ in CASES.values()}


@pytest.mark.parametrize("name", [name for name, numbers in PINNED.items() if numbers[3] is not None and numbers[3] < 1])
def test_break_even_is_where_the_margin_is_reached(name):
    """From there on we win by the margin for the nominal size, which is one of the judged ones; an open size may ask for more."""
    graph, node = one_node(*CASES[name])
    limit = cost.break_even(graph, node)
    ort, ours = cost.node_seconds(graph, node, 1 - limit)
    assert ort >= cost.MARGIN * ours * (1 - 1e-9)
    if all(isinstance(size, int) for shape in CASES[name][1] for size in shape):
        _, more = cost.node_seconds(graph, node, min((1 - limit) * 1.1, 1.0))
        assert ort < cost.MARGIN * more or more == cost.node_seconds(graph, node, 1.0)[1]


def test_open_rows_ask_for_more():
    """A matrix with an open number of rows is judged by the worst of a few numbers."""
    fixed, open_ = (cost.break_even(*one_node(*CASES[name])) for name in ("matmul", "matmul of open rows"))
    assert fixed < open_ < 1
