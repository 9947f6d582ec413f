"""Makes a folder of JPEG images to try the examples with: smooth random colours, 256 x 256 pixels, about 13 kB each."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

PER_FOLDER = 1000


def make(folder: Path, count: int, size: int) -> None:
    """Write `count` images of `size` x `size` pixels below `folder`, a thousand per folder. Equal numbers give equal images."""
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        few_pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(few_pixels).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--count", type=int, default=1000, help="number of images (default %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default %(default)s)")
    arguments = parser.parse_args()
    make(arguments.folder, arguments.count, arguments.size)
    print(f"{arguments.count} images in {arguments.folder}")
