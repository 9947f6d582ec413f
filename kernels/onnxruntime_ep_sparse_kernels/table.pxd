"""The C interface of the kernels: what every instruction set's module implements and a program calls. All sizes count float32 elements."""

from libc.stdint cimport int32_t, int64_t, uint16_t

from onnxruntime_ep_sparse_kernels._enums cimport Act, Op

cdef enum:
    MAX_MR = 4
    MAX_NV = 14

# One call of a tile kernel: row groups [row_begin, row_end), of MR rows each, of one K block, times NV vectors of pixels.
# y[m, :] = chain of partial[m, :] or bias[m], plus value[m, j] * tile[offset[m, j], :] over ascending j; residual and clamp at the end if
# asked.
# MR = 2: each row has columns of its own, two offsets an entry; MR = 4: the rows share their columns, one offset an entry.
ctypedef struct SpmmCall:
    const int32_t* row_start     # entries of row group g: row_start[g] .. row_start[g + 1]
    const int32_t* row           # the MR rows of every group
    const uint16_t* offset       # an entry's pixels begin at tile + offset
    const float* value           # MR values an entry
    const float* tile
    const float* bias            # a value a row; NULL: continue from `partial`
    const float* partial         # may be y
    int64_t partial_stride
    float* y
    int64_t y_stride
    const float* residual        # NULL: none; laid out as y
    float low
    float high
    const float* ahead           # the residual, or y, of rows that are not in a cache yet, to be fetched a group early; NULL: not worth it
    int finish                   # add residual and clamp before the store
    int32_t row_begin
    int32_t row_end

ctypedef void (*spmm_t)(const SpmmCall* call) noexcept nogil

# Slices [slice_begin, slice_end) of a matrix in the layout SELL (see runtime/_sell.pyx), times one pixel, or as many as a vector has lanes.
ctypedef struct SellCall:
    const int32_t* start         # entries of slice s: start[s] .. start[s + 1], each with a value of every row
    const int32_t* row           # `lanes` rows of every slice; rows may be there twice
    const uint16_t* k
    const float* value
    const float* bias            # a value a row
    const float* partial         # [M][lanes] in place of `bias` where there are vectors of pixels, or NULL; may be y
    const float* x               # [K], or [K][lanes]
    float* y                     # [M], or [M][lanes]
    int32_t slice_begin
    int32_t slice_end

# `length` neighbouring pixels of a tile, from `target` on: those of a plane that begin at `source`, or zeros if it is negative.
ctypedef struct Run:
    int64_t source
    int32_t target
    int32_t length

# Pooling of one plane: rows [row_begin, row_end) of the output.
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
    float* line                  # max_pool: room for a padded row and two vectors
    # how many elements an average divides by: those in [-pad, size + pad_end); 0: only those inside the image
    int count_include_pad
    int64_t pad_end_y
    int64_t pad_end_x

# Depthwise convolution: rows [row_begin, row_end) of one plane of the output. Sizes and windows are depth, height, width.
ctypedef struct Depthwise:
    const float* x               # all planes of the channel
    float* y                     # one plane
    const float* value           # of every tap
    const float* zeros           # a row of x that lies outside the image
    const float** lines          # room for the rows of x that are read
    float bias
    float low
    float high
    int64_t slice                # of the output, along its depth
    int64_t row_begin
    int64_t row_end
    int64_t out_width
    int64_t size[3]              # of x
    int64_t kernel[3]
    int64_t stride[3]
    int64_t dilation[3]
    int64_t pad[3]

ctypedef struct KernelTable:
    int lanes
    int widest[5]                # NV of the widest kernel of each MR
    spmm_t spmm[5][15]           # [MR][NV], NULL where not built
    void (*sell_one)(const SellCall* call) noexcept nogil
    void (*sell_lanes)(const SellCall* call) noexcept nogil
    # y = min(high, max(low, bias + value * x)): one chain over the taps of the window that lie inside the image
    void (*depthwise)(const Depthwise* d) noexcept nogil
    # Copies a list of runs, channel after channel; reads the planes every `stride` pixels and nothing from `end` on.
    void (*gather)(float* tile, int64_t tile_step, const float* plane, int64_t plane_step, int64_t channels, const Run* run,
                   int64_t runs, int64_t stride, const float* end) noexcept nogil
    # y[target + i] = act(x[source + i] + residual[target + i]) for every run, row after row of both; overwrites x
    void (*scatter)(float* y, int64_t y_stride, float* x, int64_t x_stride, int64_t rows, const Run* run, int64_t runs,
                    const float* residual, Act act, float alpha, float beta) noexcept nogil
    # tile[k, r] = x[r, k] for k < depth, r < rows; r in [rows, pitch) becomes the last row; pitch is a multiple of `lanes`
    void (*gather_rows)(float* tile, int64_t pitch, const float* x, int64_t x_stride, int64_t rows, int64_t depth) noexcept nogil
    # y[r, m] = act(tile[m, r] + residual[r, m])
    void (*scatter_rows)(float* y, int64_t y_stride, const float* tile, int64_t pitch, int64_t rows, int64_t count,
                         const float* residual, Act act, float alpha, float beta) noexcept nogil
    # y = act(x + residual), residual may be NULL, y may be x
    void (*activate)(float* y, const float* x, const float* residual, int64_t n, Act act, float alpha, float beta) noexcept nogil
    # y[i] = a[i * a_step] op b[i * b_step], steps 0 or 1
    void (*binary)(float* y, const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t n, Op op) noexcept nogil
    void (*max_pool)(const Pool* pool) noexcept nogil
    void (*average_pool)(const Pool* pool) noexcept nogil
    # y[r] = (x[r] - mean of x[r]) / sqrt(variance of x[r] + epsilon) * weight[0] + weight[1], for rows of n
    void (*normalize)(float* y, const float* x, const float* weight, int64_t rows, int64_t n, float epsilon) noexcept nogil
    float (*sum)(const float* x, int64_t n) noexcept nogil
    float (*maximum)(const float* x, int64_t n) noexcept nogil
