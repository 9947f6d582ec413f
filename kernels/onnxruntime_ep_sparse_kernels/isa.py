"""The table of instruction sets and of kernel variants. The build, the dispatch at run time, tests and benchmarks read it.

A new instruction set is one row of `ISAS` and one header of vector primitives in `simd/`.

Name grammar: `spmm_f32_<MR>x<NV>_<isa>`: MR output rows by NV vectors of pixels stay in registers. MR is APART or SHARED.
One with a "p" after NV computes the pixel after these vectors too.
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
STRIPS = (
    (3, 1, ("inside", "border", "pair", "narrow")),
    (3, 2, ("inside", "border", "narrow")),
    (5, 1, ("pair", "narrow")),
)
"""(side, stride, kinds of strips) of the square windows for which there are depthwise kernels that go down a plane.

A strip has the columns of a vector, inside the image or at its border. A narrow image is a strip, a pair of strips is a whole image.
"""
DEPTHWISE_OUTPUTS = 16
"""Weights of so many outputs of a depthwise convolution stand beside each other: a multiple of the lanes of every instruction set."""

FEW_VECTORS = 3
"""Vectors of pixels up to which a layout for few pixels can be the fastest."""
NEAR_BYTES, FAR_BYTES = 512 * 1024, 16 * 1024 * 1024
"""Bytes of all weights with their zeros, up to which a core's L2 and the L3 hold them beside other things."""

WIDE_VECTORS = "avx512f"
"""CPU feature of vectors of 16 floats."""
X86 = ("x86_64", "amd64")
"""Values of `platform.machine()` in lower case on which rows for x86 are built."""


@dataclass(frozen=True)
class FewPixels:
    """The cost of a weight in the layouts for few pixels, in units of a dense kernel's time for a vector of weights and one pixel.

    Measured by `tests/benchmarks/products.py` (docs/benchmarks.md, "Products by the number of rows"); `runtime/_few.pyx` compares them.
    """

    sell: tuple[float, ...]
    """A vector of nonzeros in the layout SELL, for each number of `Isa.sell_pixels`."""
    apart: tuple[float, float]
    """A vector of nonzeros in a tile kernel of rows apart: fixed, and for each vector of pixels."""
    shared: tuple[float, float]
    """The same of rows that share columns."""
    dense: tuple[float, float, float]
    """Least of a vector of weights in a dense kernel, which has to be read: from L2, from L3, from memory."""


@dataclass(frozen=True)
class Dot:
    """A way to add four products of bytes to an int32. Each one of an instruction set makes a set of byte kernels of its own."""

    name: str
    """Names the set, after the instruction set."""
    features: tuple[str, ...]
    """CPU features that it needs besides those of the instruction set."""
    flags: tuple[str, ...]
    """Compiler flags that enable them."""


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
    """Compiler flags that enable the instructions. PREFETCHW needs no CPU feature: CPUs that lack it do nothing instead."""
    header: str
    """The header in `simd/` that defines the vector primitives."""
    tiles: tuple[tuple[int, int], ...]
    """(MR, NV) of every tile kernel."""
    pixel_vectors: int
    """NV of the kernel of rows that share columns which computes one pixel more: an image of 7x7 pixels is some vectors and a pixel."""
    quad_vectors: int
    """Tile kernels of rows apart with at most so many vectors (NV) load four values at once, and four offsets as a word of 64 bits.
    So does SELL unless this is 0. Little-endian machines only."""
    entries: tuple[int, int]
    """Nonzeros that a row should have in a block of K: of images, and of matrices.

    AVX2's vectors of half a cache line come from L2 as fast as kernels multiply, so long blocks cost less there than ends of rows do.
    """
    dense_rows: int
    """Pixels of the widest dense kernel for few pixels; each has accumulators for some vectors of outputs."""
    few: FewPixels
    """Costs that decide between layouts where pixels are few."""
    byte_header: str
    """The header in `simd/` that defines the primitives of bytes."""
    dots: tuple[Dot, ...]
    """Sets of kernels for bytes, best first. The last needs nothing besides the instruction set."""

    @property
    def module(self) -> str:
        """Return the name of the extension module with its kernels."""
        return f"_isa_{self.name}"

    @property
    def compile_args(self) -> tuple[str, ...]:
        """Return all arguments of the C compiler: `flags`, and the macros that `simd/simd.h` reads."""
        return (f"-DSPARSE_LANES={self.lanes}", f'-DSPARSE_PRIMITIVES="{self.header}"', *self.flags)

    @property
    def variants(self) -> tuple[tuple[int, int, bool], ...]:
        """Return (MR, NV, whether it computes one pixel more) of every tile kernel."""
        return (*((mr, nv, False) for mr, nv in self.tiles), (SHARED, self.pixel_vectors, True))

    @property
    def sell_pixels(self) -> tuple[int, ...]:
        """Return the numbers of pixels that have kernels of the layout SELL: one, and those that divide a vector, from four on."""
        return (1, *(pixels for pixels in (4, 8, 16) if pixels <= self.lanes))

    def dense_vectors(self, pixels: int) -> int:
        """Return how many vectors of outputs a dense kernel for so many pixels has in registers, with a weight for each."""
        return max(v for v in (1, 2, 3, 4) if v * (pixels + 1) < self.registers)

    def nonzero_cost(self, pixels: int) -> float:
        """Return what a vector of nonzeros costs for so many pixels, in SELL or in tiles: the least, as `runtime/_few.pyx` chooses."""
        whole, left = divmod(pixels, self.lanes)
        sell = whole * self.few.sell[-1]
        if left:
            sell += next(cost for cost, most in zip(self.few.sell, self.sell_pixels, strict=True) if left <= most)
        vectors = whole + (left > 0)
        return min(sell, -(-vectors // self.widest(APART)) * self.few.apart[0] + vectors * self.few.apart[1])

    def dense_cost(self, pixels: int, weights: int) -> float:
        """Return what a vector of weights costs in a dense kernel for so few pixels."""
        level = 0 if 4 * weights <= NEAR_BYTES else 1 if 4 * weights <= FAR_BYTES else 2
        each = pixels * (1.5 if level == 2 else 1.0)
        return max(each, -(-pixels // self.dense_rows) * self.few.dense[level])

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
        features=("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma", "bmi2"),
        flags=("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma", "-mbmi2", "-mprfchw", "-mprefer-vector-width=512"),
        header="x86_avx512.h",
        tiles=_tiles(8, 6),
        pixel_vectors=3,
        quad_vectors=8,
        entries=(16, 20),
        dense_rows=8,
        few=FewPixels(sell=(24, 25, 26, 34), apart=(20, 22.2), shared=(25, 10), dense=(3.6, 5.4, 11)),
        byte_header="bytes_avx512.h",
        dots=(Dot("vnni", ("avx512vnni",), ("-mavx512vnni",)), Dot("madd", (), ())),
    ),
    Isa(
        name="avx2",
        lanes=8,
        registers=16,
        machines=X86,
        features=("avx2", "fma", "bmi2", "f16c"),
        flags=("-mavx2", "-mfma", "-mbmi2", "-mf16c", "-mprfchw"),
        header="x86_avx2.h",
        tiles=_tiles(7, 3),
        pixel_vectors=2,
        quad_vectors=7,
        entries=(32, 80),
        dense_rows=6,
        few=FewPixels(sell=(11, 12, 12.8), apart=(7.5, 9.5), shared=(9.5, 5.5), dense=(2.3, 2.7, 6.8)),
        byte_header="bytes_avx2.h",
        dots=(Dot("vnni", ("avxvnni",), ("-mavxvnni",)), Dot("madd", (), ())),
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
        pixel_vectors=2,
        quad_vectors=0,
        entries=(16, 16),
        dense_rows=3,
        few=FewPixels(sell=(3.9, 7.6), apart=(3.3, 4), shared=(3.3, 3), dense=(1.2, 1.3, 3)),
        byte_header="bytes_generic.h",
        dots=(Dot("madd", (), ()),),
    ),
)
"""Best first. The last needs no features and is built everywhere."""


@dataclass(frozen=True)
class ByteSet:
    """The kernels for bytes of an instruction set with one of its dots."""

    isa: Isa
    dot: Dot

    @property
    def name(self) -> str:
        """Return the name that kernels, tests and benchmarks have: `avx2_madd`."""
        return f"{self.isa.name}_{self.dot.name}"

    @property
    def module(self) -> str:
        """Return the name of the extension module with its kernels."""
        return f"_bytes_{self.name}"

    @property
    def features(self) -> tuple[str, ...]:
        """Return all CPU features that it needs."""
        return (*self.isa.features, *self.dot.features)

    @property
    def compile_args(self) -> tuple[str, ...]:
        """Return all arguments of the C compiler."""
        return (*self.isa.compile_args, f'-DSPARSE_BYTE_PRIMITIVES="{self.isa.byte_header}"', *self.dot.flags)


TOLD_FEATURES = ("amx-int8",)
"""CPU features that no kernel here needs, and that decide how fast the CPU provider is."""

MAX_MR = max(mr for isa in ISAS for mr, _ in isa.tiles)
MAX_NV = max(nv for isa in ISAS for _, nv in isa.tiles)
MAX_LANES = max(isa.lanes for isa in ISAS)
MAX_DENSE_ROWS = max(isa.dense_rows for isa in ISAS)
"""The largest numbers in the rows: they size the kernel table."""

C_CONSTANTS = (
    "APART",
    "SHARED",
    "STRIP",
    "DEPTHWISE_OUTPUTS",
    "MAX_MR",
    "MAX_NV",
    "MAX_LANES",
    "MAX_DENSE_ROWS",
    "FEW_VECTORS",
    "NEAR_BYTES",
    "FAR_BYTES",
)
"""Numbers that C reads too: setup.py writes them to `_enums.pxd`."""


def isas_for(machine: str) -> tuple[Isa, ...]:
    """Return the rows that are built on a machine, best first. `machine` is a value of `platform.machine()`."""
    return tuple(isa for isa in ISAS if isa.machines is None or machine.lower() in isa.machines)


def byte_sets_for(isas: tuple[Isa, ...]) -> tuple[ByteSet, ...]:
    """Return the sets of kernels for bytes of these rows, best first."""
    return tuple(ByteSet(isa, dot) for isa in isas for dot in isa.dots)


def isa_named(name: str) -> Isa:
    """Return the row of this name. Raises KeyError for a name that no row has."""
    return {isa.name: isa for isa in ISAS}[name]


def kernel_name(isa: Isa, mr: int, nv: int) -> str:
    """Return the name that a tile kernel has in source, benchmarks and reports."""
    return f"spmm_f32_{mr}x{nv}_{isa.name}"
