"""Pictures from a folder or from a video, and how they become the input of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
INSTALL = "pip install '.[classify]' in a clone of onnxruntime-ep-sparse"


class Unusable(Exception):
    """What was given cannot be used: one line for the user."""


@dataclass(frozen=True)
class Skipped:
    """A picture that cannot be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A folder, a picture or a video. `every`: of a video, one frame of so many."""

    path: Path
    files: tuple[Path, ...]
    """The pictures of a folder and the folders below it; none for a video."""
    every: int

    @classmethod
    def of(cls, path: Path, every: int) -> Source:
        """Find the pictures. Unusable if there is nothing."""
        if path.is_dir():
            files = tuple(sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()))
            if not files:
                raise Unusable(f"{path} has no pictures ({', '.join(sorted(SUFFIXES))})")
            return cls(path, files, every)
        if not path.is_file():
            raise Unusable(f"no such folder or file: {path}")
        return cls(path, (path,) if path.suffix.lower() in SUFFIXES else (), every)

    def count(self) -> int | None:
        """Return how many pictures there are; None if a video does not tell."""
        if self.files:
            return len(self.files)
        with _open(self.path) as container:
            return -(-container.streams.video[0].frames // self.every) or None

    def __iter__(self) -> Iterator[tuple[str, Image.Image] | Skipped]:
        """Yield each picture with its name, or why it is skipped."""
        if not self.files:
            yield from self._frames()
            return
        for file in self.files:
            name = file.relative_to(self.path).as_posix() if file != self.path else file.name
            try:
                with Image.open(file) as opened:
                    yield name, ImageOps.exif_transpose(opened).convert("RGB")
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a damaged png
                yield Skipped(name, " ".join(str(error).replace(str(file), name).split()))

    def _frames(self) -> Iterator[tuple[str, Image.Image] | Skipped]:
        """Yield every so many-th frame of a video, named by its time in seconds."""
        import av

        number = 0
        with _open(self.path) as container:
            for packet in container.demux(container.streams.video[0]):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    yield Skipped(f"after frame {number}", str(error))
                    continue
                for frame in frames:
                    if number % self.every == 0:
                        yield f"{frame.time or 0:.2f} s", frame.to_image()
                    number += 1


def _open(path: Path) -> Any:
    """Open a video. Unusable if it is none, or without PyAV."""
    try:
        import av
    except ImportError:
        raise Unusable(f"{path} is no picture, and videos need PyAV: {INSTALL}") from None
    try:
        container = av.open(path)
    except (av.FFmpegError, OSError) as error:
        raise Unusable(f"cannot read {path} as a video: {error}") from None
    if not container.streams.video:
        container.close()
        raise Unusable(f"{path} has no pictures in it")
    return container


@dataclass(frozen=True)
class Input:
    """The input of a model: its name, height and width, whether the channels come last, and how pixels become numbers."""

    name: str
    batch: int | None
    size: tuple[int, int]
    channels_last: bool
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, session: Any, size: int | None, mean: Sequence[float], std: Sequence[float]) -> Input:
        """Read it from a session. Unusable if the model does not take one batch of pictures in colour."""
        shapes = [(value.name, value.type, value.shape) for value in session.get_inputs()]
        if len(shapes) != 1 or len(shapes[0][2]) != 4 or shapes[0][1] != "tensor(float)" or 3 not in (shapes[0][2][1], shapes[0][2][3]):
            words = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in shapes)
            raise Unusable(f"the model takes {words}: expected one float input (batch, 3, height, width), or with the channels last")
        name, _, shape = shapes[0]
        channels_last = shape[1] != 3
        height, width = shape[1:3] if channels_last else shape[2:4]
        if not isinstance(height, int) or not isinstance(width, int):
            if size is None:
                raise Unusable(f"the model leaves the size of {name} open: give --size 224")
            height, width = size, size
        batch = shape[0] if isinstance(shape[0], int) else None
        return cls(name, batch, (height, width), channels_last, np.array(mean, np.float32), np.array(std, np.float32))

    @property
    def form(self) -> str:
        """Return what the model takes, in words."""
        height, width = map(str, self.size)
        shape = (height, width, "3") if self.channels_last else ("3", height, width)
        return f"{self.name} of {self.batch or 'any number'} x {' x '.join(shape)}"

    def pixels(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return the largest part of the model's shape from the centre of a picture, as (pixel / 255 - mean) / std."""
        height, width = self.size
        fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        numbers = (np.asarray(fitted, np.float32) / 255 - self.mean) / self.std
        return numbers if self.channels_last else numbers.transpose(2, 0, 1)
