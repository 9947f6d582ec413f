"""The C interface of the kernels for bytes: the functions that the module of each byte set implements.

Strides and sizes count elements: bytes of u8, int32 of sums. A unit is as many pixels as a vector has bytes.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

from onnxruntime_ep_sparse_kernels._byte_enums cimport Out
from onnxruntime_ep_sparse_kernels.table cimport Combination, Pool, Run

# One call of a tile kernel: row groups [row_begin, row_end) of two rows each, in one K block, times a unit of pixels.
# The sum of row m starts from partial[m, :] or bias[m] and adds value[m, j] * tile[offset[m, j], :], four products for each value.
# Quads: an entry has four offsets for each row, of bytes. Blocks: one offset for each row, of int32 with a byte of four channels.
# If `finish`, the sums become results as `out` says: see quantised.py.
ctypedef struct BytesCall:
    const int32_t* row_start     # entries of row group g: row_start[g] .. row_start[g + 1]
    const int32_t* row           # the two rows of each group
    const uint16_t* offset
    const int32_t* value         # two for each entry, each four weights of 8 bits
    const uint8_t* tile
    const int32_t* bias          # one value for each row; NULL: continue from `partial`
    int32_t* partial             # sums, in an order of pixels that only the kernels know
    int64_t partial_stride
    const float* scale           # one value for each row, where `out` needs it
    float divisor                # of results as bytes
    void* y
    int64_t y_stride
    Out out
    int32_t zero                 # zero point of the results as unsigned bytes, in both halves: signed ones count as 128 more
    int32_t low                  # bounds of the results as unsigned bytes, in every byte
    int32_t high
    int32_t flip                 # the highest bit of every byte where the results are signed bytes
    bint plain                   # unsigned bytes in all their bounds, of scales up to 0.5, not divided
    const char* ahead            # prefetched one group early: y as bytes, if its rows are not in a cache yet; NULL: no prefetch
    bint finish
    int32_t row_begin
    int32_t row_end


cdef inline void set_results(BytesCall* call, bint is_signed, int32_t zero, int32_t low, int32_t high, float divisor,
                             float most_scale) noexcept nogil:
    """Set the zero point, the bounds and the divisor of results that are bytes. No scale is above `most_scale`."""
    cdef int32_t more = 128 if is_signed else 0
    # then a scaled sum is within 2^30 whatever int32 it is
    call.plain = not is_signed and low <= 0 and high >= 255 and divisor == 1 and most_scale <= 0.5
    call.divisor = divisor
    call.zero = (zero + more) * 0x10001
    call.low = <int32_t>(0x1010101u * <uint32_t>max(0, min(255, low + more)))
    call.high = <int32_t>(0x1010101u * <uint32_t>max(0, min(255, high + more)))
    call.flip = <int32_t>(0x1010101u * <uint32_t>more)

# A band of rows of a convolution whose outputs each read one channel. The plane of a channel holds the rows of x that the band reads, with
# padding, row after row, those with the same remainder by the stride together. A window is four bytes of a plane, `dilation` apart: an
# int32. Window i begins at byte i * step of the plane.
ctypedef struct DepthwiseBytes:
    const uint8_t* x             # the first channel
    const uint8_t* x_end         # the end of all that may be read
    int64_t height
    int64_t width
    int64_t first_row            # of x, where the plane begins: negative in the padding
    int64_t phases               # stride of rows
    int64_t phase_rows           # rows of the plane with the same remainder
    int64_t row_bytes            # of the plane, from row to row
    int64_t step                 # stride of columns
    int64_t dilation             # of columns
    int64_t pad                  # columns before those of x
    int64_t front                # bytes before the first row
    uint8_t kept[16]             # all bits of the bytes of a row narrower than that ...
    uint8_t padding[16]          # ... and the byte of padding for the others
    bint flip                    # x are signed bytes: those of the plane count 128 more
    int64_t plane_bytes          # from plane to plane
    int64_t windows_count        # of a channel: a multiple of `unit`
    uint8_t* plane               # of all channels; filled with the byte of padding before the first ones
    int32_t* windows             # of all channels
    int64_t rows                 # of the output
    int64_t units                # of positions that these rows take
    int64_t out_bytes            # of a row of the output ...
    int64_t pitch_bytes          # ... and from row to row of the results

ctypedef void (*spmm_bytes_t)(const BytesCall* call) noexcept nogil

ctypedef struct ByteKernels:
    int lanes
    int unit                     # pixels: 4 * lanes
    spmm_bytes_t quads
    spmm_bytes_t blocks
    spmm_bytes_t few             # blocks, times `lanes` pixels
    # Copies a list of runs, channel after channel; runs without a source become `zero`. Reads every `stride`-th pixel of the planes.
    void (*gather)(uint8_t* tile, int64_t tile_step, const uint8_t* plane, int64_t plane_step, int64_t channels, const Run* run,
                   int64_t runs, int64_t stride, uint8_t zero) noexcept nogil
    # The same of groups of four channels, whose bytes become an int32. `tile_step` counts int32, `channels` those in the planes. Targets
    # ascend; what is between two runs may become `zero`.
    void (*gather_blocks)(int32_t* tile, int64_t tile_step, const uint8_t* plane, int64_t plane_step, int64_t channels,
                          const Run* run, int64_t runs, int64_t stride, uint8_t zero) noexcept nogil
    # y[q, r] = the bytes r of four columns, which begin at place[4 * q] to place[4 * q + 3] of a tile, for a unit of pixels.
    void (*zip_columns)(int32_t* y, const uint8_t* tile, const int32_t* place, int64_t quads) noexcept nogil
    # tile[k, r] = x[r, k] for k < depth, r < rows; r in [rows, pitch) repeats the last row. pitch is a multiple of `unit`.
    void (*gather_rows)(uint8_t* tile, int64_t pitch, const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth) noexcept nogil
    # y[target + i] = x[source + i] for each run, row after row of both.
    void (*scatter)(uint8_t* y, int64_t y_stride, const uint8_t* x, int64_t x_stride, int64_t rows, const Run* run,
                    int64_t runs) noexcept nogil
    # y[r, m] = tile[m, r]
    void (*scatter_rows)(uint8_t* y, int64_t y_stride, const uint8_t* tile, int64_t pitch, int64_t rows, int64_t count) noexcept nogil
    # Copies channels, which follow each other, into their planes and makes windows of these.
    void (*depthwise_windows)(const DepthwiseBytes* d, int64_t channels) noexcept nogil
    # Rows of outputs, `many` of each channel, y_step bytes apart. The sums of output m start from bias[m]. For j from start[m] to
    # start[m + 1] they add value[j] times the windows from offset[j] on. The call tells how they become results; these stand at its `y`
    # first, `units` units of each output, a unit of `y_stride` bytes.
    void (*depthwise)(const DepthwiseBytes* d, const BytesCall* call, const int32_t* start, const int32_t* offset, const int32_t* value,
                      int64_t outputs, int64_t many, uint8_t* y, int64_t y_step) noexcept nogil
    # Turns the highest bit of so many bytes: signed bytes become unsigned ones, 128 more.
    void (*flip)(uint8_t* x, int64_t n) noexcept nogil
    # y[i] = a[i * a_step] combined with b[i * b_step], which are bytes with their zero points, as y is; the steps are 0 or 1, and y is
    # neither a nor b. ADD: fma(a, a_scale, fma(b, b_scale, shift)), which must be less than 2^31.
    # MUL: (a - a_zero) * (b - b_zero) * a_scale + y_zero. Rounded half to even, then clamped to [low + y_zero, high + y_zero].
    void (*combine)(uint8_t* y, const uint8_t* a, int64_t a_step, const uint8_t* b, int64_t b_step, int64_t n,
                    const Combination* c) noexcept nogil
    # Nothing is read from `end` on. Windows without a pixel give the least byte.
    void (*max_pool)(const Pool* pool, bint is_signed, const uint8_t* end) noexcept nogil
    # y[i] = table[x[i]], 256 entries
    void (*look_up)(uint8_t* y, const uint8_t* x, int64_t n, const uint8_t* table) noexcept nogil
    # The sum of n bytes
    int64_t (*sum)(const uint8_t* x, int64_t n, bint is_signed) noexcept nogil
    # y[i] = x[i] / scale + zero, rounded half to even before `zero`, an integer, is added, then clamped to the bytes; NaN gives the least.
    # Of scale and zero there is one, or, with a step of 1, one for each element. Likewise below.
    void (*quantize)(uint8_t* y, const float* x, int64_t n, const float* scale, const float* zero, int64_t step,
                     bint is_signed) noexcept nogil
    # y[i] = (x[i] - zero) * scale
    void (*dequantize)(float* y, const uint8_t* x, int64_t n, const float* scale, const float* zero, int64_t step,
                       bint is_signed) noexcept nogil
