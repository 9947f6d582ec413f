"""Writes sample photos to try the example with: `python sample_photos.py FOLDER` makes FOLDER/calibration and FOLDER/photos.

The photos are those in colour that scikit-image and scikit-learn contain. Six of them are classified. Pictures for calibration are cut out
of the left two fifths of these and out of the other photos, pictures to classify out of the right three fifths: nothing that is classified
has been seen in calibration.
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
"""The first photos are classified: they show things that ImageNet has classes for."""
SIDE = 288
CALIBRATION, CLASSIFIED = 330, 24


def photos() -> list[Image.Image]:
    """Return the photos, in the order of NAMES."""
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    return [Image.open(next(path for folder in folders for path in folder.glob(f"{name}.*"))).convert("RGB") for name in NAMES]


def square(photo: Image.Image, rng: np.random.Generator, start: float, end: float) -> Image.Image:
    """Cut a random square out of a photo between two shares of its width."""
    begin, width = int(photo.width * start), int(photo.width * (end - start))
    side = int(min(width, photo.height) * rng.uniform(0.6, 1))
    left, top = begin + int(rng.integers(width - side + 1)), int(rng.integers(photo.height - side + 1))
    return photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def main() -> None:
    """Write both folders."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python sample_photos.py FOLDER")
    rng = np.random.default_rng(0)
    everything = photos()
    calibrate_with = [(photo, 0.0, 0.4 if at < SHOWN else 1.0) for at, photo in enumerate(everything)]
    classify = [(photo, 0.4, 1.0) for photo in everything[:SHOWN]]
    for name, count, chosen in (("calibration", CALIBRATION, calibrate_with), ("photos", CLASSIFIED, classify)):
        folder = Path(sys.argv[1], name)
        folder.mkdir(parents=True, exist_ok=True)
        for at in range(count):
            which = at % len(chosen)
            file = folder / f"{NAMES[which].removesuffix('_left')}-{at // len(chosen)}.jpg"
            square(chosen[which][0], rng, *chosen[which][1:]).save(file, quality=92)
        print(f"wrote {count} pictures to {folder}")


if __name__ == "__main__":
    main()
