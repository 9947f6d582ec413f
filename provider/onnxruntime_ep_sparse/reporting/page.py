"""Makes the page of a report: what its plots draw, as numbers between 0 and 100, for the template `page.html.j2`.

The page needs no other file: `page.css` and `page.js` are written into it, and plots are inline SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..measure import CPU, TOLERANCE
from ..options import EP_NAME
from ..records import counted
from .sections import SECTIONS

if TYPE_CHECKING:
    from .report import Report

MOST_ROWS = 800
"""Nodes in the table, at most: a row has about 700 bytes, and the page stays below 1 MB."""
LONGEST_NAME = 160
"""Characters of a name. Names in models may have a million."""
LEVELS = 8
"""Shades of a share."""
UNKNOWN = "–"

View = dict[str, Any]


def rendered(report: Report) -> str:
    """Return the page as text. ImportError if jinja2 is missing."""
    environment = _jinja().Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=_jinja().StrictUndefined)
    environment.filters |= {"ms": ms, "percent": percent, "number": number, "dims": dims, "short": short, "counted": counted}
    files = resources.files(__package__)
    texts = {name: files.joinpath(name).read_text("utf-8") for name in ("page.html.j2", "page.css", "page.js")}
    return environment.from_string(texts["page.html.j2"]).render(**view_of(report), style=texts["page.css"], script=texts["page.js"])


def check_jinja() -> None:
    """Raise ImportError if the page cannot be made: at once, and not after minutes of measuring."""
    _jinja()


def view_of(report: Report) -> View:
    """Return what the template shows."""
    data = report.to_dict()
    nodes = report.records()
    weighty = [node for node in nodes if node["shape"] is not None]
    shown = (nodes if len(nodes) <= MOST_ROWS else weighty)[:MOST_ROWS]
    return {
        "data": data,
        "ours": EP_NAME,
        "cpu": CPU,
        "tolerance": TOLERANCE,
        "titles": {section.key: section.title for section in SECTIONS},
        "cards": list(_cards(data)),
        "bars": _bars(data["layers"]),
        "strip": list(_strip(weighty)),
        "levels": LEVELS,
        "map": None if data["density"] is None else _map(data["density"]["density"]),
        "curves": {key: _curve(data[key]) for key in ("batch_curve", "thread_curve") if data[key] is not None},
        "gains": _gains(data["what_if"]),
        "nodes": shown,
        "hidden_nodes": len(nodes) - len(shown),
    }


def ms(value: float | None) -> str:
    """Return milliseconds with three digits that count."""
    return UNKNOWN if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return UNKNOWN if value is None else f"{value:.1%}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many digits after the point."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def dims(shape: Iterable[int] | None) -> str:
    """Return a shape as 64x3x3x3."""
    return UNKNOWN if shape is None else "x".join(map(str, shape)) or "scalar"


def short(name: str) -> str:
    """Return a name, of a long one its beginning and end."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]} ... {name[-half:]}"


def level(share: float | None) -> int:
    """Return the shade of a share, from 0 to LEVELS."""
    return 0 if share is None else round(min(max(share, 0.0), 1.0) * LEVELS)


def _jinja() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ImportError("a page needs jinja2: pip install jinja2") from None
    return jinja2


def _cards(data: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Yield title, figure and a remark of each card of the headline."""
    decided, measured = data["decisions"], data["speed"]
    if measured is not None:
        ratio = measured["speed_up"]
        if ratio is None:
            yield "Speed-up", "none", f"{EP_NAME} takes no node"
        else:
            disturbed = "" if measured["valid"] else "; NOT VALID, there is other load on the machine"
            ends = f"{ratio['low']:.2f} to {ratio['high']:.2f} at {ratio['confidence']:.0%} confidence"
            yield "Speed-up", f"{ratio['median']:.2f}x", f"{ends}, {ratio['pairs']} pairs{disturbed}"
            sides = measured["cpu"], measured["sparse"]
            yield "Latency", f"{ms(sides[1]['latency']['p50_ms'])} ms", f"{ms(sides[0]['latency']['p50_ms'])} ms with the CPU provider"
            if None not in (sides[0]["memory_mb"], sides[1]["memory_mb"]):
                yield "Memory", f"{sides[1]['memory_mb']:.0f} MB", f"{sides[0]['memory_mb']:.0f} MB with the CPU provider"
        worst = max(measured["agreement"], key=lambda each: each["max_relative"] or 0.0, default=None)
        if worst is not None:
            error = "not finite" if worst["max_relative"] is None else f"{worst['max_relative']:.1e}"
            same = "" if worst["argmax"] is None else f", same class in {worst['argmax']:.1%}"
            own = "" if worst["spread"] is None else f"; runs of the CPU provider with other settings differ by {worst['spread']:.1e}"
            yield "Agreement", "yes" if measured["agrees"] else "NO", f"largest error {error} of the largest output{same}{own}"
    if decided is not None:
        yield "Nodes taken", f"{decided['taken']} of {len(decided['nodes'])}", f"in {counted(decided['regions'], 'region')}"
        yield "Zeros", percent(decided["sparsity"]), f"of {decided['weights']:,} weights"
    yield "File", f"{data['file_bytes'] / 1e6:.4g} MB", short(data["model"])


def _bars(layers: Mapping[str, Any] | None) -> list[View]:
    """Return a row per layer, and one for what is left of a run, with the widths of both bars in percent of the longest."""
    if layers is None:
        return []
    rows = [*layers["rows"], {"name": "everything else", "op_type": "", "shape": None, "sparsity": None, **layers["rest"]}]
    return _scaled(rows, ("cpu_ms", "ms"))


def _gains(found: Mapping[str, Any] | None) -> list[View]:
    """Return a row per share of zeros, with the widths of both bars."""
    return [] if found is None else _scaled(found["shares"], ("cpu_ms", "ms"))


def _scaled(rows: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> list[View]:
    """Return rows with `widths` of these values in percent of the largest of all, 0 for None."""
    most = max((row[key] or 0.0 for row in rows for key in keys), default=0.0) or 1.0
    return [{**row, "widths": {key: round(100 * (row[key] or 0.0) / most, 3) for key in keys}} for row in rows]


def _strip(nodes: Sequence[Mapping[str, Any]]) -> Iterable[View]:
    """Yield a cell per node with a weight, from left to right; their widths add up to 100."""
    for i, node in enumerate(nodes):
        yield {"node": node, "x": round(100 * i / len(nodes), 3), "width": round(100 / len(nodes), 3), "level": level(node["sparsity"])}


def _map(grid: Sequence[Sequence[float]]) -> View:
    """Return an SVG path per shade: cells of the same shade that stand beside each other are one rectangle.

    Shades are relative to the densest cell, else the cells of a sparse weight would all look alike.
    """
    most = max(map(max, grid))
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(grid):
        begin = 0
        shades = [level(share / most if most else 0.0) for share in row]
        for x in range(1, len(row) + 1):
            if x == len(row) or shades[x] != shades[begin]:
                paths.setdefault(shades[begin], []).append(f"M{begin} {y}h{x - begin}v1h{begin - x}z")
                begin = x
    return {
        "most": most,
        "columns": len(grid[0]),
        "rows": len(grid),
        "paths": {shade: "".join(parts) for shade, parts in sorted(paths.items())},
    }


WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 320, 180, 34, 26, 12
"""Of a curve, and of its margins."""


def _curve(curve: Mapping[str, Any]) -> View:
    """Return where the points of a curve are; points without a speed-up are left out."""
    axis = curve["axis"]
    points = [point for point in curve["points"] if point["speed_up"] is not None]
    most = max((point["speed_up"]["high"] for point in points), default=1.0)
    step = next(step for step in (0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 1e3, 1e9) if max(most, 1.0) / step <= 6)
    top = max(most, 1.0) * 1.05

    def height(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top, 1)

    room = (WIDTH - LEFT - 10) / max(len(points), 1)
    drawn = []
    for i, point in enumerate(points):
        ratio = point["speed_up"]
        ends = {key: height(ratio[key]) for key in ("median", "low", "high")}
        drawn.append({"x": round(LEFT + room * (i + 0.5), 1), "label": point[axis], **ends})
    ticks = [(height(step * i), f"{step * i:g}") for i in range(int(top / step) + 1)]
    line = " ".join(f"{point['x']},{point['median']}" for point in drawn)
    edges = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - 10, "bottom": HEIGHT - BOTTOM}
    return {"axis": axis, "points": drawn, "ticks": ticks, "line": line, "one": height(1.0), **edges, "rows": curve["points"]}
