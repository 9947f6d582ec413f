"""Draws the pictures of the documentation from the figures in data/: `python docs/pictures.py` with the extra `[docs]`.

Every plot is drawn twice, NAME.svg for light pages and NAME-dark.svg for dark ones. The same data give the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
IMAGES = HERE / "images"
LIGHT = {"text": "#1f2328", "faint": "#8c959f", "series": ("#a6cbe3", "#4d94c4", "#12507f")}
DARK = {"text": "#e6edf3", "faint": "#6e7681", "series": ("#1f4e73", "#4d94c4", "#b6d9ef")}
THEMES = {"": LIGHT, "-dark": DARK}
"""Suffixes of files, and colours; the series get darker on light pages and lighter on dark ones."""
NAMES = {
    "resnet50": "ResNet-50",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3",
    "efficientnet_b0": "EfficientNet-B0",
    "unet": "U-Net",
    "convnext_tiny": "ConvNeXt-T",
    "nasnet_mobile": "NASNet",
    "deeplab_v3": "DeepLabV3",
    "bert_base": "BERT-base",
    "lstm": "LSTM",
    "gru": "GRU",
    "streaming_lstm": "streaming LSTM",
    "mlp_policy": "MLP policy",
}
"""Names of the nets of the sweep, in its order."""

Point = dict[str, Any]
Theme = dict[str, Any]


def sweep_points() -> list[Point]:
    """Return the points of data/sweep.json: net x zeros x threads x batch."""
    return json.loads((HERE / "data" / "sweep.json").read_text())["points"]


def chosen(points: list[Point], **values: Any) -> list[Point]:
    """Return the points that have all of these values."""
    return [point for point in points if all(point[key] == value for key, value in values.items())]


def speedups(theme: Theme) -> Figure:
    """Draw bars: the speed-up of each net with 70, 80 and 90 % zeros, one item, one thread, with intervals; a line at 1."""
    figure, axes = new_figure(theme, 9.0, 3.6)
    points = chosen(sweep_points(), threads=1, batch=1)
    shares = (0.7, 0.8, 0.9)
    for n, (zeros, colour) in enumerate(zip(shares, theme["series"], strict=True)):
        for place, net in enumerate(NAMES):
            (point,) = chosen(points, model=net, zeros=zeros)
            height = point["speedup"] or 1.0
            x = place + (n - 1) * 0.27
            axes.bar(x, height, 0.25, color=colour, label=f"{zeros:.0%} zeros" if place == 0 else None)
            if point["speedup"]:
                errors = [[max(height - point["low"], 0)], [max(point["high"] - height, 0)]]
                axes.errorbar(x, height, errors, color=theme["faint"], elinewidth=0.8, capsize=1.5)
    baseline(axes, theme)
    axes.set_xticks(range(len(NAMES)), NAMES.values(), rotation=35, ha="right", rotation_mode="anchor")
    axes.set_ylabel("times as fast")
    axes.set_ylim(0, 5)  # intervals of 8 pairs that another program has disturbed end beyond
    axes.legend(frameon=False, labelcolor=theme["text"], loc="upper left", ncols=3)
    return figure


def over_sparsity(theme: Theme) -> Figure:
    """Draw a small plot per net: the speed-up over the share of zeros, one thread, for one item and for the largest batch."""
    figure, grid = new_figure(theme, 9.0, 5.6, rows=3, columns=5)
    points = chosen(sweep_points(), threads=1)
    for axes, (net, name) in zip(grid, NAMES.items(), strict=False):
        own = chosen(points, model=net)
        largest = max(point["batch"] for point in own)
        for batch, colour in ((1, theme["series"][1]), (largest, theme["series"][2])):
            line = sorted(chosen(own, batch=batch), key=lambda point: point["zeros"])
            axes.plot([100 * p["zeros"] for p in line], [p["speedup"] or 1.0 for p in line], ".-", color=colour, label=f"batch {batch}")
        baseline(axes, theme)
        axes.set_title(name, color=theme["text"], fontsize=9)
        axes.set_ylim(0.5, 5.2)
        axes.set_xticks([0, 50, 90])
        axes.legend(frameon=False, labelcolor=theme["text"], fontsize=7, loc="upper left")
    for axes in grid[len(NAMES) :]:
        axes.set_visible(False)
    figure.supxlabel("% zeros", color=theme["text"], fontsize=9)
    figure.supylabel("times as fast", color=theme["text"], fontsize=9)
    return figure


def expected_and_measured(theme: Theme) -> Figure:
    """Draw every point that was timed: the expected speed-up over the measured one, with the band of 25 % on both sides."""
    figure, axes = new_figure(theme, 4.6, 4.4)
    points = [point for point in sweep_points() if point["speedup"] and point["predicted"]]
    ends = [0.8, 5.5]
    axes.fill_between(ends, [0.75 * end for end in ends], [1.25 * end for end in ends], color=theme["series"][0], alpha=0.35, lw=0)
    axes.plot(ends, ends, color=theme["faint"], lw=0.8)
    axes.scatter([p["speedup"] for p in points], [p["predicted"] for p in points], s=9, color=theme["series"][1], linewidths=0)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="times as fast, measured", ylabel="times as fast, expected")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.FixedLocator([1, 1.5, 2, 3, 4, 5]))
        axis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.set_minor_locator(mpl.ticker.NullLocator())
    return figure


PLOTS: dict[str, Callable[[Theme], Figure]] = {
    "speedups": speedups,
    "over-sparsity": over_sparsity,
    "expected-and-measured": expected_and_measured,
}
"""The one table of plots: name of the file, and the function that draws it in the colours of a theme."""


def new_figure(theme: Theme, width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of so many inches with its axes, or a flat array of them, in the colours of a theme on a transparent ground."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.subplots(rows, columns, sharex=rows * columns > 1, sharey=rows * columns > 1, squeeze=False).ravel()
    for axes in grid:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=theme["text"], labelsize=8)
        axes.xaxis.label.set_color(theme["text"])
        axes.yaxis.label.set_color(theme["text"])
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(theme["faint"])
    return figure, grid[0] if grid.size == 1 else grid


def baseline(axes: Axes, theme: Theme) -> None:
    """Draw the line at 1, where both providers are equally fast."""
    axes.axhline(1, color=theme["faint"], lw=0.8, ls="--", zorder=0)


def drawn() -> dict[str, str]:
    """Return all pictures as SVG: name of the file to text. Text stays text, so that pages can be searched."""
    settings = {"svg.hashsalt": "onnxruntime-ep-sparse", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    pictures = {}
    with mpl.rc_context(settings):
        for name, draw in PLOTS.items():
            for suffix, theme in THEMES.items():
                text = io.StringIO()
                draw(theme).savefig(text, format="svg", metadata={"Date": None, "Creator": None})
                pictures[f"{name}{suffix}.svg"] = "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
    return pictures


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for file, svg in drawn().items():
        (IMAGES / file).write_text(svg)
