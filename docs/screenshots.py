"""Pictures of the page that `ort-sparse report` makes: `python docs/screenshots.py REPORT.html`, with `chromium` on the PATH and Pillow.

The figures are those of the page. It was made by `ort-sparse report model:resnet50:0.9 -o REPORT.html --threads 1`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent / "images"
COLOURS = 48
SHOTS = {"report-desktop": (1100, 1000, ()), "report-phone": (390, 844, ("--blink-settings=preferredColorScheme=0",))}
"""Width, height and more arguments of Chromium: the phone shows the dark page."""


def main(page: Path) -> None:
    """Take the pictures, with few colours, so that they are small."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (width, height, more) in SHOTS.items():
            raw = Path(folder, "shot.png")
            size = (f"--window-size={width},{height}", f"--screenshot={raw}")
            command = [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                *size,
                *more,
                page.resolve().as_uri(),
            ]
            subprocess.run(command, check=True, capture_output=True)
            with Image.open(raw) as picture:
                picture.convert("RGB").quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
