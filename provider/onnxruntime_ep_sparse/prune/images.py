"""Images as a model's input, by Pillow: what `--image size=224,mean=...,std=...` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import shown
from ..models.inputs import NUMPY_NAMES, Input, shape_words

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CHANNELS = (1, 3)
EXPECTED = "expected size=224 or size=224x320 (height x width), mean=..., std=..., fit=crop or stretch, color=rgb or bgr, joined by commas"


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How a file becomes a sample of the input `name`: `height` x `width` pixels, then (pixel / 255 - mean) / std by channel.

    `fit` is `crop`, the largest part of that shape from the centre, or `stretch`. A model of uint8 inputs gets the pixels.
    """

    name: str
    dtype: np.dtype
    height: int
    width: int
    channels: int
    channels_last: bool
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    fit: str
    color: str

    @classmethod
    def of(cls, text: str, inputs: Sequence[Input]) -> ImageOptions:
        """Read `--image` for a model of these inputs. ValueError if it is not understood, or if images do not fit the model."""
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{i.name} {shape_words(i.shape)}" for i in inputs)
            raise ValueError(f"images are for models with one input of rank 4, and the inputs are {shapes}: give an npz file")
        (image,) = inputs
        channels_last = image.shape[1] not in CHANNELS and image.shape[3] in CHANNELS
        fixed = image.shape[1:3] if channels_last else image.shape[2:4]
        channels = image.shape[3 if channels_last else 1]
        if isinstance(channels, int) and channels not in CHANNELS:
            raise ValueError(f"images have 1 or 3 channels, and {image.name} is {shape_words(image.shape)}: give an npz file")
        count = channels if isinstance(channels, int) else 3
        given = _pairs(text)
        height, width = _size(given.get("size", fixed), image)
        mean, std = (_numbers(given, key, default, count) for key, default in (("mean", 0.0), ("std", 1.0)))
        fit, color = given.get("fit", "crop"), given.get("color", "rgb")
        dtype = np.dtype(NUMPY_NAMES.get(name := image.type.removeprefix("tensor(").removesuffix(")"), name))
        if fit not in ("crop", "stretch") or color not in ("rgb", "bgr") or not np.all(std):
            raise ValueError(f"--image {text!r}: {EXPECTED}")
        if dtype.kind != "f" and (dtype != np.uint8 or given.keys() & {"mean", "std"}):
            raise ValueError(
                f"{image.name} takes {dtype}: " + ("pixels, without mean and std" if dtype == np.uint8 else "give an npz file")
            )
        return cls(image.name, dtype, height, width, count, channels_last, mean, std, fit, color)

    def read(self, path: Path) -> NDArray:
        """Return a file as a sample, without the first axis. ValueError if it is not an image; ImportError without Pillow."""
        try:
            from PIL import Image, ImageOps
        except ImportError:
            raise ImportError("images need Pillow: pip install pillow") from None
        try:
            with Image.open(path) as file:
                image: Any = ImageOps.exif_transpose(file).convert("L" if self.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a damaged png
            raise ValueError(f"cannot read {shown(path)} as an image: {error}") from None
        size, filtering = (self.width, self.height), Image.Resampling.BILINEAR
        image = ImageOps.fit(image, size, filtering) if self.fit == "crop" else image.resize(size, filtering)
        pixels__hwc = np.asarray(image).reshape(self.height, self.width, self.channels)
        if self.color == "bgr":
            pixels__hwc = pixels__hwc[:, :, ::-1]
        sample__chw = np.ascontiguousarray(pixels__hwc.transpose(2, 0, 1))
        if self.dtype.kind == "f":
            # plane by plane and in place: a quarter of the time of pixel by pixel, where numpy's inner loops have 3 elements
            numbers = sample__chw.astype(np.float32)
            numbers /= np.float32(255)
            numbers -= self.mean[:, None, None]
            numbers /= self.std[:, None, None]
            sample__chw = numbers.astype(self.dtype, copy=False)
        return sample__chw.transpose(1, 2, 0) if self.channels_last else sample__chw


def _pairs(text: str) -> dict[str, str]:
    """Return the values by key. A part without `=` continues the list before it."""
    pairs: dict[str, str] = {}
    key = ""
    for part in text.split(",") if text else ():
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip()
            if key in pairs or key not in ("size", "mean", "std", "fit", "color"):
                raise ValueError(f"--image {text!r}: {EXPECTED}")
            pairs[key] = value.strip()
        elif key in ("mean", "std"):
            pairs[key] += f",{part}"
        else:
            raise ValueError(f"--image {text!r}: {EXPECTED}")
    return pairs


def _size(size: Any, image: Input) -> tuple[int, int]:
    """Return height and width, as `--image` says them or as the model fixes them."""
    if isinstance(size, str):
        parts = size.split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError(f"--image size={size}: {EXPECTED}")
        return int(parts[0]), int(parts[-1])
    height, width = size  # dimensions of the model
    if not isinstance(height, int) or not isinstance(width, int):
        raise ValueError(f"the model leaves the size of {image.name} open ({shape_words(image.shape)}): give --image size=224")
    return height, width


def _numbers(given: dict[str, str], key: str, default: float, channels: int) -> NDArray[np.float32]:
    """Return a number for each channel. One number stands for all of them."""
    try:
        numbers = np.array([float(part) for part in given[key].split(",")] if key in given else [default], np.float32)
    except ValueError:
        raise ValueError(f"--image {key}={given[key]}: {EXPECTED}") from None
    if len(numbers) not in (1, channels) or not np.isfinite(numbers).all():
        raise ValueError(f"--image {key}={given[key]}: expected one number, or one for each of {channels} channels")
    return np.broadcast_to(numbers, channels)
