from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Deal, Job, Plan, Shape, Step, StepPlan, element_count

# Where the pixels of dealt images stand. Row by row, then slice by slice of the depth, then channel by channel, each a line of vectors.
# Row r has one row of each group of rows, vector v one column of each segment. Around them stands what a window of 3x3 or 3x3x3 pixels
# reads beside them: a row above and below, a slice before and after, a vector on the left and the right. These have the neighbours of
# other lanes, or zeros outside the image. Images without depth have one slice and none around it. Strides and sizes count floats.
# Channels are not 16 vectors apart, or a multiple of that: a tile of 7 would meet only some sets of L1 (256 -> 256 3x3 @56 in 4 segments on
# AVX2: 4.50 ms, 4.20 so).
cdef struct Dealt:
    int64_t images
    int64_t channels
    int64_t vectors        # of a line
    int64_t rows
    int64_t slices
    int64_t around         # slices in front: 1, or 0 without depth
    int64_t channel        # from one channel to the next
    int64_t slice          # from one slice of a row, with all its channels, to the next
    int64_t row
    int64_t image

cdef inline bint can_be_dealt(const Shape* shape, const Deal* deal) noexcept nogil:
    """Return whether images, or volumes, divide into segments and groups of rows."""
    return 4 <= shape.rank <= 5 and element_count(shape, 0, shape.rank) > 0 and (
        shape.dims[shape.rank - 1] % deal.columns == 0 and shape.dims[shape.rank - 2] % deal.rows == 0)

cdef inline Dealt dealt_images(const Deal* deal, const Shape* shape, int64_t channels) noexcept nogil:
    """Return images of this shape that stand among so many channels."""
    cdef Dealt d
    d.images = shape.dims[0]
    d.channels = shape.dims[1]
    d.vectors = shape.dims[shape.rank - 1] // deal.columns
    d.rows = shape.dims[shape.rank - 2] // deal.rows
    d.slices = shape.dims[2] if shape.rank == 5 else 1
    d.around = 1 if shape.rank == 5 else 0
    d.channel = (d.vectors + 2 + ((d.vectors + 2) % 16 == 0)) * deal.lanes
    d.slice = channels * d.channel
    d.row = (d.slices + 2 * d.around) * d.slice
    d.image = (d.rows + 2) * d.row
    return d

cdef inline int64_t dealt_line(const Dealt* d, int64_t image, int64_t row, int64_t slice_) noexcept nogil:
    """Return where the vectors of the first channel begin, that on their left included."""
    return image * d.image + (row + 1) * d.row + (slice_ + d.around) * d.slice

cdef inline Dealt dealt_as(const Plan* plan, const Shape* shape) noexcept nogil:
    """Return images of this shape by themselves."""
    return dealt_images(&plan.deal, shape, shape.dims[1])

cdef inline Dealt dealt_value(const Plan* plan, int value) noexcept nogil:
    """Return a dealt value where it has its place: by itself, or among the channels of the value that it is concatenated into."""
    return dealt_images(&plan.deal, &plan.values[value].shape, plan.values[plan.values[value].root].shape.dims[1])

cdef inline Dealt dealt_operand(const Plan* plan, const Step* step, const StepPlan* sp) noexcept nogil:
    """Return the x of a dealt step."""
    return dealt_as(plan, &plan.values[step.x].shape) if sp.converts else dealt_value(plan, step.x)

# Decides which steps of a plan run dealt, and in which way; 0 on success.
cdef int choose_deal(CompiledProgram* program, Plan* plan) noexcept nogil

# Items that bring the x of a step into the order that the step reads, at job.converted.
cdef int64_t conversion_items(const Job* job) noexcept nogil
cdef void convert_item(Job* job, int64_t index, float* scratch) noexcept nogil

# Writes vectors [first, first + count) of a line in ONNX's order, with residual and activation: `line` has them, channels that are `stride`
# floats apart. Squares are transposed in registers.
cdef void write_in_order(const Job* job, float* y, const float* r, const Dealt* d, int64_t image, int64_t row, int64_t slice_,
                         int64_t first, int64_t count, const float* line, int64_t stride, int act) noexcept nogil

# Writes what stands around vectors [first, end) of a row and slice of some channels, after these have been written; y is the image from the
# first of the channels on.
cdef void write_halo(const Deal* deal, const Dealt* d, float* y, int64_t channels, int64_t row, int64_t slice_, int64_t first,
                     int64_t end) noexcept nogil
