"""Draws the pictures of the documentation from the figures in data/: `python docs/pictures.py` with the extra `[docs]`.

Every picture is drawn twice, NAME.svg for light pages and NAME-dark.svg for dark ones. The same data give the same bytes. Pictures of
terminals show what terminals.py has recorded.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

Point = dict[str, Any]
Theme = dict[str, Any]

HERE = Path(__file__).parent
IMAGES = HERE / "images"
LIGHT = {
    "text": "#1f2328",
    "faint": "#8c959f",
    "ground": "#ffffff",
    "series": ("#a6cbe3", "#4d94c4", "#12507f"),
    "heat": "#4d94c4",
    "other": "#c9742b",
}
DARK = {
    "text": "#e6edf3",
    "faint": "#6e7681",
    "ground": "#0d1117",
    "series": ("#1f4e73", "#4d94c4", "#b6d9ef"),
    "heat": "#1f6aa5",
    "other": "#e39a5b",
}
THEMES: dict[str, Theme] = {"": LIGHT, "-dark": DARK}
"""Suffixes of files, and colours; the series get darker on light pages and lighter on dark ones. `other` is the CPU provider."""
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


def rows_of(file: str, table: str = "") -> list[Point]:
    """Return the rows of a table of a document in data/."""
    (found,) = (t for t in json.loads((HERE / "data" / f"{file}.json").read_text())["tables"] if t["name"] == table)
    return found["rows"]


def sweep_points() -> list[Point]:
    """Return the points of the sweep: net x zeros x threads x batch."""
    return rows_of("sweep")


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
    """Draw a small plot per net: the speed-up over the share of zeros, one thread, for one item and for the largest batch.

    Points at which nothing is taken are hollow, so the break-even of the net lies between the last hollow and the first full one.
    """
    figure, grid = new_figure(theme, 9.0, 5.6, rows=3, columns=5)
    points = chosen(sweep_points(), threads=1)
    for axes, (net, name) in zip(grid, NAMES.items(), strict=False):
        own = chosen(points, model=net)
        largest = max(point["batch"] for point in own)
        for batch, colour in ((1, theme["series"][1]), (largest, theme["series"][2])):
            line = sorted(chosen(own, batch=batch), key=lambda point: point["zeros"])
            zeros, heights = [100 * p["zeros"] for p in line], [p["speedup"] or 1.0 for p in line]
            axes.plot(zeros, heights, ".-", color=colour, label="batch 1" if batch == 1 else "largest batch", ms=5)
            left = [zero for zero, p in zip(zeros, line, strict=True) if p["speedup"] is None]
            axes.plot(left, [1.0] * len(left), ".", color=colour, markerfacecolor=theme["ground"], ms=5)
        baseline(axes, theme)
        axes.set_title(name, color=theme["text"], fontsize=9)
        axes.set_ylim(0.5, 5.2)
        axes.set_xticks([0, 50, 90])
    handles = grid[0].get_legend_handles_labels()
    for axes in grid[len(NAMES) :]:
        axes.set_axis_off()
        axes.legend(*handles, frameon=False, labelcolor=theme["text"], fontsize=9, loc="center")
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
    for axis in (axes.xaxis, axes.yaxis):
        scale(axis, "log", [1, 1.5, 2, 3, 4, 5])
    axes.set(xlim=ends, ylim=ends, xlabel="times as fast, measured", ylabel="times as fast, expected")
    return figure


def sparsities(theme: Theme) -> Figure:
    """Draw the speed-up of four layers over 0 to 99 % zeros, a plot each, with the break-even that the cost model expects."""
    figure, grid = new_figure(theme, 9.0, 2.6, rows=1, columns=4)
    rows = rows_of("sparsities")
    for axes, layer in zip(grid, dict.fromkeys(row["layer"] for row in rows), strict=True):
        line = chosen(rows, layer=layer)
        zeros = [100 * row["zeros"] for row in line]
        axes.fill_between(zeros, [row["low"] for row in line], [row["high"] for row in line], color=theme["series"][1], alpha=0.3, lw=0)
        axes.plot(zeros, [row["ratio"] for row in line], ".-", color=theme["series"][1], ms=5)
        limit = 100 * line[0]["break_even"]
        axes.axvline(limit, color=theme["other"], lw=1, ls=":")
        axes.text(limit - 3, 8, f"break-even {limit:.0f} %", color=theme["other"], rotation=90, ha="right", va="top", fontsize=8)
        baseline(axes, theme)
        axes.set_title(layer, color=theme["text"], fontsize=9)
        scale(axes.yaxis, "log", [0.7, 1, 2, 4, 8])
        axes.set(ylim=(0.6, 15), xticks=[0, 25, 50, 75, 99])
    figure.supxlabel("% zeros", color=theme["text"], fontsize=9)
    figure.supylabel("times as fast", color=theme["text"], fontsize=9)
    return figure


def products(theme: Theme) -> Figure:
    """Draw a heat map per share of zeros: the speed-up of a MatMul by K x N and by the number of rows, in colours around 1."""
    figure, grid = new_figure(theme, 9.0, 5.4, rows=2, columns=2)
    colours = LinearSegmentedColormap.from_list("speed-up", [theme["other"], theme["ground"], theme["heat"]], N=48)
    norm = TwoSlopeNorm(1, 0.5, 4)
    for axes, zeros in zip(grid, (70, 80, 90, 95), strict=True):
        rows = rows_of("products", f"{zeros} % zeros")
        sizes, counts = (list(dict.fromkeys(keys)) for keys in zip(*(((r["k"], r["n"]), r["m"]) for r in rows), strict=True))
        table = [[r["ratio"] for r in rows if (r["k"], r["n"]) == size] for size in sizes]
        axes.pcolormesh(table, cmap=colours, norm=norm, edgecolors=theme["ground"], linewidth=0.5, clip_on=False)
        for y, line in enumerate(table):
            for x, ratio in enumerate(line):
                axes.text(x + 0.5, y + 0.5, f"{ratio:.2f}", color=theme["text"], ha="center", va="center", fontsize=7)
        axes.set_xticks([x + 0.5 for x in range(len(counts))], [str(m) for m in counts])
        axes.set_yticks([y + 0.5 for y in range(len(sizes))], [f"{k} x {n}" for k, n in sizes])
        axes.set_title(f"{zeros} % zeros", color=theme["text"], fontsize=9)
        axes.set_ylim(len(sizes), 0)
        axes.tick_params(length=0)
    figure.supxlabel("rows (M)", color=theme["text"], fontsize=9)
    figure.supylabel("K x N", color=theme["text"], fontsize=9)
    return figure


def recurrent(theme: Theme) -> Figure:
    """Draw the speed-up of an LSTM and a GRU over hidden units, a plot per operator and share of zeros, a line per batch."""
    figure, grid = new_figure(theme, 9.0, 2.6, rows=1, columns=4)
    for axes, (op_type, zeros) in zip(grid, [(op, zeros) for op in ("LSTM", "GRU") for zeros in (70, 90)], strict=True):
        rows = chosen(rows_of("recurrent", f"{zeros} % zeros"), op_type=op_type)
        for colour, batch in zip(theme["series"], dict.fromkeys(row["batch"] for row in rows), strict=True):
            line = chosen(rows, batch=batch)
            axes.plot([row["hidden"] for row in line], [row["ratio"] for row in line], ".-", color=colour, label=f"batch {batch}", ms=5)
        baseline(axes, theme)
        axes.set_title(f"{op_type}, {zeros} % zeros", color=theme["text"], fontsize=9)
        scale(axes.xaxis, "log", [64, 128, 256, 512, 1024])
    grid[0].legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="upper left")
    figure.supxlabel("hidden units", color=theme["text"], fontsize=9)
    figure.supylabel("times as fast", color=theme["text"], fontsize=9)
    return figure


def memory(theme: Theme) -> Figure:
    """Draw bars of the memory of one session and of ten, of both providers."""
    figure, axes = new_figure(theme, 7.0, 2.4)
    rows = rows_of("memory")
    labels = [f"{NAMES[row['model']]}, {row['sessions']} session{'s' * (row['sessions'] > 1)}" for row in rows]
    paired_bars(axes, theme, labels, [row["cpu_mb"] for row in rows], [row["ours_mb"] for row in rows], "{:,.0f}")
    axes.set_xlabel("MB beyond the process without a session")
    axes.set_xlim(0, 5600)
    return figure


def creation(theme: Theme) -> Figure:
    """Draw bars of the time to create a session from each form of a model, and of the size of each form."""
    figure, (left, right) = new_figure(theme, 9.0, 3.2, rows=1, columns=2, shared=False)
    rows = rows_of("creation-files")
    forms = ("CPU provider, dense", "dense", "compressed", "compiled, one file", "compiled")
    colours = (theme["other"], theme["faint"], *theme["series"])
    for n, (form, colour) in enumerate(zip(forms, colours, strict=True)):
        key = ("cpu_ms", "ours_ms", "compressed_ms", "one_ms", "compiled_ms")[n]
        bars = left.barh([m + (n - 2) * 0.17 for m in range(len(rows))], [row[key] for row in rows], 0.16, color=colour, label=form)
        left.bar_label(bars, fmt="%.0f", color=theme["text"], fontsize=7, padding=2)
    for n, (form, colour) in enumerate(zip(("dense", "compressed", "compiled"), (colours[1], colours[2], colours[4]), strict=True)):
        places = [m + (n - 1) * 0.24 for m in range(len(rows))]
        bars = right.barh(places, [row[f"{form}_mb"] for row in rows], 0.22, color=colour)
        right.bar_label(bars, fmt="%.1f", color=theme["text"], fontsize=7, padding=2)
    for axes, about, end in ((left, "ms to create a session", 700), (right, "MB on disk", 400)):
        axes.set_yticks(range(len(rows)), [NAMES[row["model"]] for row in rows] if axes is left else [])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, end), xlabel=about)
    figure.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="outside upper center", ncols=5)
    return figure


def steps(theme: Theme) -> Figure:
    """Draw where the time of a run goes: a bar per net, cut by kinds of steps."""
    figure, axes = new_figure(theme, 8.0, 2.9)
    rows = rows_of("steps")
    nets = list(dict.fromkeys(row["net"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    colours = (theme["series"][1], theme["series"][2], theme["series"][0], theme["faint"], theme["other"])
    starts = dict.fromkeys(nets, 0.0)
    for kind, colour in zip(kinds, colours, strict=True):
        shares = [100 * row["share"] for row in chosen(rows, kind=kind)]
        axes.barh(range(len(nets)), shares, 0.7, left=list(starts.values()), color=colour, label=kind)
        starts = {net: start + share for (net, start), share in zip(starts.items(), shares, strict=True)}
    axes.set_yticks(range(len(nets)), [f"{NAMES[net]}, {chosen(rows, net=net)[0]['ms']:.1f} ms" for net in nets])
    axes.set(ylim=(len(nets) - 0.4, -0.6), xlim=(0, 100), xlabel="% of a run")
    figure.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="outside upper center", ncols=5)
    return figure


def accuracy_and_speed(theme: Theme) -> Figure:
    """Draw what pruning leaves of MiniLM over how fast it is then, with one thread and with two."""
    figure, axes = new_figure(theme, 5.0, 3.0)
    rows = rows_of("pruner-speed")
    cosines = [1.0, *(row["reached"] for row in rows_of("pruner") if row.get("part") == "minilm")]
    for threads, colour in ((1, theme["series"][1]), (2, theme["series"][2])):
        label = f"{threads} thread{'s' * (threads > 1)}"
        axes.plot([1.0] + [row[f"speedup_{threads}"] for row in rows], cosines, ".-", color=colour, label=label)
    for row, cosine in zip(rows, cosines[1:], strict=True):
        axes.annotate(f"{row['zeros']} %", (row["speedup_1"], cosine), (6, 2), textcoords="offset points", color=theme["text"], fontsize=8)
    axes.annotate("dense", (1, 1), (6, 2), textcoords="offset points", color=theme["text"], fontsize=8)
    axes.set(xlabel="times as fast", ylabel="cosine to the dense embeddings", xlim=(0.95, 2.1), ylim=(0.8, 1.02))
    axes.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="lower left")
    return figure


def batches(theme: Theme) -> Figure:
    """Draw the time per image over the batch, relative to a batch of one."""
    figure, axes = new_figure(theme, 7.0, 2.4)
    rows = rows_of("batches")
    for net, colour in (("resnet50", theme["series"][1]), ("mobilenet_v1", theme["series"][2])):
        line = chosen(rows, model=net)
        label = f"{NAMES[net]}, batch 1: {line[0]['ms']:.1f} ms"
        axes.plot([row["batch"] for row in line], [row["ms"] / line[0]["ms"] for row in line], ".-", color=colour, label=label)
    baseline(axes, theme)
    axes.set(ylim=(0, 1.2), xticks=[1, 8, 16, 24, 33], xlabel="batch", ylabel="time per image")
    axes.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="lower right")
    return figure


def roofline(theme: Theme) -> Figure:
    """Draw GFLOP/s of layers over their FLOP per byte, below the FMA peak and the rate of memory, both measured in the same run."""
    figure, axes = new_figure(theme, 6.4, 3.6)
    rows = [row for row in rows_of("layers-avx512") if row["count"] is not None]
    peak, memory_gb_s = rows[0]["peak_gflops"], rows[0]["memory_gb_s"]
    corner = peak / memory_gb_s
    axes.plot([0.5, corner, 100], [0.5 * memory_gb_s, peak, peak], color=theme["faint"], lw=1)
    axes.text(95, peak * 1.07, f"FMA peak, {peak:.0f} GFLOP/s", color=theme["text"], ha="right", fontsize=8)
    axes.text(1.7, 1.7 * memory_gb_s * 1.4, f"copying memory, {memory_gb_s:.0f} GB/s", color=theme["text"], rotation=43, fontsize=8)
    groups = {
        "1x1, 90 % zeros": ("o", theme["series"][1], lambda row: row["zeros"] and " 1x1/" in row["layer"]),
        "3x3, 90 % zeros": ("s", theme["series"][2], lambda row: row["zeros"] and " 3x3/" in row["layer"]),
        "depthwise, dense": ("^", theme["other"], lambda row: not row["zeros"]),
    }
    for label, (marker, colour, member) in groups.items():
        points = [row for row in rows if member(row)]
        axes.scatter([p["intensity"] for p in points], [p["gflops"] for p in points], 16, colour, marker=marker, label=label, linewidths=0)
    scale(axes.xaxis, "log", [0.5, 1, 2, 5, 10, 20, 50, 100])
    scale(axes.yaxis, "log", [20, 50, 100, 200])
    axes.set(xlim=(0.5, 100), ylim=(15, 340), xlabel="FLOP per byte", ylabel="GFLOP/s")
    axes.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="lower right")
    return figure


PLOTS: dict[str, Callable[[Theme], Figure]] = {
    "speedups": speedups,
    "over-sparsity": over_sparsity,
    "expected-and-measured": expected_and_measured,
    "sparsities": sparsities,
    "products": products,
    "recurrent": recurrent,
    "memory": memory,
    "creation": creation,
    "steps": steps,
    "accuracy-and-speed": accuracy_and_speed,
    "batches": batches,
    "roofline": roofline,
}
"""The one table of plots: name of the file, and the function that draws it in the colours of a theme."""


def new_figure(theme: Theme, width: float, height: float, rows: int = 1, columns: int = 1, *, shared: bool = True) -> tuple[Figure, Any]:
    """Return a figure of so many inches with its axes, or a flat array of them, in the colours of a theme on a transparent ground."""
    shared = shared and rows * columns > 1
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False).ravel()
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


def scale(axis: Any, kind: str, ticks: list[float]) -> None:
    """Give an axis a scale with these ticks alone, as plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": kind})
    axis.set_major_locator(mpl.ticker.FixedLocator(ticks))
    axis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(mpl.ticker.NullLocator())


def paired_bars(axes: Axes, theme: Theme, labels: list[str], cpu: list[float], ours: list[float], form: str) -> None:
    """Draw two horizontal bars per label, the CPU provider's and ours, with their numbers."""
    sides = (("CPU provider", cpu, theme["other"], -0.2), ("this provider", ours, theme["series"][1], 0.2))
    for label, values, colour, shift in sides:
        bars = axes.barh([n + shift for n in range(len(labels))], values, 0.36, color=colour, label=label)
        axes.bar_label(bars, [form.format(value) for value in values], color=theme["text"], fontsize=8, padding=3)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.legend(frameon=False, labelcolor=theme["text"], fontsize=8, loc="center right")


def terminal(path: Path, suffix: str) -> str:
    """Return the picture of a terminal with a recorded command and its output, in the fonts that the reader has."""
    text = Text.from_ansi(path.read_text().rstrip())
    console = Console(record=True, width=max(line.cell_len for line in text.split()), file=io.StringIO(), legacy_windows=False)
    console.print(text, soft_wrap=True)
    form = re.sub(r"@font-face \{\{.*?\n\s*\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.S).replace("Fira Code", "ui-monospace")
    theme = SVG_EXPORT_THEME if suffix else DEFAULT_TERMINAL_THEME
    svg = console.export_svg(title=path.stem, theme=theme, code_format=form, unique_id="terminal")
    # lines are clipped to the height of Fira Code, which cuts what other fonts have below
    svg = re.sub(r'<clipPath id="terminal-line-.*?</clipPath>', "", svg, flags=re.S)
    svg = re.sub(r' clip-path="url\(#terminal-(line-\d+|clip-terminal)\)"', "", svg)
    svg = svg.replace("rgba(255,255,255,0.35)", THEMES[suffix]["faint"])
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def compact(svg: str) -> str:
    """Return a picture with coordinates of two decimals, one family of fonts, and a class per style: a quarter of the size."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r' d="([^"]*)"', lambda match: f' d="{" ".join(match[1].split())}"', svg)
    number = r"(-?[\d.]+)"
    rectangle = rf"M {number} {number} L {number} \2 L \3 {number} L \1 \4 (?:L \1 \2|z)"
    svg = re.sub(rectangle, r"M\1 \2H\3V\4H\1z", svg)
    svg = re.sub(r"\s*<g id=\"(?:text|line2d|patch)_\d+\">\s*(<(?:text|path)[^>]*>(?:[^<]*</text>)?)\s*</g>", r"\n\1", svg)
    uses = Counter(re.findall(r' style="([^"]*)"', svg))
    classes = {style: f"s{n}" for n, style in enumerate(style for style, count in uses.items() if count > 2)}
    svg = re.sub(r' style="([^"]*)"', lambda match: f' class="{classes[match[1]]}"' if match[1] in classes else match[0], svg)
    rules = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    svg = svg.replace("<defs>", f"<style>{rules}</style>\n<defs>", 1)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def drawn() -> dict[str, str]:
    """Return all pictures as SVG: name of the file to text. Text stays text, so that pages can be searched."""
    settings = {"svg.hashsalt": "onnxruntime-ep-sparse", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    pictures = {}
    with mpl.rc_context(settings):
        for name, draw in PLOTS.items():
            for suffix, theme in THEMES.items():
                text = io.StringIO()
                draw(theme).savefig(text, format="svg", metadata={"Date": None, "Creator": None})
                pictures[f"{name}{suffix}.svg"] = compact(text.getvalue())
    for path in sorted((HERE / "data" / "terminal").glob("*.txt")):
        for suffix in THEMES:
            pictures[f"terminal-{path.stem}{suffix}.svg"] = terminal(path, suffix)
    return pictures


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for file, svg in drawn().items():
        (IMAGES / file).write_text(svg)
