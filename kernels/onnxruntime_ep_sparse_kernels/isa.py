"""The table of instruction sets and of kernel variants. The build, the dispatch at run time, tests and benchmarks read it.

A new instruction set is one row of `ISAS` and one header of vector primitives in `simd/`.

Name grammar: `spmm_f32_<MR>x<NV>_<isa>`: MR output rows by NV vectors of pixels stay in registers. MR is APART or SHARED.
Plain Python that imports only the standard library: setup.py imports it before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass

APART = 2
"""MR of the kernels whose rows have columns of their own: unstructured zeros."""
SHARED = 4
"""MR of the kernels whose rows share their columns, so that a vector of pixels is loaded once: dense weights, blocks of 4x1."""
STRIP = 32
"""Rows are ordered by their number of nonzeros within strips of so many: work for threads is cut between strips."""

DEPTHWISE = ((1, False), (1, True), (2, False))
"""(stride, whether it is dilated) of the 3x3 windows for which there are depthwise kernels that compute output by output."""
DEPTHWISE_OUTPUTS = 16
"""Weights of so many outputs of a depthwise convolution stand beside each other: a multiple of the lanes of every instruction set."""

X86 = ("x86_64", "amd64")
"""Values of `platform.machine()` in lower case on which rows for x86 are built."""


@dataclass(frozen=True)
class Isa:
    """One row of the table: an instruction set for which the kernels are built."""

    name: str
    """Names the extension module, the kernels and a value of the provider option `isa`."""
    lanes: int
    """float32 values per vector."""
    registers: int
    """Vector registers. `tiles` must fit: MR*NV accumulators, NV vectors of pixels if MR is SHARED, one broadcast weight."""
    machines: tuple[str, ...] | None
    """Values of `platform.machine()` in lower case for which it is built; None: for all."""
    features: tuple[str, ...]
    """CPU features that it needs, by their names in `__builtin_cpu_supports`."""
    flags: tuple[str, ...]
    """Compiler flags that enable the instructions."""
    header: str
    """The header in `simd/` that defines the vector primitives."""
    tiles: tuple[tuple[int, int], ...]
    """(MR, NV) of every tile kernel."""

    @property
    def module(self) -> str:
        """The name of the extension module with its kernels."""
        return f"_isa_{self.name}"

    @property
    def compile_args(self) -> tuple[str, ...]:
        """All arguments of the C compiler: `flags`, and the macros that `simd/simd.h` reads."""
        return (f"-DSPARSE_LANES={self.lanes}", f'-DSPARSE_PRIMITIVES="{self.header}"', *self.flags)

    def widest(self, mr: int) -> int:
        """Return the largest NV with this MR."""
        return max(nv for m, nv in self.tiles if m == mr)


def _tiles(widest_apart: int, widest_shared: int) -> tuple[tuple[int, int], ...]:
    return tuple((APART, nv) for nv in range(1, widest_apart + 1)) + tuple((SHARED, nv) for nv in range(1, widest_shared + 1))


ISAS = (
    Isa(
        name="avx512",
        lanes=16,
        registers=32,
        machines=X86,
        features=("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma"),
        flags=("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
        header="x86_avx512.h",
        tiles=_tiles(8, 6),
    ),
    Isa(
        name="avx2",
        lanes=8,
        registers=16,
        machines=X86,
        features=("avx2", "fma"),
        flags=("-mavx2", "-mfma"),
        header="x86_avx2.h",
        tiles=_tiles(7, 3),
    ),
    Isa(
        name="baseline",
        lanes=4,
        registers=16,
        machines=None,
        features=(),
        flags=(),
        header="generic.h",
        tiles=_tiles(7, 3),
    ),
)
"""Best first. The last needs no features and is built everywhere."""

MAX_MR = max(mr for isa in ISAS for mr, _ in isa.tiles)
MAX_NV = max(nv for isa in ISAS for _, nv in isa.tiles)
"""The largest numbers in `tiles`: they size the kernel table."""

C_CONSTANTS = ("APART", "SHARED", "STRIP", "DEPTHWISE_OUTPUTS", "MAX_MR", "MAX_NV")
"""Numbers that C reads too: setup.py writes them to `_enums.pxd`."""


def isas_for(machine: str) -> tuple[Isa, ...]:
    """Return the rows that are built on a machine, best first. `machine` is a value of `platform.machine()`."""
    return tuple(isa for isa in ISAS if isa.machines is None or machine.lower() in isa.machines)


def isa_named(name: str) -> Isa:
    """Return the row of this name. Raises KeyError for a name that no row has."""
    return {isa.name: isa for isa in ISAS}[name]


def kernel_name(isa: Isa, mr: int, nv: int) -> str:
    """Return the name that a tile kernel has in source, benchmarks and reports."""
    return f"spmm_f32_{mr}x{nv}_{isa.name}"
