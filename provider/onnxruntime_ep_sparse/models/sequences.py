"""A transformer encoder, an LSTM and a recogniser of speech, pruned: with random weights, the encoder also with given ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .network import Network

if TYPE_CHECKING:
    import onnx

POSITIONS = 512


def bert_base(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    ffn: int | None = None,
    vocabulary: int = 1024,
    token_types: int = 0,
    pooled: bool = False,
    weights: Mapping[str, NDArray] | None = None,
) -> onnx.ModelProto:
    """BERT's encoder (Devlin et al. 2018); 6 layers of 384 make it a MiniLM. `ffn` is 4 * hidden by default.

    Inputs int64 (batch, sequence) `input_ids` and `attention_mask`, sequence up to 512, and with `token_types`, of which BERT has 2,
    `token_type_ids`; with `vocabulary=0` float32 `embeddings` (batch, sequence, hidden) alone. Output float32 (batch, sequence, hidden), or
    with `pooled` the mean over the tokens of the mask, brought to length 1 (batch, hidden), as Sentence-BERT (Reimers and Gurevych 2019).
    Every MatMul weight (inputs, outputs) is pruned, embeddings are not.

    `weights` are taken as they are in place of random ones: by the names of transformers' BertModel, those of projections transposed.
    ValueError if sizes contradict each other, or weights are missing, left over or of another shape.
    """
    if hidden % heads:
        raise ValueError(f"{hidden} hidden units do not divide into {heads} heads")
    if not vocabulary and (token_types or pooled):
        raise ValueError("token types and pooling need a vocabulary: without there is no mask")
    net = Network("bert", sparsity, pattern, seed, weights=weights)
    mask = tokens = None
    if vocabulary:
        ids = net.input("input_ids", ["batch", "sequence"], "INT64")
        tokens = net.input("attention_mask", ["batch", "sequence"], "INT64")
        types = net.input("token_type_ids", ["batch", "sequence"], "INT64") if token_types else None
        x = _embedding(net, ids, vocabulary, types, token_types, hidden)
        mask = _attention_mask(net, tokens)
    else:
        x = net.input("embeddings", ["batch", "sequence", hidden])
    x = _layer_norm(net, x, hidden, "embeddings.LayerNorm")
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        y = _attention(net, x, mask, hidden, heads, name=f"{name}.attention")
        x = _layer_norm(net, net.node("Add", [y, x], f"{name}.attention.output"), hidden, f"{name}.attention.output.LayerNorm")
        y = _gelu(net, _linear(net, x, hidden, ffn or 4 * hidden, f"{name}.intermediate.dense"), f"{name}.intermediate.gelu")
        y = _linear(net, y, ffn or 4 * hidden, hidden, f"{name}.output.dense", gain=1.5)  # GELU leaves 0.65 of a standard normal
        x = _layer_norm(net, net.node("Add", [y, x], f"{name}.output"), hidden, f"{name}.output.LayerNorm")
    if pooled and tokens:
        net.output(_sentence(net, x, tokens), ["batch", hidden])
    else:
        net.output(x, ["batch", "sequence", hidden])
    return net.model()


def lstm(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    layers: int = 2,
    hidden: int = 1024,
    inputs: int | None = None,
    steps: int | None = 64,
) -> onnx.ModelProto:
    """Stacked LSTM as exported with the batch first: float32 (batch, steps, inputs) to (batch, steps, hidden).

    `inputs` is hidden by default; `steps=None` leaves them open. W (1, 4 * hidden, inputs) and R (1, 4 * hidden, hidden) are pruned.
    """
    net = Network("lstm", sparsity, pattern, seed)
    sequence = "sequence" if steps is None else steps
    x = net.node("Transpose", [net.input("input", ["batch", sequence, inputs or hidden])], "input", perm=[1, 0, 2])
    for layer in range(layers):
        size, gain = (inputs or hidden, 1.0) if layer == 0 else (hidden, 5.0)  # a state's standard deviation is near 0.2
        weights = [
            net.constant(f"lstm.weight_ih_l{layer}", net.unit_weight((4 * hidden, size), gain=gain)[None]),
            net.constant(f"lstm.weight_hh_l{layer}", net.unit_weight((4 * hidden, hidden))[None]),
            net.constant(f"lstm.bias_l{layer}", net.bias(8 * hidden)[None]),
        ]
        y = net.node("LSTM", [x, *weights], f"lstm.{layer}", hidden_size=hidden)
        x = net.node("Squeeze", [y, net.constant("one_axis", [1], np.int64)], f"lstm.{layer}.squeeze")
    net.output(net.node("Transpose", [x], "output", perm=[1, 0, 2]), ["batch", sequence, hidden])
    return net.model()


def deep_speech(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    convolutions: int = 3,
    layers: int = 3,
    hidden: int = 512,
    vocabulary: int = 4096,
    frames: int | None = 512,
) -> onnx.ModelProto:
    """Convolutions along time, bidirectional GRUs and a classifier of every step, as Deep Speech 2 (Amodei et al. 2015) in one dimension.

    float32 (batch, 80, frames), a spectrogram's 80 bands, to log-probabilities (batch, half as many, vocabulary); `frames=None`
    leaves them open. Convolutions have 11 taps, the first of them steps by two and is not pruned.
    """
    bands, net = 80, Network("deep_speech", sparsity, pattern, seed)
    x = net.input("spectrogram", ["batch", bands, "frames" if frames is None else frames])
    net.channels[x] = bands
    for layer in range(convolutions):
        first = not layer
        y = net.conv(x, hidden, 11, f"conv{layer}", rank=1, stride=1 + first, prune=not first, batchnorm=False, gain=1.0 if first else 1.4)
        x = net.node("Relu", [y], f"conv{layer}", channels=hidden)
    x = net.node("Transpose", [x], "time_first", perm=[2, 0, 1])
    both = net.constant("both_directions", [0, 0, 2 * hidden], np.int64)
    for layer in range(layers):
        size, gain = (2 * hidden, 2.5) if layer else (hidden, 1.4)  # of a state, and of what Relu leaves
        weights = [
            net.constant(f"gru.{layer}.W", net.unit_weight((6 * hidden, size), gain=gain).reshape(2, 3 * hidden, size)),
            net.constant(f"gru.{layer}.R", net.unit_weight((6 * hidden, hidden)).reshape(2, 3 * hidden, hidden)),
            net.constant(f"gru.{layer}.B", net.bias(12 * hidden).reshape(2, 6 * hidden)),
        ]
        y = net.node("GRU", [x, *weights], f"gru.{layer}", hidden_size=hidden, direction="bidirectional", linear_before_reset=1)
        y = net.node("Transpose", [y], f"gru.{layer}.together", perm=[0, 2, 1, 3])
        x = net.node("Reshape", [y, both], f"gru.{layer}.together")
    y = net.node("LogSoftmax", [_linear(net, x, 2 * hidden, vocabulary, "classifier", gain=2.5)], "classifier", axis=-1)
    steps = "steps" if frames is None else -(-frames // 2)
    net.output(net.node("Transpose", [y], "batch_first", perm=[1, 0, 2]), ["batch", steps, vocabulary])
    return net.model()


def _linear(net: Network, x: str, inputs: int, outputs: int, name: str, *, gain: float = 1.0) -> str:
    """MatMul and Add."""
    weight = net.parameter(f"{name}.weight", net.unit_weight((inputs, outputs), axis=1, gain=gain))
    y = net.node("MatMul", [x, weight], name)
    return net.node("Add", [net.parameter(f"{name}.bias", net.bias(outputs)), y], name)


def _layer_norm(net: Network, x: str, hidden: int, name: str) -> str:
    scale = net.parameter(f"{name}.weight", net.rng.uniform(0.8, 1.2, hidden))
    return net.node("LayerNormalization", [x, scale, net.parameter(f"{name}.bias", net.bias(hidden))], name, axis=-1, epsilon=1e-12)


def _gelu(net: Network, x: str, name: str) -> str:
    """x * (erf(x / sqrt(2)) + 1) / 2, node by node."""
    y = net.node("Erf", [net.node("Div", [x, net.constant("sqrt2", np.sqrt(2))], name)], name)
    y = net.node("Mul", [x, net.node("Add", [y, net.constant("one", 1)], name)], name)
    return net.node("Mul", [y, net.constant("half", 0.5)], f"{name}.half")


def _attention(net: Network, x: str, mask: str | None, hidden: int, heads: int, *, name: str) -> str:
    """Multi-head self-attention with its output projection."""
    size = hidden // heads
    split = net.constant("split_heads", [0, 0, heads, size], np.int64)

    def projected(role: str, perm: list[int]) -> str:
        y = net.node("Reshape", [_linear(net, x, hidden, hidden, f"{name}.self.{role}"), split], f"{name}.self.{role}.split")
        return net.node("Transpose", [y], f"{name}.self.{role}.transpose", perm=perm)

    query, key = projected("query", [0, 2, 1, 3]), projected("key", [0, 2, 3, 1])
    scores = net.node("MatMul", [query, key], f"{name}.self.scores")
    scores = net.node("Div", [scores, net.constant("sqrt_size", np.sqrt(size))], f"{name}.self.scores")
    if mask is not None:
        scores = net.node("Add", [scores, mask], f"{name}.self.scores")
    share = net.node("Softmax", [scores], f"{name}.self", axis=-1)
    y = net.node("MatMul", [share, projected("value", [0, 2, 1, 3])], f"{name}.self.context")
    y = net.node("Transpose", [y], f"{name}.self.context", perm=[0, 2, 1, 3])
    y = net.node("Reshape", [y, net.constant("join_heads", [0, 0, hidden], np.int64)], f"{name}.self.context")
    return _linear(net, y, hidden, hidden, f"{name}.output.dense", gain=0.5)  # tokens stay themselves


def _embedding(net: Network, ids: str, vocabulary: int, types: str | None, token_types: int, hidden: int) -> str:
    """Tokens, their types where these are an input, and positions, cut to the length of the sequence."""
    words = net.parameter("embeddings.word_embeddings.weight", net.rng.standard_normal((vocabulary, hidden), np.float32))
    positions = net.parameter("embeddings.position_embeddings.weight", net.rng.standard_normal((POSITIONS, hidden), np.float32))
    length = net.node("Shape", [ids], "embeddings.length", start=1, end=2)
    zero = net.constant("zero_axis", [0], np.int64)
    here = net.node("Slice", [positions, zero, length, zero], "embeddings.position_embeddings")
    x = net.node("Gather", [words, ids], "embeddings.word_embeddings")
    if types is not None:
        rows = net.parameter("embeddings.token_type_embeddings.weight", net.rng.standard_normal((token_types, hidden), np.float32))
        x = net.node("Add", [x, net.node("Gather", [rows, types], "embeddings.token_type_embeddings")], "embeddings.token_type_embeddings")
    return net.node("Add", [x, here], "embeddings")


def _attention_mask(net: Network, mask: str) -> str:
    """0 where the mask is 1, else -10000, (batch, 1, 1, sequence)."""
    x = net.node("Unsqueeze", [mask, net.constant("head_axes", [1, 2], np.int64)], "mask")
    x = net.node("Sub", [net.constant("one", 1), net.node("Cast", [x], "mask", to=1)], "mask")
    return net.node("Mul", [x, net.constant("masked", -10000)], "mask")


def _sentence(net: Network, x: str, tokens: str) -> str:
    """Mean of x (batch, sequence, hidden) over the tokens of the mask, divided by its length."""
    weight = net.node("Cast", [net.node("Unsqueeze", [tokens, net.constant("last_axis", [-1], np.int64)], "pooling")], "pooling", to=1)
    axis = net.constant("sequence_axis", [1], np.int64)
    total = net.node("ReduceSum", [net.node("Mul", [x, weight], "pooling"), axis], "pooling.sum", keepdims=0)
    count = net.node("ReduceSum", [weight, axis], "pooling.count", keepdims=0)
    mean = net.node("Div", [total, net.node("Clip", [count, net.constant("least_count", 1e-9)], "pooling")], "pooling")
    length = net.node("ReduceL2", [mean], "normalize", axes=[-1], keepdims=1)
    return net.node("Div", [mean, net.node("Clip", [length, net.constant("least_length", 1e-12)], "normalize")], "normalize")
