"""The one table of kernel variants: what the build generates, dispatch picks from, tests and benches enumerate.

Name grammar: `spmm_f32_<MR>x<NV>_<isa>`: MR output rows share one nonzero column, NV vectors of pixels stay in registers.
Plain Python without imports from the package: setup.py loads it before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """An instruction set the kernels are built for.

    `lanes` float32 make a vector; `features` are the names `cpu_features()` must show; `tiles` are the (MR, NV) pairs, limited by the
    number of vector registers (16, or 32 with AVX-512): MR*NV accumulators, NV pixel vectors if MR > 1, one broadcast weight.
    """

    name: str
    lanes: int
    flags: tuple[str, ...]
    features: tuple[str, ...]
    tiles: tuple[tuple[int, int], ...]

    def widest(self, mr: int) -> int:
        """The largest NV with this MR."""
        return max(nv for m, nv in self.tiles if m == mr)


def _tiles(widest_1: int, widest_4: int) -> tuple[tuple[int, int], ...]:
    return tuple((1, nv) for nv in range(1, widest_1 + 1)) + tuple((4, nv) for nv in range(1, widest_4 + 1))


ISAS = (
    Isa(
        "avx512",
        16,
        ("-DSPARSE_LANES=16", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
        ("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma"),
        _tiles(14, 6),
    ),
    Isa("avx2", 8, ("-DSPARSE_LANES=8", "-mavx2", "-mfma"), ("avx2", "fma"), _tiles(8, 3)),
    Isa("baseline", 4, ("-DSPARSE_LANES=4",), (), _tiles(8, 3)),
)
"""Best first."""


def isas_for(machine: str) -> tuple[Isa, ...]:
    """The instruction sets worth compiling for `platform.machine()`."""
    return ISAS if machine.lower() in {"x86_64", "amd64"} else ISAS[-1:]


def kernel_name(isa: Isa, mr: int, nv: int) -> str:
    """The name a kernel has in source, bench and report."""
    return f"spmm_f32_{mr}x{nv}_{isa.name}"
