"""Convolutional nets with random weights, pruned; BatchNormalization as in exported training graphs.

All take `sparsity` and `pattern` (see `mask`) for every Conv and Gemm but the first, the depthwise ones and squeeze-and-excite; `seed`;
`width`, which scales the channels; and `fold_batchnorm`. Images are NCHW float32, the batch is symbolic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .network import Network

if TYPE_CHECKING:
    import onnx

RESIDUAL = 0.5
"""Size of what a residual branch adds; the sum over a stage stays near 1."""


def resnet50(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    blocks: tuple[int, ...] = (3, 4, 6, 3),
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """ResNet-50 (He et al. 2015; stride on the 3x3 as torchvision): input (batch, 3, image, image), logits (batch, classes)."""
    net = Network("resnet50", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    stem = _channels(64, width)
    x = net.conv(net.input("input", ["batch", 3, image, image]), stem, 7, "conv1", stride=2, prune=False)
    x = _max_pool(net, _relu(net, x, "relu"), 3, "maxpool", pad=1)
    for stage, repeats in enumerate(blocks):
        channels = stem * 2**stage
        for block in range(repeats):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = _relu(net, net.conv(x, channels, 1, f"{name}.conv1"), f"{name}.relu1")
            y = _relu(net, net.conv(y, channels, 3, f"{name}.conv2", stride=stride), f"{name}.relu2")
            y = net.conv(y, 4 * channels, 1, f"{name}.conv3", gain=RESIDUAL)
            if not block:
                x = net.conv(x, 4 * channels, 1, f"{name}.downsample.conv", stride=stride)
            x = _relu(net, _add(net, y, x, f"{name}.add"), f"{name}.relu3")
    net.output(net.classifier(x, classes, "fc"), ["batch", classes])
    return net.model()


def mobilenet_v1(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """MobileNetV1 (Howard et al. 2017): input (batch, 3, image, image), logits (batch, classes).

    With `classes` 0 it is the features alone, of images of any size: input (batch, 3, height, width), output (batch, channels, h, w).
    """
    net = Network("mobilenet_v1", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    size: list[int | str] = [image, image] if classes else ["height", "width"]
    x = net.conv(net.input("input", ["batch", 3, *size]), _channels(32, width), 3, "features.0.conv", stride=2, prune=False)
    x = _relu(net, x, "features.0.relu")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for i, (outputs, stride) in enumerate(plan, 1):
        x = _depthwise(net, x, 3, f"features.{i}.depthwise", stride)
        x = _relu(net, x, f"features.{i}.depthwise.relu")
        x = _relu(net, net.conv(x, _channels(outputs, width), 1, f"features.{i}.pointwise.conv"), f"features.{i}.pointwise.relu")
    if classes:
        net.output(net.classifier(x, classes, "classifier"), ["batch", classes])
    else:
        net.output(x, ["batch", net.channels[x], "h", "w"])
    return net.model()


def mobilenet_v2(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al. 2018), ReLU6 as Clip: input (batch, 3, image, image), logits (batch, classes)."""
    net = Network("mobilenet_v2", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    x = net.conv(net.input("input", ["batch", 3, image, image]), _channels(32, width), 3, "features.0.conv", stride=2, prune=False)
    x, inputs, i = net.relu6(x, "features.0.relu6"), _channels(32, width), 0
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, channels, repeats, first_stride in plan:
        outputs = _channels(channels, width)
        for repeat in range(repeats):
            i, stride = i + 1, 1 if repeat else first_stride
            name, y = f"features.{i}", x
            if expand > 1:
                y = net.relu6(net.conv(y, expand * inputs, 1, f"{name}.expand.conv"), f"{name}.expand.relu6")
            y = net.relu6(_depthwise(net, y, 3, f"{name}.depthwise", stride), f"{name}.depthwise.relu6")
            joins = stride == 1 and inputs == outputs
            y = net.conv(y, outputs, 1, f"{name}.project.conv", gain=RESIDUAL if joins else 1.0)
            x, inputs = _add(net, x, y, f"{name}.add") if joins else y, outputs
    x = net.relu6(net.conv(x, max(1280, _channels(1280, width)), 1, f"features.{i + 1}.conv"), f"features.{i + 1}.relu6")
    net.output(net.classifier(x, classes, "classifier"), ["batch", classes])
    return net.model()


def efficientnet_b0(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """EfficientNet-B0 (Tan and Le 2019), SiLU as Sigmoid and Mul: input (batch, 3, image, image), logits (batch, classes)."""
    net = Network("efficientnet_b0", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    x = net.conv(net.input("input", ["batch", 3, image, image]), _channels(32, width), 3, "features.0.conv", stride=2, prune=False)
    x, inputs, i = net.silu(x, "features.0.silu"), _channels(32, width), 0
    plan = [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]
    for expand, channels, repeats, first_stride, kernel in plan:
        outputs = _channels(channels, width)
        for repeat in range(repeats):
            i, stride = i + 1, 1 if repeat else first_stride
            name, y = f"features.{i}", x
            if expand > 1:
                y = net.silu(net.conv(y, expand * inputs, 1, f"{name}.expand.conv"), f"{name}.expand.silu")
            y = net.silu(_depthwise(net, y, kernel, f"{name}.depthwise", stride), f"{name}.depthwise.silu")
            y = _squeeze_excite(net, y, inputs // 4, f"{name}.se")
            joins = stride == 1 and inputs == outputs
            y = net.conv(y, outputs, 1, f"{name}.project.conv", gain=RESIDUAL if joins else 1.0)
            x, inputs = _add(net, y, x, f"{name}.add") if joins else y, outputs
    x = net.silu(net.conv(x, 4 * inputs, 1, f"features.{i + 1}.conv"), f"features.{i + 1}.silu")
    net.output(net.classifier(x, classes, "classifier"), ["batch", classes])
    return net.model()


def unet(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    channels: int = 32,
    levels: int = 4,
    classes: int = 1,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """U-Net (Ronneberger et al. 2015), padded, nearest-neighbour upsampling: input (batch, 1, height, width), both multiples of 2**levels;
    logits (batch, classes, height, width)."""
    net = Network("unet", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)

    def pair(x: str, outputs: int, name: str) -> str:
        for i in (1, 2):
            first = name == "down0" and i == 1
            x = _relu(net, net.conv(x, outputs, 3, f"{name}.conv{i}", prune=not first), f"{name}.relu{i}")
        return x

    x, skips = net.input("input", ["batch", 1, "height", "width"]), []
    for level in range(levels):
        skips.append(pair(x, channels * 2**level, f"down{level}"))
        x = _max_pool(net, skips[-1], 2, f"down{level}.pool")
    x = pair(x, channels * 2**levels, "bottom")
    for level in reversed(range(levels)):
        halves = [net.upsample(x, f"up{level}"), skips[level]]
        x = net.node("Concat", halves, f"up{level}", channels=sum(net.channels[h] for h in halves), axis=1)
        x = pair(x, channels * 2**level, f"up{level}")
    net.output(net.conv(x, classes, 1, "head", batchnorm=False, gain=1.5), ["batch", classes, "height", "width"])
    return net.model()


def _channels(channels: int, width: float) -> int:
    """Scaled, to the next multiple of 8."""
    return max(8, round(channels * width / 8) * 8)


def _relu(net: Network, x: str, name: str) -> str:
    return net.node("Relu", [x], name)


def _add(net: Network, a: str, b: str, name: str) -> str:
    return net.node("Add", [a, b], name)


def _max_pool(net: Network, x: str, kernel: int, name: str, *, pad: int = 0) -> str:
    """Maximum over squares, stride 2."""
    return net.node("MaxPool", [x], name, kernel_shape=[kernel] * 2, strides=[2, 2], pads=[pad] * 4)


def _depthwise(net: Network, x: str, kernel: int, name: str, stride: int) -> str:
    channels = net.channels[x]
    return net.conv(x, channels, kernel, f"{name}.conv", stride=stride, groups=channels)


def _squeeze_excite(net: Network, x: str, squeezed: int, name: str) -> str:
    """Gate each channel by what all of them are on average (Hu et al. 2017)."""
    y = net.conv(net.node("GlobalAveragePool", [x], name), squeezed, 1, f"{name}.reduce", prune=False, batchnorm=False, gain=3.0)
    y = net.conv(net.silu(y, f"{name}.silu"), net.channels[x], 1, f"{name}.expand", prune=False, batchnorm=False, gain=2.0)
    return net.node("Mul", [x, net.node("Sigmoid", [y], f"{name}.gate")], f"{name}.gate")
