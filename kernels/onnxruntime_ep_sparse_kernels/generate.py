"""Writes one Cython module per instruction set from `_isa.pyx.in`; run by setup.py, nothing generated is checked in."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from Cython import Tempita


def write(isa, template: Path, target: Path) -> None:
    """Instantiate `template` for `isa` (a `variants.Isa`) into `target`; an unchanged file keeps its time stamp."""
    text = f"# Generated from {template.name} by generate.py. Do not edit.\n"
    text += Tempita.Template(template.read_text(), name=template.name).substitute(isa=isa, product=product)
    if not target.exists() or target.read_text() != text:
        target.write_text(text)
