"""Frames from a video, from a folder of pictures, or made up, and how they become the input of a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
INSTALL = "pip install '.[video]' in a clone of onnxruntime-ep-sparse"


class Unusable(Exception):
    """What was given cannot be used: one line for the user."""


def frames(source: Path | None, height: int, width: int) -> Iterator[Image.Image]:
    """Yield frames of this size without an end: of a video or a folder, from the beginning again where it ends; made up without a source.

    Unusable if there is no frame to read.
    """
    if source is None:
        yield from _made_up(height, width)
    if source is None or not (source.is_dir() or source.is_file()):
        raise Unusable(f"no such folder or file: {source}")
    while True:
        count = 0
        for frame in _pictures(source) if source.is_dir() else _video(source):
            count += 1
            yield frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.BILINEAR)
        if not count:
            raise Unusable(f"{source} has no frames")


def _made_up(height: int, width: int) -> Iterator[Image.Image]:
    """Yield a grid with noise that moves from frame to frame."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint16)
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3), np.uint8)
    for number in range(1 << 32):
        grid = (((rows + 4 * number) // 32 + (columns + 8 * number) // 32) % 2 * 160).astype(np.uint8)
        yield Image.fromarray(np.roll(noise, 8 * number, 1) + grid[:, :, None])


def _pictures(folder: Path) -> Iterator[Image.Image]:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES:
            try:
                with Image.open(file) as opened:
                    yield opened.convert("RGB")
            except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: a damaged png
                raise Unusable(f"cannot read {file}: {error}") from None


def _video(file: Path) -> Iterator[Image.Image]:
    try:
        import av
    except ImportError:
        raise Unusable(f"videos need PyAV: {INSTALL}") from None
    try:
        with av.open(file) as container:
            for frame in container.decode(video=0):
                yield frame.to_image()
    except (av.FFmpegError, OSError, IndexError) as error:
        raise Unusable(f"cannot read {file} as a video: {error}") from None


def into(frame: Image.Image, x: NDArray[np.float32]) -> None:
    """Fill x, (1, channels, height, width), with the pixels of a frame from -2 to 2: in grey where it has one channel."""
    pixels = np.asarray(frame.convert("L"))[None] if x.shape[1] == 1 else np.asarray(frame).transpose(2, 0, 1)
    np.multiply(pixels, np.float32(4 / 255), out=x[0])
    x -= 2


def input_shape(session: Any, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the shape of the input for one frame. Unusable if the model does not take frames of this size."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    expected = (1, shape[1] if len(shape) == 4 else 0, height, width)
    fits = (
        len(inputs) == 1 and expected[1] in (1, 3) and all(not isinstance(n, int) or n == m for n, m in zip(shape, expected, strict=True))
    )
    if not fits or inputs[0].type != "tensor(float)":
        words = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise Unusable(f"the model takes {words}: expected one float input (1, 1 or 3 channels, {height}, {width}), or open sizes")
    return expected
