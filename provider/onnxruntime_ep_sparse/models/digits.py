"""A small convolutional net that learns scikit-learn's handwritten digits while it is pruned, in numpy.

Magnitude pruning with the cubic schedule of Zhu and Gupta, "To prune, or not to prune" (2017). Arrays name their axes: n image, h, w, c
channel, k tap times channel, o output, p pixel of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .masks import cubic, smallest

if TYPE_CHECKING:
    import onnx

TEST_SHARE = 0.2
PRUNED = ("conv2.weight", "fc1.weight", "fc2.weight")
BATCH = 32
LEARNING_RATE = 3e-3
PRUNING = (0.05, 0.6)
"""From which to which share of the training the sparsity grows."""
PRUNE_EVERY = 10
"""Steps from one pruning to the next."""

Parameters = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Digits:
    """A trained model; images (N, 1, 8, 8) that it has not seen, float32 in 0 ... 1; their int64 labels (N,); images of its training."""

    model: onnx.ModelProto
    images__nchw: NDArray[np.float32]
    labels: NDArray[np.int64]
    training__nchw: NDArray[np.float32]

    def accuracy(self, predictions: NDArray) -> float:
        """Share of right ones among labels (N,) or logits (N, 10)."""
        predicted = predictions if predictions.ndim == 1 else predictions.argmax(axis=1)
        return float(np.mean(predicted == self.labels))


def train(
    seed: int = 0,
    progress: Callable[[float], Any] | None = None,
    *,
    sparsity: float = 0.9,
    channels: Sequence[int] = (32, 64),
    hidden: int = 256,
    epochs: int = 14,
) -> Digits:
    """Train and prune, or only train if `sparsity` is 0. `progress` gets the share that is done, 0 to 1, now and then.

    Two 3x3 convolutions with ReLU, 2x2 maximum pooling, two fully connected layers; all but the first convolution end with exactly
    round(sparsity * size) zeros.
    """
    from threadpoolctl import threadpool_limits

    report = progress or (lambda share: None)
    report(0.0)
    rng = np.random.default_rng(seed)
    (images, labels), test = _data(rng)
    parameters = _initial(rng, channels, hidden)
    adam = Adam(parameters)
    steps = epochs * (len(images) // BATCH)
    masks: dict[str, NDArray[np.bool_]] = {}
    with threadpool_limits(1, "blas"):  # products this small only wait for each other's threads
        for step in range(1, steps + 1):
            chosen = rng.choice(len(images), BATCH, replace=False)
            gradients = _gradients(parameters, _shifted(images[chosen], rng), labels[chosen])
            adam.step(gradients, LEARNING_RATE * min(1, 3 * (1 - step / steps)))
            if step % PRUNE_EVERY == 0 or step == steps:
                now = sparsity_at(step / steps, sparsity)
                masks = {name: ~smallest(parameters[name], now) for name in PRUNED}
                report(step / steps)
            for name, kept in masks.items():
                parameters[name] *= kept
    return Digits(_export(parameters), *test, images)


def sparsity_at(share: float, final: float) -> float:
    """Return the sparsity after this share of the training, by the cubic schedule."""
    begin, end = PRUNING
    return final * cubic((share - begin) / (end - begin))


# --- data

Split = tuple[NDArray[np.float32], NDArray[np.int64]]


def _data(rng: np.random.Generator) -> tuple[Split, Split]:
    """Images (N, 1, 8, 8) and labels to train with, and to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = rng.permutation(len(images))
    test, train = np.split(order, [round(TEST_SHARE * len(order))])
    return (images[train], labels[train]), (images[test], labels[test])


def _shifted(images__nchw: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Images moved by up to one pixel each way."""
    padded = np.pad(images__nchw, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, images__nchw.shape[2:], axis=(2, 3))
    down, right = rng.integers(0, 3, (2, len(padded)))
    return windows[np.arange(len(padded)), :, down, right]


# --- the net, channels last


def _initial(rng: np.random.Generator, channels: Sequence[int], hidden: int) -> Parameters:
    """Weights (inputs, outputs) after He et al. 2015, inputs of a convolution being 9 taps times channels, and zero biases."""
    first, second = channels
    shapes = {"conv1": (9, first), "conv2": (9 * first, second), "fc1": (16 * second, hidden), "fc2": (hidden, 10)}
    parameters: Parameters = {}
    for name, shape in shapes.items():
        parameters[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / shape[0]))
        parameters[f"{name}.bias"] = np.zeros(shape[1], np.float32)
    return parameters


def _gradients(p: Parameters, images__nchw: NDArray[np.float32], labels: NDArray[np.int64]) -> Parameters:
    """Gradients of the mean cross entropy."""
    n = len(labels)
    columns1 = _columns(images__nchw.transpose(0, 2, 3, 1))
    a1 = np.maximum(columns1 @ p["conv1.weight"] + p["conv1.bias"], 0)
    columns2 = _columns(a1.reshape(n, 8, 8, -1))
    a2 = np.maximum(columns2 @ p["conv2.weight"] + p["conv2.bias"], 0)
    quads = a2.reshape(n, 4, 2, 4, 2, -1)
    pooled = quads.max(axis=(2, 4))
    flat = pooled.transpose(0, 3, 1, 2).reshape(n, -1)  # the order of ONNX's Flatten
    a3 = np.maximum(flat @ p["fc1.weight"] + p["fc1.bias"], 0)
    logits = a3 @ p["fc2.weight"] + p["fc2.bias"]

    d = np.exp(logits - logits.max(axis=1, keepdims=True))
    d /= d.sum(axis=1, keepdims=True)
    d[np.arange(n), labels] -= 1
    d /= n
    g = {"fc2.weight": a3.T @ d, "fc2.bias": d.sum(axis=0)}
    d = (d @ p["fc2.weight"].T) * (a3 > 0)
    g |= {"fc1.weight": flat.T @ d, "fc1.bias": d.sum(axis=0)}
    d = (d @ p["fc1.weight"].T).reshape(n, -1, 4, 4).transpose(0, 2, 3, 1)
    d = (d[:, :, None, :, None] * (quads == pooled[:, :, None, :, None])).reshape(a2.shape) * (a2 > 0)
    g |= {"conv2.weight": columns2.T @ d, "conv2.bias": d.sum(axis=0)}
    d = _input_gradient(d, p["conv2.weight"], (n, 8, 8, a1.shape[1])) * (a1 > 0)
    return g | {"conv1.weight": columns1.T @ d, "conv1.bias": d.sum(axis=0)}


def _columns(x__nhwc: NDArray[np.float32]) -> NDArray[np.float32]:
    """im2col: the 3x3 neighbourhoods of padded images, (N * H * W, 9 * C)."""
    n, h, w, _ = x__nhwc.shape
    padded = np.pad(x__nhwc, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=3).reshape(n * h * w, -1)


def _input_gradient(d__po: NDArray, weight__ko: NDArray, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the gradient (N * H * W, O) at the input of a convolution, of `shape` N, H, W, C, as (N * H * W, C)."""
    n, h, w, c = shape
    padded = np.zeros((n, h + 2, w + 2, c), np.float32)
    for tap, weight__co in enumerate(np.split(weight__ko, 9)):
        padded[:, tap // 3 : tap // 3 + h, tap % 3 : tap % 3 + w] += (d__po @ weight__co.T).reshape(shape)
    return padded[:, 1:-1, 1:-1].reshape(n * h * w, c)


class Adam:
    """Kingma and Ba 2014; updates `parameters` in place."""

    def __init__(self, parameters: Parameters, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-7) -> None:
        self.parameters, self.beta1, self.beta2, self.epsilon = parameters, beta1, beta2, epsilon
        self.first = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.steps = 0

    def step(self, gradients: Parameters, rate: float) -> None:
        """Make one update."""
        self.steps += 1
        rate *= np.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        for name, gradient in gradients.items():
            first, second = self.first[name], self.second[name]
            first += (1 - self.beta1) * (gradient - first)
            second += (1 - self.beta2) * (gradient**2 - second)
            self.parameters[name] -= np.float32(rate) * first / (np.sqrt(second) + self.epsilon)


def _export(parameters: Parameters) -> onnx.ModelProto:
    """Return the net as an ONNX model: `image` (batch, 1, 8, 8) to `logits` (batch, 10)."""
    from .network import Network

    net = Network("digits", 0.0)
    x = net.input("image", ["batch", 1, 8, 8])
    for name in ("conv1", "conv2"):
        weight__hwio = parameters[f"{name}.weight"].reshape(3, 3, -1, len(parameters[f"{name}.bias"]))
        weight = net.constant(f"{name}.weight", np.ascontiguousarray(weight__hwio.transpose(3, 2, 0, 1)))
        x = net.node("Conv", [x, weight, net.constant(f"{name}.bias", parameters[f"{name}.bias"])], name, kernel_shape=[3, 3], pads=[1] * 4)
        x = net.node("Relu", [x], name)
    x = net.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", [x], "flatten")
    for name in ("fc1", "fc2"):
        weight = net.constant(f"{name}.weight", np.ascontiguousarray(parameters[f"{name}.weight"].T))
        x = net.node("Gemm", [x, weight, net.constant(f"{name}.bias", parameters[f"{name}.bias"])], name, transB=1)
        x = net.node("Relu", [x], name) if name == "fc1" else x
    net.nodes[-1].output[0] = "logits"
    net.output("logits", ["batch", 10])
    return net.model()
