"""The C interface of the kernels: the functions that the module of each instruction set implements and that a program calls.

All sizes and strides count float32 elements.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t

from onnxruntime_ep_sparse_kernels._enums cimport DEPTHWISE_OUTPUTS, MAX_DENSE_ROWS, MAX_LANES, MAX_MR, MAX_NV, Act, Op

cdef enum:
    # Offsets after those of a call that a tile kernel may read and does not use: a word of 64 bits, a turn early.
    SPMM_SLACK = 4

# One call of a tile kernel: row groups [row_begin, row_end) of MR rows each, in one K block, times NV vectors of pixels.
# y[m, :] starts from partial[m, :] or bias[m] and adds value[m, j] * tile[offset[m, j], :] in ascending order of j. If `finish`, the kernel
# adds the residual and clamps the result to [low, high].
# MR = APART: each row has columns of its own, MR offsets per entry. MR = SHARED: the rows share their columns, one offset per entry.
ctypedef struct SpmmCall:
    const int32_t* row_start     # entries of row group g: row_start[g] .. row_start[g + 1]
    const int32_t* row           # the MR rows of each group
    const uint16_t* offset       # an entry's pixels begin at tile + (offset << offset_shift)
    int offset_shift
    const float* value           # MR values per entry
    const float* tile
    const float* bias            # one value per row; NULL: continue from `partial`
    const float* partial         # may be y
    int64_t partial_stride
    float* y
    int64_t y_stride
    const float* residual        # NULL: none; laid out as y
    float low
    float high
    const float* ahead           # prefetched one group early: the residual, or y if its rows are not in a cache yet; NULL: no prefetch
    const float* next            # prefetched by and by: the input of the next call, `next_runs` runs of `next_floats`, `next_step` apart
    int64_t next_step
    int64_t next_floats
    int64_t next_runs            # 0: none
    int far                      # values and offsets come from memory: fetch them early
    int finish                   # add the residual and clamp before the store
    int32_t row_begin
    int32_t row_end

cdef inline void read_tile(SpmmCall* call) noexcept nogil:
    """Let offsets count floats and nothing be fetched ahead: the pixels stand in a tile, which is in a cache, and the weights are near."""
    call.offset_shift = 0
    call.far = False
    call.next = NULL
    call.next_runs = 0

# y of two quantised operands less their zero points, itself less its own: see `combine` below. ADD: fma(a + a_zero, a_scale,
# fma(b + b_zero, b_scale, shift)) - y_zero, each fma with one rounding. MUL: (a * b * a_scale + y_zero) - y_zero. Rounded half to even
# before y_zero is taken, then clamped to [low, high].
ctypedef struct Combination:
    int multiplies
    float a_zero
    float a_scale
    float b_zero
    float b_scale
    float shift
    float y_zero
    float low
    float high
    bint a_signed            # of bytes: see table_bytes.pxd
    bint b_signed
    bint y_signed

ctypedef void (*spmm_t)(const SpmmCall* call) noexcept nogil

# Slices [slice_begin, slice_end) of a matrix in sliced ELLPACK layout (see runtime/_sell.pyx), times one pixel or the `pixels` of a kernel.
ctypedef struct SellCall:
    const int32_t* start         # entries of slice s: start[s] .. start[s + 1], each with one value per row
    const int32_t* row           # `lanes` rows of each slice; a row may occur twice
    const uint16_t* k
    const float* value
    const float* bias            # one value per row
    const float* partial         # of several pixels: [M][pixels], replaces `bias` unless NULL; may be y
    const float* x               # [K][pixels]
    float* y                     # [M][pixels]
    int32_t slice_begin
    int32_t slice_end

ctypedef void (*sell_t)(const SellCall* call) noexcept nogil

# Slices [slice_begin, slice_end) of `lanes` rows each of a matrix with all its zeros (see runtime/_dense.pyx), times some pixels.
# y[p, m] starts from bias[m], adds value[m, k] * x[p, k] in ascending order of k, and is multiplied by `scale`.
ctypedef struct DenseCall:
    const float* value           # [slices][K][lanes], where all lanes of the last slice can be read
    int64_t slice_step           # from a slice to the next
    int64_t value_step           # from a k to the next
    const float* bias            # [M], that of pixel p at p * bias_stride: 0 where all have the same
    int64_t bias_stride
    const float* x               # pixel p begins at p * x_stride
    int64_t x_stride
    float* y
    int64_t y_stride
    float scale
    int64_t depth                # K
    int64_t rows                 # M, where the last slice may end early
    int64_t slice_begin
    int64_t slice_end

ctypedef void (*dense_t)(const DenseCall* call) noexcept nogil

# `length` neighbouring pixels of a tile that begin at `target`. They come from `source` on in a plane, or are zeros if it is negative.
ctypedef struct Run:
    int64_t source
    int32_t target
    int32_t length

# Pixels become this while they are gathered: x times the factor of their channel, or min(high, max(low, x * factor + addend)) unless
# `addend` is NULL.
ctypedef struct Scaled:
    const float* factor
    const float* addend
    float low
    float high

# One call of a pooling kernel: rows [row_begin, row_end) of one plane of the output. Kernels for bytes have bytes in the place of floats.
ctypedef struct Pool:
    const float* x
    float* y
    int64_t height
    int64_t width
    int64_t out_width
    int64_t kernel_y
    int64_t kernel_x
    int64_t stride_y
    int64_t stride_x
    int64_t dilation_y
    int64_t dilation_x
    int64_t pad_y
    int64_t pad_x
    int64_t row_begin
    int64_t row_end
    float* line                  # scratch memory for a padded row and two vectors
    int count_include_pad        # an average counts the elements in [-pad, size + pad_end); 0: only those inside the image
    int64_t pad_end_y
    int64_t pad_end_x

cdef inline int64_t first_inside(int64_t begin, int64_t dilation, int64_t low) noexcept nogil:
    """Return the first tap of a window that begins at `begin` which is not before `low`."""
    return 0 if begin >= low else low - begin if dilation == 1 else (low - begin + dilation - 1) // dilation

cdef inline int64_t taps_inside(int64_t begin, int64_t kernel, int64_t dilation, int64_t high, int64_t low) noexcept nogil:
    """Return how many taps of a window stand in [low, high)."""
    cdef int64_t first = first_inside(begin, dilation, low), last = first_inside(begin, dilation, high)
    last = last if last < kernel else kernel
    return last - first if last > first else 0

# One call of the depthwise kernel: rows [row_begin, row_end) of one plane of each of at most `lanes` outputs. Output i of all reads channel
# i // many. Sizes and windows are depth, height, width.
ctypedef struct Depthwise:
    const float* x               # an image ...
    int64_t x_plane              # ... and how far it is from one channel to the next
    float* y                     # the plane of the first output ...
    int64_t y_stride             # ... and how far it is to that of the next
    const float* value           # of all outputs: DEPTHWISE_OUTPUTS of them beside each other, tap after tap
    const float* bias            # of all outputs
    int64_t first                # output, a multiple of `lanes`
    int64_t outputs
    int64_t slice                # index of the plane along the depth of the output
    int64_t row_begin
    int64_t row_end
    float low
    float high
    int64_t many                 # outputs of a channel
    int64_t out_width
    int64_t size[3]              # of x
    int64_t kernel[3]
    int64_t stride[3]
    int64_t dilation[3]
    int64_t pad[3]
    # set by depthwise_begin
    int way                      # in which the kernels compute
    const float* zeros           # for outputs one by one: a row outside the image
    float* masks                 # ... and which lanes are inside, of vectors at the border
    int64_t surplus_rows         # ... and how many rows a vector that is stored may reach into
    float* tile                  # rows of x with padding beside them, pixel after pixel, of `lanes` outputs
    int64_t pitch                # pixels of a row
    int64_t slice_floats         # of the tile: set by each call
    int64_t tile_rows            # of a slice, at most
    int64_t tile_floats
    int32_t* place               # in the tile, of pixels that follow each other in x
    float* result                # pixel after pixel
    int is_clear                 # the tile has zeros where there is padding, and `place` is made

ctypedef struct KernelTable:
    int lanes                               # float32 values per vector
    int widest[MAX_MR + 1]                  # NV of the widest kernel of each MR
    spmm_t spmm[MAX_MR + 1][MAX_NV + 1]     # [MR][NV], NULL for kernels that are not built
    spmm_t spmm_pixel                       # MR = SHARED, NV = pixel_vectors, and the pixel after these vectors
    int pixel_vectors
    sell_t sell[MAX_LANES + 1]              # [pixels], NULL for kernels that are not built
    int dense_rows                          # pixels of the widest dense kernel
    dense_t dense[MAX_DENSE_ROWS + 1]       # [pixels]
    int dense_slices[MAX_DENSE_ROWS + 1]    # [pixels]: slices that such a kernel computes together
    # y[n] = the sum of x[k] * r[n * r_stride + k] over k < depth, for n < rows, of partial sums in the lanes of a vector
    void (*dots)(float* y, const float* x, const float* r, int64_t r_stride, int64_t rows, int64_t depth) noexcept nogil
    # FewPixels in isa.py; of `spmm_cost` the first is fixed, the second for each vector of pixels
    float sell_cost[MAX_LANES + 1]          # [pixels]
    float spmm_cost[MAX_MR + 1][2]
    float dense_least[3]
    # How many of so many rows are best computed by a call. `many` and all after it must be known, as in the next two.
    int64_t (*depthwise_band)(const Depthwise* d, int64_t rows) noexcept nogil
    # Whether calls of so many rows read the image as it stands. Else they bring what they read into a tile first.
    bint (*depthwise_in_place)(const Depthwise* d, int64_t rows) noexcept nogil
    # Scratch for calls of at most so many rows.
    int64_t (*depthwise_floats)(const Depthwise* d, int64_t rows) noexcept nogil
    # Prepares calls of at most so many rows, which differ in what stands before `low`.
    void (*depthwise_begin)(Depthwise* d, float* scratch, int64_t rows) noexcept nogil
    # y = min(high, max(low, bias + sum of value * x)): one chain over the taps of the window inside the rows of the image
    void (*depthwise)(Depthwise* d) noexcept nogil
    # y[v] = max of the vectors 2v and 2v + 1 of both rows of x
    void (*max_pairs)(float* y, const float* first, const float* second, int64_t vectors) noexcept nogil
    # y[2v] = y[2v + 1] = x[v], vector by vector, in both rows of y
    void (*double_vectors)(float* first, float* second, const float* x, int64_t vectors) noexcept nogil
    # Copies a list of runs, channel after channel, `scaled` unless that is NULL. Reads every `stride`-th pixel of the planes, and nothing
    # from `end` on.
    void (*gather)(float* tile, int64_t tile_step, const float* plane, int64_t plane_step, int64_t channels, const Run* run,
                   int64_t runs, int64_t stride, const float* end, const Scaled* scaled) noexcept nogil
    # y[target + i] = act(x[source + i] + residual[target + i]) for each run, row after row of both. Overwrites x.
    void (*scatter)(float* y, int64_t y_stride, float* x, int64_t x_stride, int64_t rows, const Run* run, int64_t runs,
                    const float* residual, Act act, float alpha, float beta) noexcept nogil
    # tile[k, r] = x[r, k] for k < depth, r < rows; r in [rows, pitch) repeats the last row. pitch is a multiple of `lanes`, or one of those
    # below for which there is a kernel in `sell`; likewise in scatter_rows.
    void (*gather_rows)(float* tile, int64_t pitch, const float* x, int64_t x_stride, int64_t rows, int64_t depth) noexcept nogil
    # y[r, m] = act(tile[m, r] + residual[r, m])
    void (*scatter_rows)(float* y, int64_t y_stride, const float* tile, int64_t pitch, int64_t rows, int64_t count,
                         const float* residual, Act act, float alpha, float beta) noexcept nogil
    # y = act(x + residual), residual may be NULL, y may be x
    void (*activate)(float* y, const float* x, const float* residual, int64_t n, Act act, float alpha, float beta) noexcept nogil
    # y[i] = a[i * a_step] op b[i * b_step]; the steps are 0 or 1
    void (*binary)(float* y, const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t n, Op op) noexcept nogil
    # y[i] = a[i * a_step] combined with b[i * b_step]; the steps are 0 or 1
    void (*combine)(float* y, const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t n,
                    const Combination* c) noexcept nogil
    # y[i] = table[x[i] - first], with the first or the last of its 256 entries where x lies beyond it
    void (*look_up)(float* y, const float* x, int64_t n, const float* table, float first) noexcept nogil
    # The least and the largest of x and 0
    void (*extent)(const float* x, int64_t n, float* low, float* high) noexcept nogil
    void (*max_pool)(const Pool* pool) noexcept nogil
    void (*average_pool)(const Pool* pool) noexcept nogil
    # y[r] = (x[r] - mean of x[r]) / sqrt(variance of x[r] + epsilon) * weight[0] + weight[1], for rows of n; with 0 as their mean where
    # they are not `centred`
    void (*normalize)(float* y, const float* x, const float* weight, int64_t rows, int64_t n, float epsilon, bint centred) noexcept nogil
    # y[r] = e^x[r] / the sum of e^x[r], for rows of n; y may be x
    void (*softmax)(float* y, const float* x, int64_t rows, int64_t n) noexcept nogil
    # The sums of x - origin and of (x - origin)^2
    void (*sums)(const float* x, int64_t n, float origin, float* total, float* squares) noexcept nogil
    # The mean is mean + rest, to more digits than a float has
    void (*moments)(const float* x, int64_t n, float* mean, float* rest, float* variance) noexcept nogil
    float (*sum)(const float* x, int64_t n) noexcept nogil
    float (*maximum)(const float* x, int64_t n) noexcept nogil
    # n float16 or bfloat16 as float32, exactly, and the reverse, rounded to the nearest, half to even
    void (*from_half)(float* y, const uint16_t* x, int64_t n) noexcept nogil
    void (*to_half)(uint16_t* y, const float* x, int64_t n) noexcept nogil
    void (*from_bfloat16)(float* y, const uint16_t* x, int64_t n) noexcept nogil
    void (*to_bfloat16)(uint16_t* y, const float* x, int64_t n) noexcept nogil
