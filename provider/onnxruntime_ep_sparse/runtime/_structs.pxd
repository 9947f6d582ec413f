"""The C structures of a compiled program. Static parts are filled once by `runtime/_build.pyx`; a Plan is what depends on the input shapes.

Every value is a dense float32 tensor in ONNX's own order. Layout changes happen tile by tile inside a step, in cache: see
docs/architecture.md. Sizes and strides count float32 elements.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels._enums cimport *

from ._enums cimport *

cdef extern from *:
    int64_t fetch_add "__atomic_fetch_add" (int64_t* p, int64_t n, int order) nogil
    int RELAXED "__ATOMIC_RELAXED"

cdef enum:
    NONE = -1
    COUNTER_FLOATS = 16  # a cache line

cdef struct Shape:
    int rank
    int64_t dims[MAX_RANK]

cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b

cdef inline int64_t element_count(const Shape* shape, int begin, int end) noexcept nogil:
    cdef int64_t n = 1
    cdef int i
    for i in range(begin, end):
        n *= shape.dims[i]
    return n

# Depth, height, width; a 1-D or 2-D operator has 1, stride 1 and no padding in front.
cdef struct Window:
    int rank
    int auto_pad
    int64_t kernel[3]
    int64_t stride[3]
    int64_t dilation[3]
    int64_t pad_begin[3]
    int64_t pad_end[3]

# Height and width.
cdef struct Resize:
    int interpolation
    int coordinates
    float scale[2]
    int64_t size[2]      # -1: by scale

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

# The rows of a panel once more, for few pixels. See runtime/_sell.pyx.
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
    int32_t row_begin
    int32_t rows
    int32_t groups
    int32_t strips         # of STRIP rows, between which the work may be cut
    int64_t entries
    int64_t offsets        # columns * entries
    int32_t* row_start     # [blocks][groups + 1]
    int32_t* row           # [blocks][groups][mr]
    uint32_t* k
    float* value
    Sell* sell             # made when it is first wanted, or NULL

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

cdef struct Product:
    int shape_rule
    int x_rows           # x is [pixels, K] instead of [K, pixels]
    int y_rows
    int64_t M            # outputs of one weight matrix (of all groups)
    int64_t channels
    int64_t taps
    int64_t taps_per_unit
    int n_segments
    SegmentShape* segments
    int units              # of one channel
    int32_t* unit_segment  # first segment of a unit, units + 1
    Tap* tap
    float* bias          # M values, or NULL
    int max_vectors
    int n_groups
    GatherGroup* groups
    Shape batch          # batch dimensions of the weights in MatMul; their product is 1 or n_groups
    int vector_operand   # MatMul: the constant is a 1-D vector
    int64_t offsets      # of all groups
    int64_t macs         # multiply-adds a pixel

# Output m reads channel m * channels // M.
cdef struct Depthwise:
    int64_t M
    int64_t channels
    float* value         # taps of each output
    float* bias

cdef enum:
    RECURRENT_RESULTS = 2    # besides y
    RECURRENT_VALUES = 5     # besides x and y
    BAD_LENGTHS = 2          # what `execute` returns then

cdef struct ActivationOf:
    int act
    float alpha
    float beta

# See `steps.Recurrent`.
cdef struct Recurrent:
    int cell
    int64_t hidden
    int directions
    int* reverse           # of each direction
    int phases             # products a time: 1, or 2 where the second needs all results of the first
    int64_t gates[2]       # of each phase
    int64_t all_gates
    Product** product      # [directions][phases]
    ActivationOf* activation  # [directions][3]
    float clip             # infinite: none
    float* peephole        # [directions][i, o, f][hidden], or NULL
    float* late            # [directions][hidden], or NULL
    int couples            # f = 1 - i
    int batch_first
    # values, or NONE
    int lengths
    int initial_h
    int initial_c
    int last_h
    int last_c

cdef struct Step:
    int kind
    int x
    int r                # residual, or second operand
    int y
    int act
    float alpha
    float beta
    int op
    Window window
    int is_max
    int ceil_mode
    int count_include_pad
    Product* product
    Depthwise* depthwise
    Recurrent* recurrent
    Shape target         # Reshape: as in ONNX (0 copies, -1 infers)
    int allow_zero
    int flatten_axis     # Flatten when >= 0
    int removed          # bits: Squeeze when not 0, Unsqueeze
    int inserted
    int axis             # Concat
    int begins           # the first operand of a Concat
    Shape before         # Pad
    Shape after
    float fill
    int block            # DepthToSpace, SpaceToDepth
    int depth_first
    int to_depth
    Resize resize
    float epsilon        # LayerNormalization

cdef inline void recurrent_values(const Recurrent* rec, int* values) noexcept nogil:
    """Values besides x and y: results first, then states and lengths that are read; NONE for those that are missing."""
    values[0] = rec.last_h
    values[1] = rec.last_c
    values[2] = rec.initial_h
    values[3] = rec.initial_c
    values[4] = rec.lengths

cdef enum StorageKind:
    STORE_ARENA
    STORE_INPUT
    STORE_OUTPUT
    STORE_CONSTANT
    STORE_NOWHERE      # between a depthwise step and the product that runs with it

# Offsets of every nonzero of a product into its tile, for one tile geometry; shared by the plans that have the same.
cdef struct Offsets:
    int references
    int64_t pitch
    int64_t width
    int64_t channel_floats
    int64_t block_floats   # of the largest block
    uint16_t* offset
    int32_t* base          # tile floats before each tap of a channel, then before each unit

cdef inline int64_t tile_position(const Product* p, const Offsets* o, int64_t unit) noexcept nogil:
    """Floats from the first channel of a group to this unit."""
    return unit // p.units * o.channel_floats + o.base[p.taps + unit % p.units]

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
    int64_t chunks         # a group's rows are cut into so many items
    int shared_gather      # tiles are gathered once, by a pass before, for all chunks
    int64_t most_blocks    # of a group
    int64_t x_image
    int64_t y_image
    int sell               # few pixels: the layout SELL, no tiles of K blocks
    int64_t y_plane        # from one row of the output to the next
    int64_t x_floats       # size of x, beyond which nothing may be read
    int64_t runs           # of a tile and channel, at most (Run in table.pxd)
    char* run_table        # the runs of every tile, or NULL where they are too many to keep
    int64_t pad[3]
    int64_t* image_x       # offset of image i in x and the weight matrix it uses: MatMul with broadcast batches
    int32_t* image_group

# One row or column of a resized image: the two of the original between which it stands; nearest reads the first only.
cdef struct Line:
    int32_t first
    int32_t second
    float first_weight
    float second_weight

cdef inline int64_t slice_tile(const ProductPlan* q, int64_t lanes, int64_t tile, int64_t* count) noexcept nogil:
    """First vector of a tile; `count` becomes its vectors. Tiles of a slice differ by at most one vector."""
    cdef int64_t vectors = (q.flat + lanes - 1) // lanes
    cdef int64_t first = tile * vectors // q.tiles
    count[0] = (tile + 1) * vectors // q.tiles - first
    return first

cdef inline int64_t run_bytes(const Product* p, const ProductPlan* q) noexcept nogil:
    """Room for the runs of a tile and the first run of every unit."""
    return (q.runs * sizeof(t.Run) + (p.units + 1) * sizeof(int32_t) + 63) // 64 * 64

# What one execution of a step does. Multiply-adds of products only; nothing is moved where the result is in place already.
cdef struct Work:
    int64_t macs           # by nonzeros
    int64_t dense_macs
    int64_t moved          # floats read and written, weights not counted

cdef struct StepPlan:
    Work work
    int64_t items
    int parallel
    ProductPlan product
    # pooling, depthwise
    int64_t pad[3]
    int64_t pad_end[3]
    int64_t band           # rows of a plane that are computed at a time
    int64_t bands          # not 0: runs together with the product behind it, in so many bands of an image's rows
    int64_t band_offset    # of the band's pixels in the scratch of a worker
    int64_t lines_offset   # of what the depthwise kernel needs
    # binary: broadcast loops over the collapsed output, innermost last; CONCAT, SHUFFLE, TRANSPOSE: strides of x and y
    int loops
    int64_t extent[MAX_RANK]
    int64_t a_stride[MAX_RANK]
    int64_t b_stride[MAX_RANK]
    int64_t inner
    # concat: where this operand begins along the axis, and in floats
    int64_t start
    int64_t origin
    # padding of the loops over y: a_stride is that of x
    int64_t lead[MAX_RANK]
    int64_t data[MAX_RANK]
    # resize: output rows, then columns
    Line* lines
    int doubled            # columns are 0 0 1 1 2 2 ...
    # recurrent
    ProductPlan* parts     # of every product by R
    int64_t times
    int64_t sequences
    int64_t width          # of a row of the state, in sequences
    int64_t tiles          # of sequences, each with a state of its own
    int64_t chunks         # of the hidden units
    int64_t rounds         # in which the workers go through all times and phases; they wait for each other between two
    int64_t state_floats   # of a tile

cdef struct ValuePlan:
    Shape shape
    int64_t size
    int storage            # StorageKind
    int slot               # which input, output, constant; for the arena the offset is below
    int64_t offset
    int root               # the value whose memory this one shows ...
    int64_t shift          # ... and how many floats from its beginning
    int last               # the last step that touches this memory

cdef struct Plan:
    int references
    uint64_t used
    Plan* next
    Shape* key             # of the inputs
    ValuePlan* values
    StepPlan* steps
    int64_t scratch_offset
    int64_t scratch_floats  # a worker
    int64_t shared_offset
    int64_t counters_offset
    int64_t value_floats   # of the arena, before scratch
    int64_t arena_floats

# What a profiled program has spent on a step in all its runs. Changed atomically.
cdef struct StepTotals:
    int64_t ns
    int64_t within_next    # runs in which the step behind computed it, band by band, and has its time and work
    Work work

ctypedef struct Host:
    # How a running program reaches its surroundings: ONNX Runtime's kernel context in a session, numpy in tests.
    void* context
    # Calls body(user, i) for i in 0..total-1 and returns when all are done; 0 on success.
    int (*parallel_for)(void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, void* user) noexcept nogil
    # Allocates output `index` with these dimensions; NULL on failure.
    float* (*output)(void* context, size_t index, const int64_t* dims, size_t rank) noexcept nogil

cdef struct CompiledProgram:
    t.KernelTable* kernels
    int workers
    int64_t far_floats     # of an image between two steps, from which on they run together in bands
    int separable          # slices along the first dimension of all inputs are independent
    int n_values
    int n_inputs
    int n_outputs
    int n_steps
    Step* steps
    int* inputs            # value of each input
    int* is_integer        # whether an input is int32, in which case nobody computes with it
    int* ranks             # of the inputs, or NULL: any
    int* outputs
    Shape* constant_shape  # of each value; rank -1: not constant
    float** constant
    void* lock             # PyThread_type_lock, guards what follows
    uint64_t clock
    Plan* plans
    int n_plans
    StepTotals* totals     # of each step, or NULL where the program is not profiled
    int64_t runs           # those that `totals` are of
