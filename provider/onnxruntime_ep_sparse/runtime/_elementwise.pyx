"""Items of the steps around products at run time: pooling, elementwise operators, copies, padding, resizing."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from ._job cimport ACTIVATE_CHUNK, Job, runs_per_item
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


cdef void pool_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef Window* w = &job.step.window
    cdef Shape* x = &job.plan.values[job.step.x].shape
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef t.Pool pool
    pool.height = x.dims[2] if w.rank == 2 else 1
    pool.width = x.dims[w.rank + 1]
    pool.out_width = y.dims[w.rank + 1]
    pool.kernel_y = w.kernel[1]
    pool.kernel_x = w.kernel[2]
    pool.stride_y = w.stride[1]
    pool.stride_x = w.stride[2]
    pool.dilation_y = w.dilation[1]
    pool.dilation_x = w.dilation[2]
    pool.pad_y = job.sp.pad[1]
    pool.pad_x = job.sp.pad[2]
    pool.pad_end_y = job.sp.pad_end[1]
    pool.pad_end_x = job.sp.pad_end[2]
    pool.row_begin = 0
    pool.row_end = y.dims[2] if w.rank == 2 else 1
    pool.line = scratch
    pool.count_include_pad = job.step.count_include_pad
    pool.x = job.x + index * pool.height * pool.width
    pool.y = job.y + index * pool.row_end * pool.out_width
    if job.step.is_max:
        job.program.kernels.max_pool(&pool)
    else:
        job.program.kernels.average_pool(&pool)


cdef void global_pool_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef Shape* x = &job.plan.values[job.step.x].shape
    cdef int64_t n = 1
    cdef int i
    for i in range(2, x.rank):
        n *= x.dims[i]
    if job.step.is_max:
        job.y[index] = job.program.kernels.maximum(job.x + index * n, n)
    else:
        job.y[index] = job.program.kernels.sum(job.x + index * n, n) / <float>n


cdef void activate_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t begin = index * ACTIVATE_CHUNK, n = job.plan.values[job.step.y].size - begin
    if n > ACTIVATE_CHUNK:
        n = ACTIVATE_CHUNK
    job.program.kernels.activate(job.y + begin, job.x + begin, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef void binary_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the innermost loop; an item is about ACTIVATE_CHUNK elements."""
    cdef StepPlan* sp = job.sp
    cdef int64_t runs = sp.items, per = runs_per_item(sp), run, a, b
    for run in range(index * per, runs if (index + 1) * per > runs else (index + 1) * per):
        run_places(sp, run, &a, &b)
        job.program.kernels.binary(job.y + run * sp.inner, job.x + a, sp.a_stride[sp.loops - 1], job.r + b, sp.b_stride[sp.loops - 1],
                                   sp.inner, <t.Op>job.step.op)
        if job.step.act != ACT_NONE:
            job.program.kernels.activate(job.y + run * sp.inner, job.y + run * sp.inner, NULL, sp.inner, <t.Act>job.step.act,
                                         job.step.alpha, job.step.beta)


cdef inline void run_places(const StepPlan* sp, int64_t run, int64_t* a, int64_t* b) noexcept nogil:
    """Where a run of the innermost loop begins on either side."""
    cdef int64_t i
    cdef int loop
    a[0] = b[0] = 0
    for loop in range(sp.loops - 2, -1, -1):
        i = run % sp.extent[loop]
        run //= sp.extent[loop]
        a[0] += i * sp.a_stride[loop]
        b[0] += i * sp.b_stride[loop]


cdef void normalize_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows."""
    cdef StepPlan* sp = job.sp
    cdef int64_t per = runs_per_item(sp), begin = index * per, rows = sp.items - begin if sp.items - begin < per else per
    job.program.kernels.normalize(job.y + begin * sp.inner, job.x + begin * sp.inner, job.r, rows, sp.inner, job.step.epsilon)


cdef void copy_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of a Concat's operand, of DepthToSpace and its inverse, or of a Transpose."""
    cdef StepPlan* sp = job.sp
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t per = runs_per_item(sp), run = index * per, a, b, i
    cdef int64_t end = run + per if run + per < sp.items else sp.items
    cdef int64_t from_step = sp.a_stride[sp.loops - 1], to_step = sp.b_stride[sp.loops - 1]
    cdef const float* x
    cdef float* y
    # Runs that begin at neighbouring elements are the columns of a matrix, of which as many as a vector has lanes are copied together.
    cdef bint columns = to_step == 1 and sp.loops > 1 and sp.a_stride[sp.loops - 2] == 1 and sp.extent[sp.loops - 2] % kernels.lanes == 0
    while run < end:
        run_places(sp, run, &a, &b)
        if columns and run % kernels.lanes == 0 and run + kernels.lanes <= end:
            kernels.scatter_rows(job.y + sp.origin + b, sp.b_stride[sp.loops - 2], job.x + a, from_step, kernels.lanes, sp.inner, NULL,
                                 ACT_NONE, 0, 0)
            run += kernels.lanes
            continue
        run += 1
        x = job.x + a
        y = job.y + sp.origin + b
        if from_step == 1 and to_step == 1:
            memcpy(y, x, sp.inner * sizeof(float))
            continue
        for i in range(sp.inner):
            y[i * to_step] = x[i * from_step]


cdef inline void fill(float* y, int64_t n, float value) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = value


cdef void pad_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the innermost loop over the padded output."""
    cdef StepPlan* sp = job.sp
    cdef int64_t runs = sp.items, per = runs_per_item(sp), run, rest, a, i
    cdef int64_t lead = sp.lead[sp.loops - 1], data = sp.data[sp.loops - 1]
    cdef int loop
    cdef bint inside
    cdef float* y
    for run in range(index * per, runs if (index + 1) * per > runs else (index + 1) * per):
        rest = run
        a = 0
        inside = True
        for loop in range(sp.loops - 2, -1, -1):
            i = rest % sp.extent[loop] - sp.lead[loop]
            rest //= sp.extent[loop]
            inside = inside and 0 <= i < sp.data[loop]
            a += i * sp.a_stride[loop]
        y = job.y + run * sp.inner
        if not inside:
            fill(y, sp.inner, job.step.fill)
            continue
        fill(y, lead, job.step.fill)
        memcpy(y + lead, job.x + a, data * sizeof(float))
        fill(y + lead + data, sp.inner - lead - data, job.step.fill)


cdef void resize_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """One plane."""
    cdef Shape* x_shape = &job.plan.values[job.step.x].shape
    cdef Shape* y_shape = &job.plan.values[job.step.y].shape
    cdef int64_t width = x_shape.dims[3], out_height = y_shape.dims[2], out_width = y_shape.dims[3]
    cdef const float* x = job.x + index * x_shape.dims[2] * width
    cdef float* y = job.y + index * out_height * out_width
    if job.step.resize.interpolation == READ_LINEAR:
        resize_linear(x, y, job.sp.lines, width, out_height, out_width, scratch)
    else:
        resize_nearest(x, y, job.sp.lines, width, out_height, out_width, job.sp.doubled)


cdef void resize_nearest(const float* x, float* y, const Line* rows, int64_t width, int64_t out_height, int64_t out_width,
                         bint doubled) noexcept nogil:
    """A row that reads the same as the one before is copied from it."""
    cdef const Line* columns = rows + out_height
    cdef const float* source
    cdef int64_t i, j
    for i in range(out_height):
        source = x + rows[i].first * width
        if i and rows[i].first == rows[i - 1].first:
            memcpy(y, y - out_width, out_width * sizeof(float))
        elif doubled:
            for j in range(width):
                y[2 * j] = source[j]
                y[2 * j + 1] = source[j]
        else:
            for j in range(out_width):
                y[j] = source[columns[j].first]
        y += out_width


cdef void resize_linear(const float* x, float* y, const Line* rows, int64_t width, int64_t out_height, int64_t out_width,
                        float* scratch) noexcept nogil:
    """Rows of the original are interpolated along the row as they are met; two of them, side by side in `scratch`, make an output row."""
    cdef const Line* columns = rows + out_height
    cdef const float* source
    cdef const float* first
    cdef const float* second
    cdef float* line
    cdef float u, v
    cdef int32_t held[2]
    cdef int32_t row
    cdef int64_t i, j
    cdef int k
    held[0] = held[1] = NONE
    for i in range(out_height):
        for k in range(2):
            row = rows[i].second if k else rows[i].first
            if held[row % 2] == row:
                continue
            held[row % 2] = row
            source = x + row * width
            line = scratch + row % 2 * out_width
            for j in range(out_width):
                line[j] = columns[j].first_weight * source[columns[j].first] + columns[j].second_weight * source[columns[j].second]
        first = scratch + rows[i].first % 2 * out_width
        second = scratch + rows[i].second % 2 * out_width
        u = rows[i].first_weight
        v = rows[i].second_weight
        for j in range(out_width):
            y[j] = u * first[j] + v * second[j]
        y += out_width
