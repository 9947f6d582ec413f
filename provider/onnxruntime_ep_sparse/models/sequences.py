"""A transformer encoder, recurrent nets, a recogniser of speech and a perceptron, pruned, with random weights; the encoder also with given
ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .network import Network

if TYPE_CHECKING:
    import onnx

POSITIONS = 512
EPSILON = 1e-12


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
    x = net.layer_norm(x, hidden, "embeddings.LayerNorm", epsilon=EPSILON)
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        y = _attention(net, x, mask, hidden, heads, name=f"{name}.attention")
        x = net.layer_norm(
            net.node("Add", [y, x], f"{name}.attention.output"), hidden, f"{name}.attention.output.LayerNorm", epsilon=EPSILON
        )
        y = net.gelu(net.linear(x, hidden, ffn or 4 * hidden, f"{name}.intermediate.dense"), f"{name}.intermediate.gelu")
        y = net.linear(y, ffn or 4 * hidden, hidden, f"{name}.output.dense", gain=1.5)  # GELU leaves 0.65 of a standard normal
        x = net.layer_norm(net.node("Add", [y, x], f"{name}.output"), hidden, f"{name}.output.LayerNorm", epsilon=EPSILON)
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
    return _stack(Network("lstm", sparsity, pattern, seed), "LSTM", layers, hidden, inputs or hidden, steps)


def gru(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    layers: int = 2,
    hidden: int = 1024,
    inputs: int | None = None,
    steps: int | None = 64,
) -> onnx.ModelProto:
    """Build the same net of GRUs, whose reset gate acts after the product (linear_before_reset), as PyTorch exports them."""
    return _stack(Network("gru", sparsity, pattern, seed), "GRU", layers, hidden, inputs or hidden, steps)


def streaming_lstm(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    layers: int = 2,
    hidden: int = 512,
    inputs: int = 256,
) -> onnx.ModelProto:
    """Stacked LSTM that is called once per time step and hands its states over, as in streaming recognition of speech.

    float32 `input` (1, batch, inputs), `h` and `c` (layers, batch, hidden) to the output (1, batch, hidden) and the next states, which have
    the shapes of `h` and `c`. Each layer slices its own states. W and R are pruned.
    """
    net = Network("streaming_lstm", sparsity, pattern, seed)
    x = net.input("input", [1, "batch", inputs])
    states = [net.input(name, [layers, "batch", hidden]) for name in "hc"]
    layer_axis, after = net.constant("layer_axis", [0], np.int64), []
    for layer in range(layers):
        first, last = (net.constant(f"layer_{i}", [i], np.int64) for i in (layer, layer + 1))
        before = [net.node("Slice", [state, first, last, layer_axis], f"lstm.{layer}.{state}") for state in states]
        x, *states_after = _recurrent(net, "LSTM", x, layer, hidden, hidden if layer else inputs, before)
        after.append(states_after)
    net.output(x, [1, "batch", hidden])
    for name, parts in zip(("next_h", "next_c"), zip(*after, strict=True), strict=True):
        net.output(net.node("Concat", parts, name, axis=0), [layers, "batch", hidden])
    return net.model()


def mlp_policy(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    inputs: int = 64,
    hidden: tuple[int, ...] = (256, 256),
    outputs: int = 8,
    activation: str = "Tanh",
) -> onnx.ModelProto:
    """Perceptron as policies of robots and games are: float32 `observation` (batch, inputs) to actions (batch, outputs).

    `activation` is "Tanh" or "Relu". All Gemm weights are pruned.
    """
    gains = {"Tanh": 1.6, "Relu": 1.4}
    if activation not in gains:
        raise ValueError(f"unknown activation {activation!r}; there are {', '.join(gains)}")
    net = Network("mlp_policy", sparsity, pattern, seed)
    x, gain = net.input("observation", ["batch", inputs]), 1.0
    for layer, size in enumerate((*hidden, outputs)):
        name = f"layers.{layer}"
        if layer:
            x, gain = net.node(activation, [x], name), gains[activation]  # the second moment of what it leaves is 1 / gain**2
        weight = net.constant(f"{name}.weight", net.unit_weight((size, net.channels[x]), gain=gain))
        x = net.node("Gemm", [x, weight, net.constant(f"{name}.bias", net.bias(size))], name, channels=size, transB=1)
    net.output(x, ["batch", outputs])
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
    y = net.node("LogSoftmax", [net.linear(x, 2 * hidden, vocabulary, "classifier", gain=2.5)], "classifier", axis=-1)
    steps = "steps" if frames is None else -(-frames // 2)
    net.output(net.node("Transpose", [y], "batch_first", perm=[1, 0, 2]), ["batch", steps, vocabulary])
    return net.model()


def _stack(net: Network, op_type: str, layers: int, hidden: int, inputs: int, steps: int | None) -> onnx.ModelProto:
    """Recurrent layers of float32 (batch, steps, inputs), batch first."""
    sequence = "sequence" if steps is None else steps
    x = net.node("Transpose", [net.input("input", ["batch", sequence, inputs])], "input", perm=[1, 0, 2])
    for layer in range(layers):
        x, *_ = _recurrent(net, op_type, x, layer, hidden, hidden if layer else inputs)
    net.output(net.node("Transpose", [x], "output", perm=[1, 0, 2]), ["batch", sequence, hidden])
    return net.model()


def _recurrent(net: Network, op_type: str, x: str, layer: int, hidden: int, inputs: int, states: Sequence[str] = ()) -> list[str]:
    """Add one recurrent layer in one direction and the Squeeze after it. With `states` before, their values after it follow the output."""
    name, gates = f"{op_type.lower()}.{layer}", {"LSTM": 4, "GRU": 3}[op_type]
    gain = 5.0 if layer else 1.0  # a state's standard deviation is near 0.2
    weights = [
        net.constant(f"{op_type.lower()}.weight_ih_l{layer}", net.unit_weight((gates * hidden, inputs), gain=gain)[None]),
        net.constant(f"{op_type.lower()}.weight_hh_l{layer}", net.unit_weight((gates * hidden, hidden))[None]),
        net.constant(f"{op_type.lower()}.bias_l{layer}", net.bias(2 * gates * hidden)[None]),
    ]
    attributes = {"linear_before_reset": 1} if op_type == "GRU" else {}
    operands = [x, *weights, *(["", *states] if states else [])]
    y = net.node(op_type, operands, name, hidden_size=hidden, **attributes)
    after = [f"{y}_{i}" for i in range(len(states))]
    net.nodes[-1].output.extend(after)
    return [net.node("Squeeze", [y, net.constant("one_axis", [1], np.int64)], f"{name}.squeeze"), *after]


def _attention(net: Network, x: str, mask: str | None, hidden: int, heads: int, *, name: str) -> str:
    """Multi-head self-attention with its output projection."""
    size = hidden // heads
    split = net.constant("split_heads", [0, 0, heads, size], np.int64)

    def projected(role: str, perm: list[int]) -> str:
        y = net.node("Reshape", [net.linear(x, hidden, hidden, f"{name}.self.{role}"), split], f"{name}.self.{role}.split")
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
    return net.linear(y, hidden, hidden, f"{name}.output.dense", gain=0.5)  # tokens stay themselves


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
    """Return 0 where the mask is 1, else -10000, (batch, 1, 1, sequence)."""
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
