"""A contact sheet: every picture as a thumbnail with what both models see in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

THUMBNAIL = 150
GAP = 10
LINE = 17
BORDER = 4
MOST_COLUMNS = 8
WHITE, BLACK, GREY, GREEN, RED = "#ffffff", "#1a1a1a", "#6b6b6b", "#1b7f3b", "#c62828"


@dataclass(frozen=True)
class Cell:
    """A picture of the sheet, as a thumbnail, with the label of each model."""

    thumbnail: Image.Image
    name: str
    dense: str
    pruned: str

    @property
    def agrees(self) -> bool:
        """Whether both models give the same label."""
        return self.dense == self.pruned


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return a square part of a picture in the size of the sheet."""
    return ImageOps.fit(picture, (THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)


def draw(path: Path, title: str, lines: Sequence[str], cells: Sequence[Cell]) -> None:
    """Write the sheet. Equal labels are written once, in green; where they differ, both stand below each other in red."""
    columns = min(MOST_COLUMNS, max(4, len(cells)))
    rows = -(-len(cells) // columns)
    width, height = THUMBNAIL + 2 * BORDER, THUMBNAIL + 2 * BORDER + 3 * LINE + 4
    top = GAP + 26 + LINE * len(lines) + GAP
    page = Image.new("RGB", (GAP + columns * (width + GAP), top + rows * (height + GAP)), WHITE)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), title, BLACK, ImageFont.load_default(18))
    for at, line in enumerate(lines):
        pen.text((GAP, GAP + 28 + at * LINE), line, GREY, ImageFont.load_default(13))
    small = ImageFont.load_default(12)
    for at, cell in enumerate(cells):
        left, upper = GAP + at % columns * (width + GAP), top + at // columns * (height + GAP)
        color = GREEN if cell.agrees else RED
        pen.rectangle((left, upper, left + width - 1, upper + THUMBNAIL + 2 * BORDER - 1), color)
        page.paste(cell.thumbnail, (left + BORDER, upper + BORDER))
        words = [cell.pruned] if cell.agrees else [f"dense: {cell.dense}", f"pruned: {cell.pruned}"]
        below = upper + THUMBNAIL + 2 * BORDER + 3
        for text, ink in [(cell.name, GREY), *((word, color) for word in words)]:
            pen.text((left, below), _shortened(text, small, width), ink, small)
            below += LINE
    page.save(path, quality=78)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return as much of a text as fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..."
