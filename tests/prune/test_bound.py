"""Masks on the parameters of a module: found by content whatever an exporter does, and kept zero while the module is trained."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.prune.masks import Masks
from support.making import examples
from support.module import Module


def normal(seed, *shape):
    """Values of a weight."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def masks_of(seed=0, **weights):
    """Masks of half of each weight, and pruned values that are three times the dense ones."""
    rng = np.random.default_rng(seed)
    masks = Masks()
    for name, weight in weights.items():
        kept = rng.random(weight.shape) > 0.5
        masks.add(name.replace("__", "."), kept, weight, np.where(kept, 3 * weight, 0))
    return masks


def in_rows(array):
    """As rows of outputs."""
    return array.reshape(len(array), -1)


CHANGES = {
    "value": lambda w, scale: (w, None),
    "transposed": lambda w, scale: (np.ascontiguousarray(w.reshape(len(w), -1).T), None),
    "scaled": lambda w, scale: (w * scale.reshape(-1, *[1] * (w.ndim - 1)), scale),
    "scaled and transposed": lambda w, scale: (np.ascontiguousarray((in_rows(w) * scale[:, None]).T), scale),
}
"""What an exporter makes of a weight, and the scale of each row in it."""


@examples(40)
@given(
    st.sampled_from(sorted(CHANGES)),
    st.integers(1, 12),
    st.integers(3, 12),
    st.sampled_from([(), (3,), (3, 3), (2, 3, 2)]),
    st.integers(0, 99),
)
def test_weights_are_found_by_content(change, outputs, inputs, taps, seed):
    """Under another name, among others: the mask, and the weights without the scale."""
    if "transposed" in change:
        taps = ()
    weight, other = normal(seed, outputs, inputs, *taps), normal(seed + 1, outputs, inputs, *taps)
    scale = np.random.default_rng(seed).uniform(0.1, 5, outputs).astype(np.float32) * np.where(np.arange(outputs) % 3, 1, -1)
    exported, _ = CHANGES[change](weight, scale.astype(np.float32))
    masks = masks_of(onnx_Conv_30=exported)
    module = Module(other=other, layer__weight=weight)
    bound = masks.attach(module)
    kept = masks["onnx_Conv_30"]
    expected = kept.T if "transposed" in change else kept
    np.testing.assert_array_equal(in_rows(bound.masks["layer.weight"]), in_rows(expected))
    assert list(bound.masks) == ["layer.weight"]
    assert bound.unmatched == ()
    bound.copy_weights()
    np.testing.assert_allclose(module["layer.weight"], np.where(bound.masks["layer.weight"], 3 * weight, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(module["other"], other)


def test_directions_and_gates_of_an_lstm():
    """ONNX stacks the directions and orders the gates i o f c, PyTorch i f g o."""
    hidden, inputs = 6, 5
    forward, backward = normal(0, 4 * hidden, inputs), normal(1, 4 * hidden, inputs)
    order = np.concatenate([np.arange(hidden) + gate * hidden for gate in (0, 3, 1, 2)])
    stacked = np.stack([forward[order], backward[order]])
    masks = masks_of(lstm_W=stacked)
    module = Module(lstm__weight_ih_l0=forward, lstm__weight_ih_l0_reverse=backward)
    bound = masks.attach(module)
    bound.copy_weights()
    for direction, name in enumerate(("lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse")):
        np.testing.assert_array_equal(bound.masks[name][order], masks["lstm_W"][direction])
        np.testing.assert_allclose(module[name][order], np.where(masks["lstm_W"][direction], 3 * stacked[direction], 0), rtol=1e-5)


def test_a_projection_that_is_exported_in_three_parts():
    """Query, key and value of one parameter, the first of them with the scale of the attention."""
    weight = normal(0, 24, 8)
    parts = [part.T * scale for part, scale in zip(np.split(weight, 3), (0.25, 1, 1), strict=True)]
    masks = masks_of(q=parts[0], k=parts[1], v=parts[2])
    bound = masks.attach(Module(attention__in_proj_weight=weight))
    np.testing.assert_array_equal(bound.masks["attention.in_proj_weight"], np.concatenate([masks[name].T for name in "qkv"]))


def test_rows_that_are_equal():
    """Zeros and copies keep their order."""
    weight = normal(0, 8, 6)
    weight[[2, 3, 7]] = 0
    weight[5] = weight[4]
    masks = masks_of(w=weight.T)
    np.testing.assert_array_equal(masks.attach(Module(fc__weight=weight)).masks["fc.weight"], masks["w"].T)


def test_apply_and_copy_weights():
    """What is pruned is zero after every step, and other parameters are left alone."""
    weight, bias = normal(0, 8, 6), normal(1, 8)
    masks = masks_of(w=weight.T)
    module = Module(fc__weight=weight, fc__bias=bias)
    bound = masks.attach(module)
    bound.apply()
    np.testing.assert_array_equal(module["fc.weight"], np.where(masks["w"].T, weight, 0))
    for _ in range(2):  # once more changes nothing
        bound.copy_weights()
    np.testing.assert_allclose(module["fc.weight"], np.where(masks["w"].T, 3 * weight, 0), rtol=1e-6)
    module["fc.weight"][...] += 1
    bound.apply()
    np.testing.assert_array_equal(module["fc.weight"] == 0, ~masks["w"].T)
    np.testing.assert_array_equal(module["fc.bias"], bias)


def test_shifts_go_into_the_biases():
    """In the order of the outputs, once, without the scale of a folded BatchNormalization."""
    weight, bias, scale = normal(0, 8, 6), normal(1, 8), np.linspace(0.5, 2, 8).astype(np.float32)
    shift = normal(2, 8)
    for factor in (np.ones(8, np.float32), scale):
        masks = Masks()
        exported = weight * factor[:, None]
        masks.add("w", np.ones(exported.shape, bool), exported, exported, shift)
        module = Module(fc__weight=weight, fc__bias=bias)
        bound = masks.attach(module)
        for _ in range(2):
            bound.copy_weights()
        np.testing.assert_allclose(module["fc.bias"], bias + shift / factor, rtol=1e-5)


@pytest.mark.parametrize("outputs", [8, 6])
def test_shifts_of_layers_whose_parameter_has_its_inputs_first(outputs):
    """As Conv1D of transformers: (I, O), like the weight of a MatMul."""
    weight, bias, shift = normal(0, 6, outputs), normal(1, outputs), normal(2, outputs)
    masks = Masks()
    masks.add("w", np.ones(weight.shape, bool), weight, 2 * weight, shift)
    module = Module(fc__weight=weight, fc__bias=bias)
    masks.attach(module).copy_weights()
    np.testing.assert_allclose(module["fc.weight"], 2 * weight, rtol=1e-6)
    np.testing.assert_allclose(module["fc.bias"], bias + shift, rtol=1e-5)
    with pytest.warns(UserWarning, match=r"could take the shift of their outputs: fc\.weight"):
        masks.attach(Module(fc__weight=weight))


def test_shifts_go_into_the_means_of_a_batch_normalization():
    """Of the one that was folded; where it is trained, its bias must not have them."""
    rng = np.random.default_rng(0)
    weight, shift = normal(0, 8, 6), normal(2, 8)
    norms = {}
    for name in ("one", "two"):
        mean, variance = rng.standard_normal(8), rng.uniform(0.5, 2, 8)
        norms |= {f"{name}__weight": rng.standard_normal(8), f"{name}__running_mean": mean, f"{name}__running_var": variance}
    scale = norms["two__weight"] / np.sqrt(norms["two__running_var"] + 1e-3)
    exported = (weight * scale[:, None]).astype(np.float32)
    masks = Masks()
    masks.add("w", np.ones(exported.shape, bool), exported, exported, shift)
    module = Module(fc__weight=weight, **norms)
    masks.attach(module).copy_weights()
    np.testing.assert_allclose(module["two.running_mean"], norms["two__running_mean"] - shift / scale, rtol=1e-4)
    np.testing.assert_allclose(module["one.running_mean"], norms["one__running_mean"], rtol=1e-6)


def test_shifts_without_a_place():
    """A layer without a bias: said once, by its name."""
    weight, shift = normal(0, 8, 6), normal(2, 8)
    masks = Masks()
    masks.add("w", np.ones(weight.shape, bool), weight, weight, shift)
    with pytest.warns(UserWarning, match=r"could take the shift of their outputs: fc\.weight"):
        masks.attach(Module(fc__weight=weight))
    masks = Masks()
    masks.add("w", np.ones(weight.shape, bool), weight, weight, 0 * shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks.attach(Module(fc__weight=weight))


def test_weights_without_a_mask():
    """Those of layers that were refitted but not pruned are copied, and left to the training."""
    weight, head = normal(0, 8, 6), normal(1, 4, 8)
    masks = masks_of(w=weight)
    masks.add_fitted("h", head, 2 * head, np.ones(4, np.float32))
    module = Module(fc__weight=weight, head__weight=head, head__bias=np.zeros(4))
    bound = masks.attach(module)
    assert list(bound.masks) == ["fc.weight"]
    bound.copy_weights()
    bound.apply()
    np.testing.assert_allclose(module["head.weight"], 2 * head, rtol=1e-6)
    np.testing.assert_allclose(module["head.bias"], 1)


def test_weights_that_are_not_in_the_module():
    """Some are listed; none is an error."""
    first, second = normal(0, 8, 6), normal(1, 8, 6)
    masks = masks_of(a=first, b=second)
    with pytest.warns(UserWarning, match="masks without a parameter in the module, which stay unused: b"):
        bound = masks.attach(Module(fc__weight=first, head=second + 1))
    assert bound.unmatched == ("b",)
    with pytest.raises(ValueError, match="as it was exported, before it is trained further"):
        masks.attach(Module(fc__weight=first + 0.01 * normal(3, 8, 6)))
    with pytest.raises(ValueError, match="no parameter"):
        Masks().attach(Module(fc__weight=first))


def test_a_part_of_a_weight_is_no_match():
    """Half of a weight's rows in a module: neither the weight nor the parameter is used."""
    weight = normal(0, 8, 6)
    with pytest.raises(ValueError, match="no parameter"):
        masks_of(w=weight).attach(Module(fc__weight=weight[:4]))
    with pytest.raises(ValueError, match="no parameter"):
        masks_of(w=weight[:4]).attach(Module(fc__weight=weight))


def test_weights_of_equal_values():
    """Names decide, with modules around them or not; without names it is an error that names both."""
    weight = normal(0, 8, 6)
    masks = masks_of(net__one__weight=weight, net__two__weight=weight.copy())
    bound = masks.attach(Module(one__weight=weight, two__weight=weight))
    for name in ("one.weight", "two.weight"):
        np.testing.assert_array_equal(bound.masks[name], masks[f"net.{name}"])
    with pytest.raises(ValueError, match=r"'a' fits two weights with the same values, 'net\.\w+\.weight' and 'net\.\w+\.weight'"):
        masks.attach(Module(a=weight, b=weight))
    alone = masks_of(one__weight=weight)
    assert list(alone.attach(Module(one__weight=weight, two__weight=weight)).masks) == ["one.weight"]
    with pytest.raises(ValueError, match="parameters 'a' and 'b' have the same values"):
        alone.attach(Module(a=weight, b=weight))


def test_a_weight_that_is_its_own_transpose():
    """It cannot be said which axis has the outputs."""
    weight = normal(0, 6, 6)
    symmetric = weight + weight.T
    with pytest.raises(ValueError, match="both as it is and transposed"):
        masks_of(w=symmetric).attach(Module(fc__weight=symmetric))


def test_masks_without_values_go_by_name(tmp_path):
    """Those of a bound module: training goes on from its own file."""
    weight = normal(0, 8, 6)
    bound = masks_of(w=weight.T).attach(Module(fc__weight=weight))
    bound.masks.save(tmp_path / "m.npz")
    module = Module(fc__weight=weight + 1)
    again = Masks.load(tmp_path / "m.npz").attach(module)
    again.apply()
    np.testing.assert_array_equal(module["fc.weight"] == 0, ~bound.masks["fc.weight"])
    with pytest.raises(ValueError, match="these masks have no weights"):
        again.copy_weights()
    with pytest.warns(UserWarning, match="stay unused: a"):
        Masks({"a": np.ones((3, 3), bool), "fc.weight": bound.masks["fc.weight"]}).attach(module)


def test_files_find_the_same_parameters(tmp_path):
    """Signatures that were saved are as good as fresh ones."""
    weights = {"a": normal(0, 8, 6).T, "b": normal(1, 16, 4, 3, 3), "c": normal(2, 2, 12, 5)}
    masks = masks_of(**weights)
    masks.save(tmp_path / "m.npz")
    module = Module(x=weights["a"].T, y=weights["b"] * 7, z=weights["c"][0], zz=weights["c"][1])
    bound, again = masks.attach(module), Masks.load(tmp_path / "m.npz").attach(module)
    assert list(bound.masks) == list(again.masks) == ["x", "y", "z", "zz"]
    for name, mask in bound.masks.items():
        np.testing.assert_array_equal(mask, again.masks[name])


def test_nothing_of_torch_is_imported(fresh):
    """Nor anything else that training does not need."""
    fresh(
        "import sys; import onnxruntime_ep_sparse.prune.bound, onnxruntime_ep_sparse.prune.gradual; "
        "assert not {'torch', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules), sorted(sys.modules)"
    )
