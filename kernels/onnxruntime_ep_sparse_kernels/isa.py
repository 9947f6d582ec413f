"""The one table of kernel variants: what the build generates, dispatch picks from, tests and benches enumerate.

Name grammar: `spmm_f32_<MR>x<NV>_<isa>`: MR output rows by NV vectors of pixels stay in registers. MR is APART or SHARED.
Plain Python without imports from the package: setup.py loads it before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass

APART = 2
"""MR of the kernels whose rows have columns of their own: unstructured zeros."""
SHARED = 4
"""MR of the kernels whose rows share their columns, so that a vector of pixels is loaded once: dense weights, blocks of 4x1."""
STRIP = 32
"""Rows are ordered by their number of nonzeros within strips of so many: work for threads is cut between strips."""


@dataclass(frozen=True)
class Isa:
    """An instruction set the kernels are built for.

    `lanes` float32 make a vector; `features` are the names `cpu_features()` must show; `tiles` are the (MR, NV) pairs, limited by the
    number of vector registers (16, or 32 with AVX-512): MR*NV accumulators, NV pixel vectors if SHARED, one broadcast weight.
    """

    name: str
    lanes: int
    flags: tuple[str, ...]
    features: tuple[str, ...]
    tiles: tuple[tuple[int, int], ...]

    def widest(self, mr: int) -> int:
        """The largest NV with this MR."""
        return max(nv for m, nv in self.tiles if m == mr)


def _tiles(widest_apart: int, widest_shared: int) -> tuple[tuple[int, int], ...]:
    return tuple((APART, nv) for nv in range(1, widest_apart + 1)) + tuple((SHARED, nv) for nv in range(1, widest_shared + 1))


ISAS = (
    Isa(
        "avx512",
        16,
        ("-DSPARSE_LANES=16", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
        ("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma"),
        _tiles(8, 6),
    ),
    Isa("avx2", 8, ("-DSPARSE_LANES=8", "-mavx2", "-mfma"), ("avx2", "fma"), _tiles(7, 3)),
    Isa("baseline", 4, ("-DSPARSE_LANES=4",), (), _tiles(7, 3)),
)
"""Best first."""


def isas_for(machine: str) -> tuple[Isa, ...]:
    """The instruction sets worth compiling for `platform.machine()`."""
    return ISAS if machine.lower() in {"x86_64", "amd64"} else ISAS[-1:]


def kernel_name(isa: Isa, mr: int, nv: int) -> str:
    """The name a kernel has in source, bench and report."""
    return f"spmm_f32_{mr}x{nv}_{isa.name}"
