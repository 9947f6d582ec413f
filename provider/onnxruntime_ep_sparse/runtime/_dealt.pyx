"""Dealt images: which values of a plan stand so, the vectors around them, and the way from ONNX's order and back.

Lane i of a vector has the pixels of segment i % columns of group i // columns of the rows. So the taps of a window are whole vectors at
fixed distances, as a kernel wants them: products read images, or volumes, where they stand, without gathering, and 2x2 pooling and doubling
stay within a lane.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # Multiply-adds that take as long as bringing a float into the other order: by squares in registers where rows are not dealt, else lane
    # by lane. To write ONNX's order takes a product twice as long: each line goes to all planes, which lie in the same sets of the caches.
    SQUARES_MACS = 20
    LANES_MACS = 40
    # Fewer segments, of longer rows, must save so many percent more: of longer rows fewer stay in L2 (U-Net 512, AVX-512, one thread: 16
    # segments 118 ms, 8 107, 4 111, 2 120; AVX2: 8 segments 155, 4 154, 2 159).
    FEWER_SEGMENTS = 20


# Of each value: whether it may stand dealt, whether a dealt step reads it so, and who reads it as x.
cdef struct Value:
    bint may
    bint wanted
    int dealt_readers
    int other_readers


# --- which values


cdef int choose_deal(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Try all ways to deal, most segments first; keep the one that saves the most time, if any does."""
    cdef int64_t lanes = program.kernels.lanes
    cdef Value* values
    cdef bint* able
    cdef double* gain
    cdef double saved, most = 0
    cdef Deal deal, best
    cdef int s
    best.columns = 0
    for s in range(program.n_steps):
        if program.steps[s].ops.deals != NULL:
            break
    else:
        return 0
    values = <Value*>malloc((program.n_values + 1) * sizeof(Value))
    able = <bint*>malloc((program.n_steps + 1) * sizeof(bint))
    gain = <double*>malloc((program.n_steps + 1) * sizeof(double))
    if values == NULL or able == NULL or gain == NULL:
        free(values)
        free(able)
        free(gain)
        return 1
    deal.lanes = lanes
    deal.columns = lanes
    while deal.columns:
        deal.rows = lanes // deal.columns
        saved = settle(program, plan, &deal, values, able, gain)
        if 100 * saved > (100 + FEWER_SEGMENTS if best.columns else 100) * most:
            most = saved
            best = deal
        deal.columns //= 2
    if best.columns:
        settle(program, plan, &best, values, able, gain)
        plan.deal = best
        apply(program, plan, values, able)
    free(values)
    free(able)
    free(gain)
    return 0


cdef double settle(CompiledProgram* program, Plan* plan, const Deal* deal, Value* values, bint* able, double* gain) noexcept nogil:
    """Decide which steps run dealt in this way: those that can, less those that lose by conversions. Return the gain; where that is 0,
    `values` and `able` may be unfinished."""
    cdef Step* step
    cdef int s
    cdef bint changed = True, gains = False, floats
    cdef double saved = 0, now
    for s in range(program.n_steps):
        step = &program.steps[s]
        able[s] = step.completes and plan.steps[s].view == WHOLE_VIEW
        gain[s] = 0
        if not able[s]:
            floats = program.type[step.x] == program.type[step.y] == TYPE_FLOAT32
            able[s] = floats and step.ops.deals != NULL and step.ops.deals(program, plan, s, deal, &gain[s])
        gains = gains or gain[s] > 0
    if not gains:
        return 0
    while changed:
        exclude(program, plan, values, able)
        changed = False
        for s in range(program.n_steps):
            step = &program.steps[s]
            if not able[s] or plan.steps[s].view == WHOLE_VIEW:
                continue
            now = gain[s] - converting(plan, deal, values, step, True) + converting(plan, deal, values, step, False)
            if now < 0 or (values[step.y].dealt_readers == 0 and not values[step.x].may and gain[s] == 0):
                able[s] = False
                changed = True
                break
    for s in range(program.n_steps):
        step = &program.steps[s]
        if able[s]:
            saved += gain[s]
        if able[s] != values[step.x].may and plan.steps[s].view != WHOLE_VIEW:
            saved -= float_macs(deal) * plan.values[step.x].size
        if leaves(step, values, able[s]):
            saved -= 2 * float_macs(deal) * plan.values[step.y].size
    return saved


cdef inline double float_macs(const Deal* deal) noexcept nogil:
    """Return the multiply-adds that take as long as bringing a float into the other order."""
    return SQUARES_MACS if deal.rows == 1 else LANES_MACS


cdef double converting(const Plan* plan, const Deal* deal, const Value* values, const Step* step, bint dealt) noexcept nogil:
    """Multiply-adds that take as long as the conversions around a step that runs dealt, or does not."""
    cdef double each = float_macs(deal), macs = 0
    if dealt != values[step.x].may:
        macs += each * plan.values[step.x].size
    if leaves(step, values, True):
        return macs + (2 * each * plan.values[step.y].size if dealt else 0)
    return macs + each * plan.values[step.y].size * (values[step.y].other_readers if dealt else values[step.y].dealt_readers)


cdef inline bint leaves(const Step* step, const Value* values, bint dealt) noexcept nogil:
    """Return whether a step reads x dealt but writes y, which may not stand dealt, in ONNX's order."""
    return dealt and step.ops.leaves and not values[step.y].may


cdef void exclude(CompiledProgram* program, Plan* plan, Value* values, bint* able) noexcept nogil:
    """Take away steps until the rest fits together: only an x can be converted, and all makers of a value write it in one way."""
    cdef Step* step
    cdef int s, i, v
    cdef bint changed = True, before
    while changed:
        changed = False
        for v in range(program.n_values):
            values[v].may = values[v].wanted = False
            values[v].dealt_readers = values[v].other_readers = 0
        for s in range(program.n_steps):
            values[program.steps[s].y].may = True
        for i in range(program.n_outputs):
            values[program.outputs[i]].may = False
        # from the last step on: whether a product leaves depends on those that read its result
        for s in range(program.n_steps - 1, -1, -1):
            step = &program.steps[s]
            if not able[s] or ((step.ops.leaves or plan.steps[s].view == WHOLE_VIEW) and not values[step.y].wanted):
                values[step.y].may = False
            for i in range(step.n_more):
                if step.more[i] != NONE:
                    values[step.more[i]].may = False
            if step.r != NONE and (not able[s] or leaves(step, values, True)):
                values[step.r].may = False
            # a view shows the memory of x as it is
            if plan.steps[s].view == WHOLE_VIEW and not (able[s] and values[step.y].may):
                values[step.x].may = False
            values[step.x].wanted |= able[s] and (plan.steps[s].view != WHOLE_VIEW or values[step.y].may)
            if step.r != NONE:
                values[step.r].wanted |= able[s] and values[step.y].may
        for s in range(program.n_steps):
            step = &program.steps[s]
            before = able[s]
            if not leaves(step, values, able[s]) and (not values[step.y].may or (step.r != NONE and not values[step.r].may)):
                able[s] = False
            if plan.steps[s].view == WHOLE_VIEW and not values[step.x].may:
                able[s] = False
            changed |= before != able[s]
    for s in range(program.n_steps):
        step = &program.steps[s]
        if able[s]:
            values[step.x].dealt_readers += 1
        else:
            values[step.x].other_readers += 1


cdef void apply(CompiledProgram* program, Plan* plan, const Value* values, const bint* able) noexcept nogil:
    cdef Step* step
    cdef StepPlan* sp
    cdef Dealt d
    cdef int s
    for s in range(program.n_steps):
        step = &program.steps[s]
        sp = &plan.steps[s]
        sp.dealt = able[s]
        sp.leaves = leaves(step, values, able[s])
        if able[s] and not sp.leaves:
            d = dealt_as(plan, &plan.values[step.y].shape)
            plan.values[step.y].dealt = True
            plan.values[step.y].room = d.images * d.image
        sp.converts = sp.view != WHOLE_VIEW and able[s] != values[step.x].may
        if sp.converts:
            d = dealt_as(plan, &plan.values[step.x].shape)
            # kernels may read a vector too much
            sp.converted_floats = (d.images * d.image if able[s] else plan.values[step.x].size) + plan.deal.lanes


# --- the vectors around


cdef inline void moved_lanes(float* to, const float* source, const Deal* deal, int64_t by) noexcept nogil:
    """Lane i of `to` becomes lane i - by of the source, 0 where there is none."""
    cdef int64_t i, j
    for i in range(deal.lanes):
        j = i - by
        to[i] = source[j] if 0 <= j < deal.lanes else 0


cdef inline void neighbours(float* to, const float* source, const Deal* deal, int64_t by) noexcept nogil:
    """moved_lanes by one segment, with zeros beside the image."""
    cdef int64_t i
    moved_lanes(to, source, deal, by)
    for i in range(deal.rows):
        to[i * deal.columns + (0 if by > 0 else deal.columns - 1)] = 0


cdef void write_halo(const Deal* deal, const Dealt* d, float* y, int64_t channels, int64_t row, int64_t slice_, int64_t first,
                     int64_t end) noexcept nogil:
    """Write the vectors on both sides from their neighbours in the row, the rows above and below these, and the slices outside."""
    cdef int64_t c, lanes = deal.lanes
    cdef float* line = y + dealt_line(d, 0, row, slice_)
    if end == d.vectors:
        for c in range(channels):
            neighbours(line + c * d.channel, line + c * d.channel + d.vectors * lanes, deal, 1)
    if first == 0:
        for c in range(channels):
            neighbours(line + c * d.channel + (d.vectors + 1) * lanes, line + c * d.channel + lanes, deal, -1)
    if row == d.rows - 1:
        shift_rows(y + dealt_line(d, 0, -1, slice_), line, deal, d, channels, first, end, deal.columns)
    if row == 0:
        shift_rows(y + dealt_line(d, 0, d.rows, slice_), line, deal, d, channels, first, end, -deal.columns)
    if d.around and slice_ == 0:
        clear_slice(d, y, channels, row, -1, lanes, first, end)
    if d.around and slice_ == d.slices - 1:
        clear_slice(d, y, channels, row, d.slices, lanes, first, end)


cdef void clear_slice(const Dealt* d, float* y, int64_t channels, int64_t row, int64_t slice_, int64_t lanes, int64_t first,
                      int64_t end) noexcept nogil:
    """Write zeros to a row outside the volume, and to the rows above and below that stand beside it."""
    cdef int64_t c, above, begin = first + 1 if first else 0, stop = end + 1 if end < d.vectors else end + 2
    for above in range(row - 1 if row == 0 else row, row + 2 if row == d.rows - 1 else row + 1):
        for c in range(channels):
            memset(y + dealt_line(d, 0, above, slice_) + c * d.channel + begin * lanes, 0, (stop - begin) * lanes * sizeof(float))


cdef void shift_rows(float* to, const float* line, const Deal* deal, const Dealt* d, int64_t channels, int64_t first, int64_t end,
                     int64_t by) noexcept nogil:
    """Write a row above or below the image: that of the neighbouring group of rows, and what stands beside it."""
    cdef int64_t c, v, place
    for c in range(channels):
        for v in range(first + 1, end + 1):
            moved_lanes(to + c * d.channel + v * deal.lanes, line + c * d.channel + v * deal.lanes, deal, by)
        if end == d.vectors:
            moved_lanes(to + c * d.channel, line + c * d.channel, deal, by)
        if first == 0:
            place = c * d.channel + (d.vectors + 1) * deal.lanes
            moved_lanes(to + place, line + place, deal, by)


# --- from ONNX's order and back


cdef int64_t conversion_items(const Job* job) noexcept nogil:
    """Return the number of items: one for each row of each slice of the dealt images, all channels."""
    cdef Dealt d = dealt_as(job.plan, &job.plan.values[job.step.x].shape)
    return d.images * d.rows * d.slices


cdef void convert_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef const Deal* deal = &job.plan.deal
    cdef const Shape* shape = &job.plan.values[job.step.x].shape
    cdef Dealt d = dealt_as(job.plan, shape) if job.sp.dealt else dealt_value(job.plan, job.step.x)
    cdef int64_t width = shape.dims[shape.rank - 1], plane = element_count(shape, 2, shape.rank), c, v, lane, place
    cdef int64_t slice_ = index % d.slices, row = index // d.slices % d.rows, image = index // d.slices // d.rows
    cdef int64_t line = dealt_line(&d, 0, row, slice_) + deal.lanes
    cdef const float* x = job.x + image * d.channels * plane
    cdef float* y = job.converted + image * d.image
    cdef const float* source
    cdef float* target
    if not job.sp.dealt:
        write_in_order(job, job.converted, NULL, &d, image, row, slice_, 0, d.vectors, job.x + image * d.image + line, d.channel,
                       ACT_NONE)
        return
    for c in range(d.channels):
        if deal.rows == 1:
            place = c * plane + (slice_ * d.rows + row) * width
            job.program.kernels.gather_rows(y + line + c * d.channel, deal.lanes, x + place, d.vectors, deal.lanes, d.vectors)
            continue
        for lane in range(deal.lanes):
            place = c * plane + ((slice_ * deal.rows + lane // deal.columns) * d.rows + row) * width + lane % deal.columns * d.vectors
            source = x + place
            target = y + line + c * d.channel + lane
            for v in range(d.vectors):
                target[v * deal.lanes] = source[v]
    write_halo(deal, &d, y, d.channels, row, slice_, 0, d.vectors)


cdef void write_in_order(const Job* job, float* y, const float* r, const Dealt* d, int64_t image, int64_t row, int64_t slice_,
                         int64_t first, int64_t count, const float* line, int64_t stride, int act) noexcept nogil:
    cdef const Deal* deal = &job.plan.deal
    cdef int64_t c, group, place
    for c in range(d.channels):
        for group in range(deal.rows):
            place = (((image * d.channels + c) * d.slices + slice_) * deal.rows + group) * d.rows + row
            place = place * deal.columns * d.vectors + first
            job.program.kernels.scatter_rows(y + place, d.vectors, line + c * stride + group * deal.columns, deal.lanes, deal.columns,
                                             count, r + place if r != NULL else NULL, <t.Act>act, job.step.alpha, job.step.beta)
