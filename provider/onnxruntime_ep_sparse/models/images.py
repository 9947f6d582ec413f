"""Convolutional nets of images and videos with random weights, pruned; BatchNormalization as in exported training graphs.

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
    x = _mobilenet_v2_features(net, net.input("input", ["batch", 3, image, image]), width)
    x = net.relu6(net.conv(x, max(1280, _channels(1280, width)), 1, "features.18.conv"), "features.18.relu6")
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


def mobilenet_v3(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """MobileNetV3 large (Howard et al. 2019), HardSwish and HardSigmoid as PyTorch exports them: input (batch, 3, image, image), logits
    (batch, classes)."""
    net = Network("mobilenet_v3", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    x = net.conv(net.input("input", ["batch", 3, image, image]), _channels(16, width), 3, "features.0.conv", stride=2, prune=False)
    x, inputs = net.node("HardSwish", [x], "features.0"), _channels(16, width)
    plan = [
        (16, 16, 3, 1, 0, "Relu"),
        (64, 24, 3, 2, 0, "Relu"),
        (72, 24, 3, 1, 0, "Relu"),
        (72, 40, 5, 2, 24, "Relu"),
        (120, 40, 5, 1, 32, "Relu"),
        (120, 40, 5, 1, 32, "Relu"),
        (240, 80, 3, 2, 0, "HardSwish"),
        (200, 80, 3, 1, 0, "HardSwish"),
        (184, 80, 3, 1, 0, "HardSwish"),
        (184, 80, 3, 1, 0, "HardSwish"),
        (480, 112, 3, 1, 120, "HardSwish"),
        (672, 112, 3, 1, 168, "HardSwish"),
        (672, 160, 5, 2, 168, "HardSwish"),
        (960, 160, 5, 1, 240, "HardSwish"),
        (960, 160, 5, 1, 240, "HardSwish"),
    ]
    for i, (expanded, channels, kernel, stride, squeezed, activation) in enumerate(plan, 1):
        name, outputs, y = f"features.{i}", _channels(channels, width), x
        if i > 1:
            y = net.conv(y, _channels(expanded, width), 1, f"{name}.expand.conv")
            y = net.node(activation, [y], f"{name}.expand")
        y = net.node(activation, [_depthwise(net, y, kernel, f"{name}.depthwise", stride)], f"{name}.depthwise")
        if squeezed:
            y = _squeeze_excite(net, y, _channels(squeezed, width), f"{name}.se", hard=True)
        joins = stride == 1 and inputs == outputs
        y = net.conv(y, outputs, 1, f"{name}.project.conv", gain=RESIDUAL if joins else 1.0)
        x, inputs = _add(net, y, x, f"{name}.add") if joins else y, outputs
    x = net.node("HardSwish", [net.conv(x, 6 * inputs, 1, "features.16.conv")], "features.16")
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "pool")], "pool")
    x = net.node("HardSwish", [net.gemm(x, _channels(1280, width), "classifier.0")], "classifier.1")
    net.output(net.gemm(x, classes, "classifier.3"), ["batch", classes])
    return net.model()


def nasnet_mobile(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    cells: int = 4,
    classes: int = 1000,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """NASNet-A (4 @ 1056; Zoph et al. 2017), with a strided 1x1 convolution in place of the factorized reduction: input
    (batch, 3, image, image), logits (batch, classes).

    Separable convolutions of 3x3, 5x5 and 7x7 in branches that are added in pairs and concatenated. `cells` follow each other at a size.
    """
    net = Network("nasnet_mobile", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    filters = max(4, round(44 * width))
    x = net.conv(net.input("input", ["batch", 3, image, image]), _channels(32, width), 3, "stem.conv", stride=2, prune=False)
    before, halvings = x, {x: 1}

    def cell(before: str, x: str, channels: int, name: str, *, reduces: bool) -> str:
        shrinks = 2 ** (halvings[x] - halvings[before])
        a = net.conv(_relu(net, before, f"{name}.before"), channels, 1, f"{name}.before.conv", stride=shrinks)
        b = net.conv(_relu(net, x, f"{name}.x"), channels, 1, f"{name}.x.conv")
        y = (_reduction_cell if reduces else _normal_cell)(net, a, b, name)
        halvings[y] = halvings[x] + reduces
        return y

    for i, share in enumerate((4, 2)):
        before, x = x, cell(before, x, filters // share, f"stem.{i}", reduces=True)
    for size in range(3):
        channels = filters * 2**size
        if size:
            before, x = x, cell(before, x, channels, f"reduction.{size}", reduces=True)
        for i in range(cells):
            before, x = x, cell(before, x, channels, f"normal.{size}.{i}", reduces=False)
    net.output(net.classifier(_relu(net, x, "last"), classes, "classifier"), ["batch", classes])
    return net.model()


def convnext_tiny(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    blocks: tuple[int, ...] = (3, 3, 9, 3),
    classes: int = 1000,
) -> onnx.ModelProto:
    """ConvNeXt-T (Liu et al. 2022) as PyTorch exports torchvision's: input (batch, 3, image, image), logits (batch, classes).

    LayerNormalization and the two MatMuls of a block see NHWC between two Transposes, Gelu is written with Erf. There is no
    BatchNormalization; depthwise convolutions are 7x7.
    """
    net = Network("convnext_tiny", sparsity, pattern, seed)
    x = net.conv(
        net.input("input", ["batch", 3, image, image]), _channels(96, width), 4, "stem.conv", stride=4, pad=0, prune=False, batchnorm=False
    )
    x = _channel_norm(net, x, "stem.norm")
    for stage, repeats in enumerate(blocks):
        channels = _channels(96 * 2**stage, width)
        if stage:
            x = _channel_norm(net, x, f"downsample.{stage}.norm")
            x = net.conv(x, channels, 2, f"downsample.{stage}.conv", stride=2, pad=0, batchnorm=False)
        for block in range(repeats):
            name = f"stages.{stage}.{block}"
            y = net.conv(x, channels, 7, f"{name}.depthwise", groups=channels, batchnorm=False)
            y = net.node("Transpose", [y], f"{name}.channels_last", perm=[0, 2, 3, 1])
            y = net.layer_norm(y, channels, f"{name}.norm", epsilon=1e-6)
            y = net.gelu(net.linear(y, channels, 4 * channels, f"{name}.expand"), f"{name}.gelu")
            y = net.linear(y, 4 * channels, channels, f"{name}.project", gain=1.5)  # GELU leaves 0.65 of a standard normal
            y = net.node("Transpose", [y], f"{name}.channels_first", perm=[0, 3, 1, 2])
            scale = net.constant(f"{name}.layer_scale", RESIDUAL * net.rng.uniform(0.8, 1.2, (channels, 1, 1)))
            x = _add(net, net.node("Mul", [scale, y], f"{name}.layer_scale", channels=channels), x, f"{name}.add")
    x = _channel_norm(net, net.node("GlobalAveragePool", [x], "head"), "head.norm")
    net.output(net.gemm(net.node("Flatten", [x], "head"), classes, "head"), ["batch", classes])
    return net.model()


def deeplab_v3(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 512,
    width: float = 1.0,
    channels: int = 256,
    classes: int = 21,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """DeepLabV3 (Chen et al. 2017) on MobileNetV2, whose last two stages keep a sixteenth of the size and are dilated by 2.

    Input (batch, 3, image, image), `image` a multiple of 16, to logits (batch, classes, image, image). The head joins a 1x1 convolution,
    three of 3x3 dilated by 6, 12 and 18, and the average of the image. Resize takes constant scales.
    """
    net = Network("deeplab_v3", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    x = _mobilenet_v2_features(net, net.input("input", ["batch", 3, image, image]), width, dilated=2)
    branches = [_relu(net, net.conv(x, channels, 1, "aspp.0.conv"), "aspp.0")]
    for i, dilation in enumerate((6, 12, 18), 1):
        branches.append(_relu(net, net.conv(x, channels, 3, f"aspp.{i}.conv", dilation=dilation), f"aspp.{i}"))
    # a bias, as after folding: the statistics of one pixel an image would be those of a handful of numbers
    y = net.conv(net.node("GlobalAveragePool", [x], "aspp.pool"), channels, 1, "aspp.pool.conv", batchnorm=False)
    branches.append(_resize(net, _relu(net, y, "aspp.pool"), image // 16, "aspp.pool"))
    x = net.node("Concat", branches, "aspp", channels=len(branches) * channels, axis=1)
    for name, kernel in (("aspp.project", 1), ("head", 3)):
        x = _relu(net, net.conv(x, channels, kernel, f"{name}.conv"), name)
    x = net.conv(x, classes, 1, "classifier", batchnorm=False, gain=1.5)
    net.output(_resize(net, x, 16, "classifier"), ["batch", classes, image, image])
    return net.model()


def vgg16(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    fold_batchnorm: bool = True,
) -> onnx.ModelProto:
    """VGG-16 (Simonyan and Zisserman 2014), without BatchNormalization unless `fold_batchnorm` is False: input (batch, 3, image, image),
    `image` a multiple of 32; logits (batch, classes)."""
    net = Network("vgg16", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    x = net.input("input", ["batch", 3, image, image])
    for stage, (channels, repeats) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for i in range(repeats):
            name = f"features.{stage}.{i}"
            x = _relu(net, net.conv(x, _channels(channels, width), 3, f"{name}.conv", prune=stage + i > 0), name)
        x = _max_pool(net, x, 2, f"features.{stage}")
    x = net.node("Flatten", [x], "features", channels=net.channels[x] * (image // 32) ** 2)
    for i in range(2):
        x = _relu(net, net.gemm(x, _channels(4096, width), f"classifier.{i}"), f"classifier.{i}")
    net.output(net.gemm(x, classes, "classifier.2"), ["batch", classes])
    return net.model()


def r3d18(
    sparsity: float = 0.9,
    *,
    pattern: str = "unstructured",
    seed: int = 0,
    image: int = 112,
    frames: int = 16,
    width: float = 1.0,
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    classes: int = 400,
    fold_batchnorm: bool = False,
) -> onnx.ModelProto:
    """ResNet-18 with 3-D convolutions, for videos (Tran et al. 2018): input (batch, 3, frames, image, image), logits (batch, classes)."""
    net = Network("r3d18", sparsity, pattern, seed, fold_batchnorm=fold_batchnorm)
    stem, video = _channels(64, width), net.input("input", ["batch", 3, frames, image, image])
    x = _relu(net, net.conv(video, stem, (3, 7, 7), "stem.conv", rank=3, stride=(1, 2, 2), prune=False), "stem.relu")
    for stage, repeats in enumerate(blocks):
        channels = stem * 2**stage
        for block in range(repeats):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = _relu(net, net.conv(x, channels, 3, f"{name}.conv1", rank=3, stride=stride), f"{name}.relu1")
            y = net.conv(y, channels, 3, f"{name}.conv2", rank=3, gain=RESIDUAL)
            if stride > 1:
                x = net.conv(x, channels, 1, f"{name}.downsample.conv", rank=3, stride=stride)
            x = _relu(net, _add(net, y, x, f"{name}.add"), f"{name}.relu2")
    net.output(net.classifier(x, classes, "fc"), ["batch", classes])
    return net.model()


def _mobilenet_v2_features(net: Network, x: str, width: float, *, dilated: int = 0) -> str:
    """Add the inverted residuals of MobileNetV2 and the convolution before them.

    The last `dilated` stages keep the size of the one before, and the taps of their windows are 2 apart.
    """
    x = net.conv(x, _channels(32, width), 3, "features.0.conv", stride=2, prune=False)
    x, inputs, i = net.relu6(x, "features.0.relu6"), _channels(32, width), 0
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for stage, (expand, channels, repeats, first_stride) in enumerate(plan):
        outputs, dilates = _channels(channels, width), stage >= len(plan) - dilated
        for repeat in range(repeats):
            i, stride = i + 1, 1 if repeat or dilates else first_stride
            name, y = f"features.{i}", x
            if expand > 1:
                y = net.relu6(net.conv(y, expand * inputs, 1, f"{name}.expand.conv"), f"{name}.expand.relu6")
            y = net.relu6(_depthwise(net, y, 3, f"{name}.depthwise", stride, dilation=1 + dilates), f"{name}.depthwise.relu6")
            joins = stride == 1 and inputs == outputs
            y = net.conv(y, outputs, 1, f"{name}.project.conv", gain=RESIDUAL if joins else 1.0)
            x, inputs = _add(net, x, y, f"{name}.add") if joins else y, outputs
    return x


def _normal_cell(net: Network, a: str, b: str, name: str) -> str:
    """NASNet-A's cell that keeps the size, of the outputs `a` of the cell before last and `b` of the last."""
    parts = [
        a,
        _add(net, _separable(net, b, 5, f"{name}.0.left"), _separable(net, a, 3, f"{name}.0.right"), f"{name}.0"),
        _add(net, _separable(net, a, 5, f"{name}.1.left"), _separable(net, a, 3, f"{name}.1.right"), f"{name}.1"),
        _add(net, _pool3(net, "AveragePool", b, f"{name}.2"), a, f"{name}.2"),
        _add(net, _pool3(net, "AveragePool", a, f"{name}.3.left"), _pool3(net, "AveragePool", a, f"{name}.3.right"), f"{name}.3"),
        _add(net, _separable(net, b, 3, f"{name}.4"), b, f"{name}.4"),
    ]
    return net.node("Concat", parts, name, channels=sum(net.channels[part] for part in parts), axis=1)


def _reduction_cell(net: Network, a: str, b: str, name: str) -> str:
    """NASNet-A's cell that halves height and width."""
    first = _add(net, _separable(net, b, 5, f"{name}.0.left", 2), _separable(net, a, 7, f"{name}.0.right", 2), f"{name}.0")
    second = _add(net, _pool3(net, "MaxPool", b, f"{name}.1", 2), _separable(net, a, 7, f"{name}.1", 2), f"{name}.1")
    parts = [
        second,
        _add(net, _pool3(net, "AveragePool", b, f"{name}.2", 2), _separable(net, a, 5, f"{name}.2", 2), f"{name}.2"),
        _add(net, _pool3(net, "AveragePool", first, f"{name}.3"), second, f"{name}.3"),
        _add(net, _separable(net, first, 3, f"{name}.4"), _pool3(net, "MaxPool", b, f"{name}.4", 2), f"{name}.4"),
    ]
    return net.node("Concat", parts, name, channels=sum(net.channels[part] for part in parts), axis=1)


def _separable(net: Network, x: str, kernel: int, name: str, stride: int = 1) -> str:
    """Relu, a depthwise and a 1x1 convolution, twice; the first steps by `stride`."""
    for i in (1, 2):
        y = net.conv(
            _relu(net, x, f"{name}.{i}"), channels := net.channels[x], kernel, f"{name}.{i}.depthwise", stride=stride, groups=channels
        )
        x, stride = net.conv(y, channels, 1, f"{name}.{i}.pointwise.conv"), 1
    return x


def _pool3(net: Network, op_type: str, x: str, name: str, stride: int = 1) -> str:
    """Maximum or average over 3x3, padded."""
    return net.node(op_type, [x], name, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4)


def _channel_norm(net: Network, x: str, name: str) -> str:
    """LayerNormalization over the channels of NCHW."""
    channels = net.channels[x]
    y = net.node("Transpose", [x], f"{name}.channels_last", perm=[0, 2, 3, 1])
    y = net.layer_norm(y, channels, name, epsilon=1e-6)
    return net.node("Transpose", [y], f"{name}.channels_first", channels=channels, perm=[0, 3, 1, 2])


def _resize(net: Network, x: str, factor: int, name: str) -> str:
    """Height and width times `factor`, bilinear."""
    scales = net.constant(f"{name}.scales", [1, 1, factor, factor])
    return net.node("Resize", [x, "", scales], name, mode="linear", coordinate_transformation_mode="half_pixel")


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


def _depthwise(net: Network, x: str, kernel: int, name: str, stride: int, *, dilation: int = 1) -> str:
    channels = net.channels[x]
    return net.conv(x, channels, kernel, f"{name}.conv", stride=stride, dilation=dilation, groups=channels)


def _squeeze_excite(net: Network, x: str, squeezed: int, name: str, *, hard: bool = False) -> str:
    """Gate each channel by what all of them are on average (Hu et al. 2017); `hard` is with Relu and HardSigmoid."""
    y = net.conv(net.node("GlobalAveragePool", [x], name), squeezed, 1, f"{name}.reduce", prune=False, batchnorm=False, gain=3.0)
    y = _relu(net, y, f"{name}.relu") if hard else net.silu(y, f"{name}.silu")
    y = net.conv(y, net.channels[x], 1, f"{name}.expand", prune=False, batchnorm=False, gain=2.0)
    gate = net.node("HardSigmoid", [y], f"{name}.gate", alpha=1 / 6) if hard else net.node("Sigmoid", [y], f"{name}.gate")
    return net.node("Mul", [x, gate], f"{name}.gate")
