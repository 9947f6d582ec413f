"""Products of two values that a run computes, as in attention: MatMul, with both operands and the result in any order of dimensions.

The dense kernels compute them (`runtime/_dense.pyx`): r takes the place of the weights, in slices of as many columns as a vector has lanes.
An item brings the part of r that it needs into slices, block by block, and multiplies some rows of x by it. Where few rows read r only
once, the kernels read it where it stands: its columns, if they stand next to each other, or its rows.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


cdef enum:
    MOST_DEPTH = 512           # of a block of r
    BLOCK_FLOATS = 1 << 15     # of a block of r: with what else an item touches, it stays in L2
    NEAR_FLOATS = 1 << 13      # of slices that all rows read, one group of rows after another: they stay in L1
    MOST_ROWS = 256            # of an item whose x has to be transposed: block by block, in scratch
    DOT_ROWS = 2               # for so few it takes less time to add up lanes than to bring r into slices
    LEAST_SUMS = 10            # of a kernel that keeps the FMA units busy: rows times vectors, more than 2 x 4
    CALL_SUMS = 2              # multiply-adds of each k that take as long as what a kernel does besides
    LEAST_ROWS = 32            # of an item, where an item is a part of a matrix: r is brought into slices again for each


cdef struct PairProduct:
    int x_order[MAX_RANK]
    int r_order[MAX_RANK]
    int y_order[MAX_RANK]
    int has_x_order            # else x is as it is
    int has_r_order
    int has_y_order


cdef struct PairPlan:
    int n                      # loops over the matrices
    int64_t extent[MAX_RANK]
    int64_t x_stride[MAX_RANK]
    int64_t r_stride[MAX_RANK]
    int64_t y_stride[MAX_RANK]
    int64_t rows
    int64_t depth
    int64_t columns
    int64_t x_row              # from a row of x to the next ...
    int64_t x_depth            # ... and from a column
    int64_t r_depth
    int64_t r_column
    int64_t y_row
    int64_t chunks             # items of a matrix
    int64_t block_depth
    int64_t block_columns      # a multiple of the lanes
    int64_t pixels             # rows that a kernel computes at a time, at most
    int stays                  # r is read where it stands, as far as it fills slices
    int dots                   # r is read where it stands, row by row of what it is transposed


cdef void pair_product_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(PairProduct)
    ops.plan_size = sizeof(PairPlan)
    ops.build = build
    ops.infer = infer
    ops.plan = plan_pair
    ops.item = pair_item


cdef int fill_order(int* order, object given) except -1:
    for i, axis in enumerate(given):
        order[i] = axis
    return len(given) > 0


cdef int build(Step* step, object spec) except -1:
    cdef PairProduct* pair = <PairProduct*>step.spec
    pair.has_x_order = fill_order(pair.x_order, spec.x_order)
    pair.has_r_order = fill_order(pair.r_order, spec.r_order)
    pair.has_y_order = fill_order(pair.y_order, spec.y_order)
    return 0


cdef void in_order(const Shape* shape, const int* order, bint ordered, Shape* dims, int64_t* strides) noexcept nogil:
    """Fill the dimensions in this order, and how far the elements of each are apart."""
    cdef int i, axis
    dims.rank = shape.rank
    for i in range(shape.rank):
        axis = order[i] if ordered else i
        dims.dims[i] = shape.dims[axis]
        strides[i] = element_count(shape, axis + 1, shape.rank)


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const PairProduct* pair = <const PairProduct*>step.spec
    cdef Shape* y = &plan.values[step.y].shape
    cdef Shape x, r, product
    cdef int64_t strides[MAX_RANK]
    cdef int64_t u, v
    cdef int i
    in_order(&plan.values[step.x].shape, pair.x_order, pair.has_x_order, &x, strides)
    in_order(&plan.values[step.r].shape, pair.r_order, pair.has_r_order, &r, strides)
    if x.dims[x.rank - 1] != r.dims[r.rank - 2]:
        snprintf(message, message_size, "%lld columns times %lld rows", <long long>x.dims[x.rank - 1], <long long>r.dims[r.rank - 2])
        return 1
    product.rank = max(x.rank, r.rank)
    for i in range(product.rank - 2):
        u = x.dims[i + x.rank - product.rank] if i + x.rank - product.rank >= 0 else 1
        v = r.dims[i + r.rank - product.rank] if i + r.rank - product.rank >= 0 else 1
        if u != v and u != 1 and v != 1:
            snprintf(message, message_size, "dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
            return 1
        product.dims[i] = v if u == 1 else u
    product.dims[product.rank - 2] = x.dims[x.rank - 2]
    product.dims[product.rank - 1] = r.dims[r.rank - 1]
    in_order(&product, pair.y_order, pair.has_y_order, y, strides)
    return 0


cdef int plan_pair(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan items of a matrix each, or of some of its rows."""
    cdef Step* step = &program.steps[index]
    cdef const PairProduct* pair = <const PairProduct*>step.spec
    cdef PairPlan* own = <PairPlan*>plan.steps[index].own
    cdef t.KernelTable* kernels = program.kernels
    cdef Shape* y = &plan.values[step.y].shape
    cdef Shape x, r
    cdef int64_t x_stride[MAX_RANK]
    cdef int64_t r_stride[MAX_RANK]
    cdef int64_t y_stride[MAX_RANK]
    cdef int64_t matrices = 1, size, lanes = kernels.lanes
    cdef int i, axis, place
    in_order(&plan.values[step.x].shape, pair.x_order, pair.has_x_order, &x, x_stride)
    in_order(&plan.values[step.r].shape, pair.r_order, pair.has_r_order, &r, r_stride)
    if x.rank == r.rank > 2 and x.dims[0] != r.dims[0]:
        plan.uneven = True
    for i in range(y.rank):  # the place of dimension i of the product in the result
        place = i
        if pair.has_y_order:
            for axis in range(y.rank):
                if pair.y_order[axis] == i:
                    place = axis
        y_stride[i] = element_count(y, place + 1, y.rank)
        size = y.dims[place]
        if i == y.rank - 2:
            own.rows = size
        elif i == y.rank - 1:
            own.columns = size
        elif size != 1:
            own.extent[own.n] = size
            axis = i + x.rank - y.rank
            own.x_stride[own.n] = x_stride[axis] if axis >= 0 and x.dims[axis] != 1 else 0
            axis = i + r.rank - y.rank
            own.r_stride[own.n] = r_stride[axis] if axis >= 0 and r.dims[axis] != 1 else 0
            own.y_stride[own.n] = y_stride[i]
            own.n += 1
            matrices *= size
    own.depth = x.dims[x.rank - 1]
    own.x_row = x_stride[x.rank - 2]
    own.x_depth = x_stride[x.rank - 1]
    own.r_depth = r_stride[r.rank - 2]
    own.r_column = r_stride[r.rank - 1]
    own.y_row = y_stride[y.rank - 2]
    own.pixels = best_pixels(kernels, own.rows, ceil_div(own.columns, lanes))
    own.stays = own.rows <= own.pixels and own.r_column == 1
    own.dots = own.rows <= DOT_ROWS and own.x_depth == 1 and own.r_depth == 1
    own.block_depth = max(min(own.depth, MOST_DEPTH), 1)
    own.block_columns = max(BLOCK_FLOATS // own.block_depth // lanes, 1) * lanes
    own.block_columns = max(min(own.block_columns, ceil_div(own.columns, lanes) * lanes), lanes)
    own.chunks = 1
    if program.workers > 1 and plan.steps[index].parallel:
        own.chunks = max(min(ceil_div(2 * program.workers, max(matrices, 1)), own.rows // LEAST_ROWS), 1)
    if own.x_depth != 1:
        own.chunks = max(own.chunks, ceil_div(own.rows, MOST_ROWS))
    plan.steps[index].items = matrices * own.chunks if own.rows and own.columns else 0
    size = own.block_columns + packed_floats(own, lanes)
    if own.x_depth != 1:
        size += ceil_div(own.rows, own.chunks) * pitch_of(own, lanes)
    need_scratch(plan, size)
    return 0


cdef inline int64_t packed_floats(const PairPlan* own, int64_t lanes) noexcept nogil:
    """Return the floats of a block of r in slices: of the last slice only, where the others are read where they stand."""
    return own.block_depth * (lanes if own.stays else own.block_columns)


cdef inline int64_t pitch_of(const PairPlan* own, int64_t lanes) noexcept nogil:
    """Return the floats of a row of a block of x that has been transposed."""
    return ceil_div(own.block_depth, lanes) * lanes


cdef int64_t best_pixels(const t.KernelTable* kernels, int64_t rows, int64_t slices) noexcept nogil:
    """Return how many rows a kernel computes at a time, so that few slices are computed twice and enough sums are on their way."""
    cdef int64_t pixels, most = max(min(rows, kernels.dense_rows), 1), best = most, cost, least = -1
    for pixels in range(most, 0, -1):
        cost = max(pixels * kernels.dense_slices[pixels], LEAST_SUMS) + CALL_SUMS
        cost *= ceil_div(rows, pixels) * ceil_div(slices, kernels.dense_slices[pixels])
        if least < 0 or cost < least:
            best = pixels
            least = cost
    return best


cdef inline bint is_scale(const Step* step) noexcept nogil:
    """Return whether a step ends with a factor, which the kernels apply."""
    return step.act == ACT_AFFINE and step.beta == 0


cdef void pair_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows of a matrix."""
    cdef PairPlan* own = <PairPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t matrix = index // own.chunks, chunk = index % own.chunks, i
    cdef int64_t begin = chunk * own.rows // own.chunks, rows = (chunk + 1) * own.rows // own.chunks - begin
    cdef const float* x = job.x + begin * own.x_row
    cdef const float* r = job.r
    cdef float* y = job.y + begin * own.y_row
    for i in range(own.n - 1, -1, -1):
        x += matrix % own.extent[i] * own.x_stride[i]
        r += matrix % own.extent[i] * own.r_stride[i]
        y += matrix % own.extent[i] * own.y_stride[i]
        matrix //= own.extent[i]
    if own.dots:
        for i in range(rows):
            kernels.dots(y + i * own.y_row, x + i * own.x_row, r, own.r_column, own.columns, own.depth)
    else:
        multiply_matrix(kernels, own, x, r, y, rows, job.step.alpha if is_scale(job.step) else 1, scratch)
    if job.step.act != ACT_NONE and (own.dots or not is_scale(job.step)):
        for i in range(rows):
            kernels.activate(y + i * own.y_row, y + i * own.y_row, NULL, own.columns, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef void multiply_matrix(t.KernelTable* kernels, const PairPlan* own, const float* x, const float* r, float* y, int64_t rows,
                          float scale, float* scratch) noexcept nogil:
    """Multiply some rows of a matrix, block of r by block; the result is multiplied by `scale`."""
    cdef int64_t lanes = kernels.lanes, depth, column, columns, whole, block, k, i
    cdef float* zeros = scratch
    cdef float* packed = zeros + own.block_columns
    cdef float* rows_of_x = packed + packed_floats(own, lanes)
    cdef t.DenseCall call
    memset(zeros, 0, own.block_columns * sizeof(float))
    call.y_stride = own.y_row
    for block in range(max(ceil_div(own.depth, own.block_depth), 1)):
        k = block * own.block_depth
        depth = min(own.depth - k, own.block_depth)
        call.depth = depth
        call.scale = scale if k + depth == own.depth else 1
        call.x = x + k
        call.x_stride = own.x_row
        if own.x_depth != 1:
            kernels.gather_rows(rows_of_x, pitch_of(own, lanes), x + k * own.x_depth, own.x_depth, depth, rows)
            call.x = rows_of_x
            call.x_stride = pitch_of(own, lanes)
        for i in range(ceil_div(own.columns, own.block_columns)):
            column = i * own.block_columns
            columns = min(own.columns - column, own.block_columns)
            call.bias = y + column if k else zeros
            call.bias_stride = own.y_row if k else 0
            call.y = y + column
            call.rows = columns
            whole = columns // lanes if own.stays else 0
            if whole:
                call.value = r + k * own.r_depth + column
                call.slice_step = lanes
                call.value_step = own.r_depth
                multiply(kernels, own, &call, rows, 0, whole)
            if whole * lanes < columns:
                in_slices(kernels, own, packed, r + k * own.r_depth + (column + whole * lanes) * own.r_column, depth,
                          columns - whole * lanes)
                call.slice_step = depth * lanes
                call.value_step = lanes
                call.value = packed - whole * call.slice_step
                multiply(kernels, own, &call, rows, whole, ceil_div(columns, lanes))


cdef void in_slices(t.KernelTable* kernels, const PairPlan* own, float* packed, const float* r, int64_t depth,
                    int64_t columns) noexcept nogil:
    """Bring some columns of r into slices; lanes without a column hold what they have."""
    cdef int64_t lanes = kernels.lanes, slice_, column, n
    cdef t.Run run
    for slice_ in range(ceil_div(columns, lanes)):
        column = slice_ * lanes
        n = min(columns - column, lanes)
        if own.r_column == 1:
            run.source = 0
            run.target = 0
            run.length = <int32_t>n
            kernels.gather(packed + column * depth, lanes, r + column, own.r_depth, depth, &run, 1, 1, NULL, NULL)
        else:
            kernels.gather_rows(packed + column * depth, lanes, r + column * own.r_column, own.r_column, n, depth)


cdef void multiply(t.KernelTable* kernels, const PairPlan* own, t.DenseCall* call, int64_t rows, int64_t begin,
                   int64_t end) noexcept nogil:
    """Multiply some rows of x by the slices from `begin` to before `end`, near ones first by all rows."""
    cdef const float* x = call.x
    cdef const float* bias = call.bias
    cdef float* y = call.y
    cdef int64_t parts = ceil_div(rows, own.pixels), part, row, together = kernels.dense_slices[own.pixels]
    cdef int64_t near = max(NEAR_FLOATS // max(call.depth * kernels.lanes, 1) // together, 1) * together
    while begin < end:
        call.slice_begin = begin
        call.slice_end = begin = min(begin + near, end) if parts > 1 else end
        for part in range(parts):
            row = part * rows // parts
            call.x = x + row * call.x_stride
            call.bias = bias + row * call.bias_stride
            call.y = y + row * call.y_stride
            kernels.dense[(part + 1) * rows // parts - row](call)
    call.x = x
    call.bias = bias
    call.y = y
