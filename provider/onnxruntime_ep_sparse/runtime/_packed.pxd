"""Packed weights in C, and the plan of a product with them: products and recurrent steps have them."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t

cimport onnxruntime_ep_sparse_kernels.table as t

from ._structs cimport ACT_CLAMP, ACT_NONE, BINARY_MUL, MAX_RANK, Shape, Step, ceil_div
from ._windows cimport Window

# One run of source pixels per channel that a tile holds. A tap of the window reads it at (dy, dx).
cdef struct SegmentShape:
    int32_t kd           # depth tap, in input slices before dilation
    int32_t phase_y      # padded input row = row * stride_y + phase_y
    int32_t phase_x
    int32_t reach_y      # rows and columns that taps look ahead
    int32_t reach_x

cdef struct Tap:
    int32_t segment
    int32_t dy
    int32_t dx

# The rows of a panel once more, for few pixels. See `runtime/_sell.pyx`.
cdef struct Sell:
    int32_t slices
    int32_t* start         # [slices + 1]
    int32_t* row           # [slices][lanes]
    uint16_t* k            # [entries][lanes]
    float* value           # [entries][lanes]

# Rows [row_begin, row_begin + rows) of a product, compressed by kernels' pack(); k counts inside the panel's group.
cdef struct Panel:
    int mr
    int columns            # offsets an entry: mr, or 1 where rows share them
    bint narrow
    int32_t row_begin
    int32_t rows
    int32_t groups
    int32_t strips         # of STRIP rows, between which the work may be cut
    bint anywhere          # rows stand elsewhere than in their strip, at the same place in every block
    int64_t entries
    int64_t offsets        # columns * entries
    int32_t* row_start     # [blocks][groups + 1]
    int32_t* row           # [blocks][groups][mr]
    const void* k          # of `narrow` panels uint16_t, else uint32_t: see column()
    float* value
    # Made when a plan first needs them, or NULL; guarded by the locks of `runtime/_sell.pyx` and `runtime/_dense.pyx` until then.
    Sell* sell
    float* dense           # [slices][K][lanes]: slices of as many rows as a vector has lanes, zeros included

# Channels [channel_begin, channel_begin + channels) are gathered together, block by block, for one panel of rows.
cdef struct GatherGroup:
    int64_t channel_begin
    int64_t channels
    int64_t offset_begin  # offsets of all groups before
    int32_t blocks
    int64_t* bounds      # in units
    Panel panel
    int64_t nonzeros       # of the weights, and how many these are with their zeros; neither counts what packing adds
    int64_t weights

cdef struct Offsets

cdef struct Product:
    int shape_rule
    int x_rows           # x is [pixels, K] instead of [K, pixels]
    int y_rows
    int64_t M            # outputs of one weight matrix (of all groups)
    int64_t channels
    int64_t taps
    int n_segments
    SegmentShape* segments
    int units              # of one channel
    int32_t* unit_segment  # first segment of a unit, units + 1
    Tap* tap
    float* bias          # M values, or NULL
    float* scale         # M factors of the sums, or NULL
    int max_vectors
    int n_groups
    GatherGroup* groups
    Shape batch          # batch dimensions of the weights in MatMul; their product is 1 or n_groups
    int vector_operand   # MatMul: the constant is a 1-D vector
    Window window        # of a convolution; of 1 where there is none
    int64_t offsets      # of all groups
    int64_t macs         # multiply-adds a pixel
    int reads_below      # some tap reads another row of the tile than the output's: positions depend on the pitch
    Offsets* tables      # those that plans have; guarded by the lock of `runtime/_tiles.pyx`

# Offsets of every nonzero of a product into its tile, for one tile geometry; shared by the plans that have the same.
cdef struct Offsets:
    Offsets* next
    int references
    int64_t pitch          # 0 where positions do not depend on it
    int64_t width
    int64_t slice          # of dealt images, else 0: vectors of all channels of a row's slice; pitch has those of a row, width of a channel
    int64_t channel_floats
    int64_t block_floats   # of the largest block
    uint16_t* offset
    int32_t* base          # floats, or vectors of dealt images, before each tap of a channel, then before each unit

cdef inline int64_t tile_position(const Product* p, const Offsets* o, int64_t unit) noexcept nogil:
    """Floats from the first channel of a group to this unit."""
    return unit // p.units * o.channel_floats + o.base[p.taps + unit % p.units]

# How a product runs: by tiles of K blocks, by tiles of rows, or, where pixels are few, with another layout of the weights.
cdef enum Layout:
    LAYOUT_TILES
    LAYOUT_ROWS            # tiles of whole rows of an image, whose results the kernels write where they belong
    LAYOUT_SELL
    LAYOUT_DENSE

cdef struct ProductPlan:
    Offsets* offsets
    int64_t images
    int64_t slices
    int64_t in_depth
    int64_t in_height
    int64_t in_width
    int64_t out_height
    int64_t out_width
    int64_t pixels         # out_height * out_width
    int64_t pitch          # flat positions a row of output pixels takes
    int64_t flat           # positions a slice takes
    int64_t tiles
    int64_t tile_vectors
    int64_t side           # the next step does the product, and reads so many vectors of a tile at a time; 0: it does not
    int64_t tile_rows      # of LAYOUT_ROWS: of the output, in a tile
    int64_t chunks         # a group's rows are cut into so many items
    int shared_gather      # tiles are gathered once, by a pass before, for all chunks
    int64_t most_blocks    # of a group
    int64_t x_plane        # from one channel of x to the next
    int64_t x_image
    int64_t y_image
    int64_t x_line         # from one row of an image to the next: where images are joined, from one image to the next
    int64_t y_line
    Layout layout
    int64_t y_plane        # from one row of the output to the next
    int64_t x_floats       # size of x, beyond which nothing may be read
    int64_t runs           # of a tile and channel, at most (Run in table.pxd)
    char* run_table        # the runs of every tile, or NULL where they are too many to keep
    int64_t pad[3]
    int64_t pad_end[3]
    int64_t* image_x       # offset of image i in x and the weight matrix it uses: MatMul with broadcast batches
    int32_t* image_group

cdef inline int64_t slice_tile(const ProductPlan* q, int64_t lanes, int64_t tile, int64_t* count) noexcept nogil:
    """First vector of a tile; `count` becomes its vectors. Tiles of a slice differ by at most one vector, or by `side`.

    The wider ones come first: the last tile may end within a vector, and is then stored by way of the scratch. With the widest one there
    two threads took 76 and 98 us for 256 -> 1024 @14.
    """
    cdef int64_t side = q.side if q.side else 1, parts = ceil_div(q.flat, lanes * side)
    cdef int64_t first = ceil_div(tile * parts, q.tiles)
    count[0] = (ceil_div((tile + 1) * parts, q.tiles) - first) * side
    return first * side

cdef inline int64_t tile_flat(const ProductPlan* q, int64_t lanes, int64_t tile) noexcept nogil:
    """First position of a tile."""
    cdef int64_t count
    return tile * q.tile_rows * q.pitch if q.layout == LAYOUT_ROWS else slice_tile(q, lanes, tile, &count) * lanes

cdef inline int64_t run_bytes(const Product* p, const ProductPlan* q) noexcept nogil:
    """Room for the runs of a tile and the first run of every unit."""
    return (q.runs * sizeof(t.Run) + (p.units + 1) * sizeof(int32_t) + 63) // 64 * 64

cdef inline uint32_t column(const Panel* panel, int64_t i) noexcept nogil:
    """Return the k of offset i."""
    return (<const uint16_t*>panel.k)[i] if panel.narrow else (<const uint32_t*>panel.k)[i]

cdef inline int64_t call_vectors(int64_t left, int64_t widest) noexcept nogil:
    """Vectors of the next call of a tile kernel where so many are left. Calls are as even as they can be: 7 vectors go as 3, 2, 2, since a
    kernel of one vector has too few sums to keep the FMA units busy."""
    return ceil_div(left, ceil_div(left, widest))

cdef inline void read_block(t.SpmmCall* call, const Panel* panel, int64_t b) noexcept nogil:
    """Let a call read the entries of block b of a panel."""
    call.row_start = panel.row_start + b * (panel.groups + 1)
    call.row = panel.row + b * panel.groups * panel.mr

cdef inline void set_bounds(const Step* step, bint clamps, float* low, float* high) noexcept nogil:
    """Set the bounds of the results of a step to its own if it `clamps`, else to infinity."""
    low[0] = step.alpha if clamps else <float>(-1.0 / 0.0)
    high[0] = step.beta if clamps else <float>(1.0 / 0.0)

cdef inline bint kernels_finish(const Product* p, const Step* step) noexcept nogil:
    """Return whether the tile kernels do all that follows the sums, a clamp at most.

    Factors and rounding in the kernels took registers from their loops: 4x6 took 1.5 times as long.
    """
    return p.scale == NULL and (step.act == ACT_NONE or step.act == ACT_CLAMP)

cdef inline void scale_rows(const t.KernelTable* kernels, const float* scale, float* y, int64_t stride, int64_t rows,
                            int64_t n) noexcept nogil:
    """Multiply n elements of each row of y by the factor of the row; do nothing without factors."""
    cdef int64_t i
    if scale != NULL:
        for i in range(rows):
            kernels.binary(y + i * stride, y + i * stride, 1, scale + i, 0, n, BINARY_MUL)

cdef inline bint counts(const int32_t* row, int64_t r) noexcept nogil:
    """Return whether a row of a group of a panel exists; a missing row is represented by the last one."""
    return r == 0 or row[r] != row[r - 1]

# Fills a product of zeros from a `Product`, and frees what it points to, also where an exception has left it half filled.
cdef int fill_product(Product* p, spec) except -1
cdef void release_product(Product* p) noexcept nogil
cdef void sell_free(Sell* sell) noexcept nogil
