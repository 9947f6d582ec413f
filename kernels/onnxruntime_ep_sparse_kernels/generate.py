"""Writes the Cython sources that follow from tables: the modules of kernels, `_cpu.pyx`, and the numbers that Python and C share.

setup.py runs it before Cython. Generated sources are not checked in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from itertools import product
from pathlib import Path

from Cython import Tempita

from .elementwise import Act, Op
from .isa import APART, DEPTHWISE, ISAS, SHARED, STRIPS, TOLD_FEATURES, X86, ByteSet, Isa, byte_sets_for


def write_kernels(isa: Isa, sources: Path, target: Path) -> None:
    """Write the module with the kernels of an instruction set to `target`. `sources` is this package's folder in the source tree."""
    names: dict[str, object] = {"isa": isa, "APART": APART, "SHARED": SHARED, "DEPTHWISE": DEPTHWISE, "STRIPS": STRIPS}
    names |= {"Act": Act, "Op": Op}
    names["product"] = product
    names["transposition"] = transposition
    names["strip_row"] = strip_row
    names["quad_lanes"] = quad_lanes
    names["declarations"] = _declarations(isa, sources / "simd")
    names["include"] = lambda family: _filled(sources / "templates" / f"{family}.pyx.in", **names).strip("\n")
    _write(_filled(sources / "templates" / "module.pyx.in", **names), target)


def write_byte_kernels(byte_set: ByteSet, sources: Path, target: Path) -> None:
    """Write the module with a set of kernels for bytes to `target`. `sources` is this package's folder in the source tree."""
    names: dict[str, object] = {"isa": byte_set.isa, "set": byte_set, "product": product}
    names["declarations"] = _declarations(byte_set.isa, sources / "simd", ("bytes.h", byte_set.isa.byte_header))
    names["include"] = lambda family: _filled(sources / "templates" / f"{family}.pyx.in", **names).strip("\n")
    _write(_filled(sources / "templates" / "module_bytes.pyx.in", **names), target)


def write_cpu(sources: Path, target: Path) -> None:
    """Write the module that tells CPU features to `target`. `sources` is this package's folder in the source tree."""
    sets = byte_sets_for(ISAS)
    features = tuple(dict.fromkeys([*(feature for row in reversed(sets) for feature in row.features), *TOLD_FEATURES]))
    x86_features = {*(feature for row in sets if row.isa.machines == X86 for feature in row.features), *TOLD_FEATURES}
    _write(_filled(sources / "templates" / "cpu.pyx.in", features=features, x86_features=x86_features), target)


def write_enums(prefixes: Mapping[type[IntEnum], str], constants: Mapping[str, int], target: Path) -> None:
    """Declare `constants` and the members of enums for C in the .pxd file `target`: a member's name after the prefix of its enum."""
    text = ""
    if constants:
        text += "\ncdef enum:\n" + "".join(f"    {name} = {number}\n" for name, number in constants.items())
    for kind, prefix in prefixes.items():
        text += f"\ncdef enum {kind.__name__}:\n" + "".join(f"    {prefix}_{member.name} = {member.value}\n" for member in kind)
    _write(text, target)


def quad_lanes(lanes: int, i: int) -> str:
    """Return the lanes of a vector of four values, again and again, that have value `i`: the operand of a shuffle."""
    return ", ".join(str(lane // 4 * 4 + i) for lane in range(lanes))


def transposition(lanes: int) -> Iterator[str]:
    """Yield statements that turn the rows v0, v1 ... of a square into its columns: 4x4 squares within 128 bits, then whole quarters."""

    def both(i: int, j: int, low: list[int], high: list[int]) -> Iterator[str]:
        yield f"u = vf_shuffle(v{i}, v{j}, {', '.join(map(str, low))})"
        yield f"v{j} = vf_shuffle(v{i}, v{j}, {', '.join(map(str, high))})"
        yield f"v{i} = u"

    quarters = range(0, lanes, 4)
    for width, pairs in ((1, ((0, 1), (2, 3))), (2, ((0, 2), (1, 3)))):
        # unpack singles: a0 b0 a1 b1 | a2 b2 a3 b3; then pairs: a0 b0 c0 d0 | a1 b1 c1 d1
        first = [0, lanes, 1, lanes + 1] if width == 1 else [0, 1, lanes, lanes + 1]
        low, high = [q + k for q in quarters for k in first], [q + k + 2 for q in quarters for k in first]
        for q in quarters:
            for i, j in pairs:
                yield from both(q + i, q + j, low, high)
    for q in quarters:
        # the columns stand in the order 0 2 1 3
        yield f"u = v{q + 1}"
        yield f"v{q + 1} = v{q + 2}"
        yield f"v{q + 2} = u"
    width = 4
    while width < lanes:
        low = [k if not k & width else lanes + k - width for k in range(lanes)]
        high = [k + width if not k & width else lanes + k for k in range(lanes)]
        for i in range(lanes):
            if not i & width:
                yield from both(i, i + width, low, high)
        width *= 2


def strip_row(kernel: int, step: int, kind: str, row: int) -> Iterator[str]:
    """Yield statements of a depthwise strip that add a row of x to all sums whose windows it is in: it is `row` of the window of a0.

    `kind` says how taps are read: "inside" whole vectors, "border" by masks, "narrow" from one vector that holds the row. A "pair" of
    strips that leave the image on one side each has the sums b0, b1 ... of the second strip besides; the two share weights.
    """

    def load(place: str, mask: int | None = None) -> str:
        return f"vf_load(x + {place})" if mask is None or kind == "inside" else f"vf_load_masked(x + {place}, mask{mask})"

    if kind == "narrow":
        yield f"p = vf_load_masked(x, mask{kernel})"
    for k in range(kernel):
        tap = "v"
        if kind == "pair":
            yield f"v = vf_kept({load(str(k), k if k < kernel // 2 else None)})"
            yield f"p = vf_kept({load(f'far + {k}', kernel + 1 + k if k > kernel // 2 else None)})"
        elif kind == "narrow" and step == 1 and k == kernel // 2:
            tap = "p"
        elif kind == "narrow":
            yield f"v = vf_permuted(p, mask{k})"
        elif step == 1:
            yield f"v = vf_kept({load(str(k), k)})"
        elif k == kernel - 1:
            # the evens from here on would read one column beyond the window
            yield f"v = vf_odds_apart({load(str(k - 1), k)}, {load(f'{k - 1} + SPARSE_LANES', k + 1)})"
        elif k % 2 == 0:
            yield f"p = {load(str(k), k)}"
            yield f"q = {load(f'{k} + SPARSE_LANES', k + 1)}"
            yield "v = vf_evens_apart(p, q)"
        else:
            yield "v = vf_odds_apart(p, q)"
        for i, place in enumerate(range(row * kernel + k, -1, -step * kernel)):
            weight = f"w{place}" if kernel == 3 else f"vf_set(value[{place} * DEPTHWISE_OUTPUTS])"
            if kind == "pair":
                yield f"w = vf_kept({weight})"
                yield f"a{i} = vf_fma(w, v, a{i})"
                yield f"b{i} = vf_fma(w, p, b{i})"
            else:
                yield f"a{i} = vf_fma({weight}, {tap}, a{i})"


def _declarations(isa: Isa, folder: Path, more: tuple[str, ...] = ()) -> list[str]:
    """Return the declarations of all functions in the headers that `isa` includes: a new function there needs no second line elsewhere.

    `more` names further headers. A function that a header defines for several cases is declared once.
    """
    code = "".join((folder / name).read_text() for name in ("simd.h", isa.header, "math.h", *more))
    found = re.findall(r"^static inline (\w[^{]*\)) \{", code, re.M)
    return list(dict.fromkeys(declaration.replace(" *restrict ", " *") for declaration in found))


def _filled(template: Path, **names: object) -> str:
    return Tempita.Template(template.read_text(), name=template.name).substitute(names)


def _write(text: str, target: Path) -> None:
    """Write a generated source. An unchanged file keeps its time stamp, so that it is not compiled again."""
    text = f"# Generated by {Path(__file__).name}. Do not edit.\n{text}"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)
