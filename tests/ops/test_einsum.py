"""Einsum that is a matrix product: by a weight, and of two values."""

import numpy as np
import pytest
from onnx import helper

from support.making import model_of, noise, pruned
from support.promises import assert_close, cpu_session, exact, owned_session, reasons

SIZES = {"a": 2, "b": 3, "h": 4, "i": 6, "j": 5, "k": 7, "o": 9}
N = helper.make_node


def terms_of(equation):
    """The letters of both operands, and their shapes."""
    terms = equation.replace(" ", "").lower().partition("->")[0].split(",")
    return [(term, [SIZES[letter] for letter in term]) for term in terms]


def weighted(equation, place=1):
    """A model of an Einsum whose operand at this place is constant; a and b are open sizes."""
    terms = terms_of(equation)
    (letters, shape), (_, weight_shape) = terms[1 - place], terms[place]
    weights = {"w": pruned(np.random.default_rng(0), weight_shape, 0.5)}
    declared = [letter if letter in "ab" else SIZES[letter] for letter in letters]
    node = N("Einsum", ["x", "w"] if place else ["w", "x"], ["y"], equation=equation)
    return model_of([node], {"x": declared}, ["y"], weights), {"x": noise(np.random.default_rng(1), *shape)}


def of_values(equation):
    """A model of an Einsum of p and r, which two pruned products make."""
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, (_, shape) in zip("xz", terms_of(equation), strict=True)}
    weights = {f"w{name}": pruned(rng, (shape[-1], shape[-1]), 0.5) for name, shape in shapes.items()}
    nodes = [N("MatMul", [name, f"w{name}"], [f"p{name}"]) for name in shapes]
    model = model_of([*nodes, N("Einsum", ["px", "pz"], ["y"], equation=equation)], shapes, ["y"], weights)
    return model, {name: noise(rng, *shape) for name, shape in shapes.items()}


def check(model, feeds):
    """All nodes are ours, in one region; results are the CPU provider's and ONNX's."""
    y, y_ort = (make(model).run(None, feeds)[0] for make in (lambda model: owned_session(model, regions=1), cpu_session))
    assert_close(y, y_ort)
    assert_close(y, exact(model, feeds)[0].astype(np.float32))


@pytest.mark.parametrize(
    ("equation", "place"),
    [
        ("abk,ko->abo", 1),
        ("abk,ok->abo", 1),
        ("ko,abk->abo", 0),
        ("abk,khi->abhi", 1),
        ("abhi,hio->abo", 1),
        ("ABHI,IHO -> ABO", 1),
        ("abhi,kiho->abko", 1),
        ("ab, bo", 1),
    ],
)
def test_products_by_a_weight(equation, place):
    """Keras writes dense layers of several heads so."""
    check(*weighted(equation, place))


@pytest.mark.parametrize(
    "equation",
    [
        "B H I K, B H J K -> B H I J",
        "abij,abjk->abik",
        "aihk,ajhk->ahij",
        "ahij,ajhk->aihk",
        "abki,abkj->abji",
        "kai,kaj->kij",
        "aik,ajk->aji",
        "ik,kj",
    ],
)
def test_products_of_values(equation):
    """In the orders that attention has them, and with the operands the other way round."""
    check(*of_values(equation))


@pytest.mark.parametrize("equation", ["abk,ko->oab", "abk,ko->bao", "abk,bko->abo", "abk,ko->ab", "abi,kh->abikh", "kab,ko->abo"])
def test_other_sums_by_a_weight_are_declined(equation):
    """Outputs in front, dimensions in another order, a weight for each index, a sum over outputs, nothing summed, the first dimension."""
    assert reasons(weighted(equation)[0]) == {f"equation={equation} is not supported"}


@pytest.mark.parametrize("equation", ["abik,abjk->abi", "aik,ajk->ij", "abik,ajk->abij", "aikh,ajkh->aij", "ai,aj->aij"])
def test_other_sums_of_values_are_declined(equation):
    """A sum over columns, over a batch, of several dimensions; other ranks; an outer product. What makes the operands is taken."""
    assert reasons(of_values(equation)[0]) == {f"equation={equation} is not supported"}
