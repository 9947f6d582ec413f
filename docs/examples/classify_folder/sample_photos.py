"""Writes sample photos to try the example with: `python sample_photos.py FOLDER` makes FOLDER/calibration and FOLDER/photos.

The photos are those in colour that scikit-image and scikit-learn contain. Pictures for calibration are cut out of the left two fifths of a
photo, pictures to classify out of the rest, so that nothing that is classified has been seen in calibration.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image

NAMES = ("chelsea", "china", "coffee", "flower", "motorcycle_left", "rocket", "astronaut", "hubble_deep_field", "ihc", "color", "retina")
SHOWN = 6
"""Only the first photos are classified: they show things that ImageNet has classes for."""
SIDE = 288
CALIBRATION, CLASSIFIED = 264, 24


def photos() -> list[Image.Image]:
    """Return the photos, in the order of NAMES."""
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    return [Image.open(next(path for folder in folders for path in folder.glob(f"{name}.*"))).convert("RGB") for name in NAMES]


def square(photo: Image.Image, rng: np.random.Generator, *, seen: bool) -> Image.Image:
    """Cut a random square out of the part of a photo that is for calibration (`seen`), or out of the other one."""
    border = photo.width * 2 // 5
    begin, width = (0, border) if seen else (border, photo.width - border)
    side = int(min(width, photo.height) * rng.uniform(0.6, 1))
    left, top = begin + int(rng.integers(width - side + 1)), int(rng.integers(photo.height - side + 1))
    return photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def main() -> None:
    """Write both folders."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python sample_photos.py FOLDER")
    rng = np.random.default_rng(0)
    everything = photos()
    for name, count, chosen in (("calibration", CALIBRATION, everything), ("photos", CLASSIFIED, everything[:SHOWN])):
        folder = Path(sys.argv[1], name)
        folder.mkdir(parents=True, exist_ok=True)
        for at in range(count):
            which = at % len(chosen)
            file = folder / f"{NAMES[which].removesuffix('_left')}-{at // len(chosen)}.jpg"
            square(chosen[which], rng, seen=name == "calibration").save(file, quality=92)
        print(f"wrote {count} pictures to {folder}")


if __name__ == "__main__":
    main()
