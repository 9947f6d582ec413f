"""Chains of steps that run together, band by band of the rows of an image: what is between them stays in the caches of a worker.

An item has some rows of the last result. It goes down these in turns. Each turn computes the rows of every step that the turn of the next
one needs, and that no turn before has computed. Of each result between two steps the scratch of a worker has as many rows as a turn needs:
those that are needed again move to its beginning. Only where the rows of two items meet, both compute what both need.
"""

from libc.stdint cimport int64_t
from libc.string cimport memmove

from ._clock cimport monotonic_ns
from ._sections cimport IDLE_PERCENT, idle_percent, stops
from ._structs cimport *

cdef enum:
    # Rows of the last result in a turn, at least: the depthwise kernels compute four rows together.
    TURN_ROWS = 4
    # All that is between the steps of a chain: a turn has as many rows as fit, a chain as many steps.
    TURN_FLOATS = 128 * 1024
    CHAIN_FLOATS = 256 * 1024
    # Multiply-adds of both steps for each float between them, at most. Beyond that the work takes the time: ResNet-50 took 8.14 ms
    # on two threads one by one, and 8.55 with its 3x3 windows (82) in bands.
    MOST_MACS = 48
    # Images of so many floats, and those around them, do not stay in the cache that workers share until the next step reads them. There a
    # chain may fill that cache, and more multiply-adds are worth it: MobileNetV1's features on a frame of 2160x3840 took 320 ms on two
    # threads with the limits above, 265 with more floats, and 248 with more multiply-adds too.
    FARTHEST_FLOATS = 1280 * 1024
    SHARED_FLOATS = 5 * 1024 * 1024
    MOST_FARTHEST_MACS = 100
    # Rows of an item, at least: where items meet, rows are computed twice; in chains that fill that cache so many percent, at most:
    # MobileNetV1 @384 on two threads took 4.12 ms with all rows, 3.89 so.
    ITEM_ROWS = 8
    MEETING_PERCENT = 8
    # With several workers a result that is so many times smaller is reason enough: they read what others have written. Not where a factor
    # of each channel is applied, because such an image has been made channel by channel: EfficientNet-B0 took 4.00 ms, 3.87 so.
    WORKERS_NEARER = 6
    # A step that brings what it reads into another order may do so twice for so many percent of the rows, unless the image is so many times
    # larger.
    TWICE_PERCENT = 60
    BRINGS_FARTHER = 8


cdef bint can_run(const CompiledProgram* program, const Plan* plan, int s, Reach* reach) noexcept nogil:
    """Return whether a step can run in bands: it makes an image of an image, and nothing else."""
    cdef Step* step = &program.steps[s]
    cdef const StepPlan* sp = &plan.steps[s]
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* y = &plan.values[step.y].shape
    return step.ops.reads != NULL and x.rank == 4 and y.rank == 4 and plan.values[step.y].size > 0 and plan.values[step.x].size > 0 and (
        not sp.dealt) and not sp.converts and not sp.apart and sp.view == NO_VIEW and not step.completes and not step.n_more and (
        x.dims[0] == y.dims[0]) and step.ops.reads(program, plan, s, reach)


cdef inline int64_t image_floats(const Plan* plan, int value) noexcept nogil:
    return plan.values[value].size // plan.values[value].shape.dims[0]


cdef inline int64_t pixels_of(const Plan* plan, const Step* step) noexcept nogil:
    return plan.values[step.y].shape.dims[2] * plan.values[step.y].shape.dims[3]


cdef bint leads_to_next(const CompiledProgram* program, const Plan* plan, int s) noexcept nogil:
    """Return whether only the next step reads the result of a step, as its first operand, and the result is large for the work of both.
    Both can run in bands, and what they read is known."""
    cdef const Step* step = &program.steps[s]
    cdef const Reach* reach = &plan.steps[s].reach
    cdef const Reach* next = &plan.steps[s + 1].reach
    cdef int64_t least = program.far_floats if program.workers == 1 or step.r != NONE else program.far_floats // WORKERS_NEARER
    if step[1].x != step.y or step[1].r == step.y or program.readers[step.y] != 1:
        return False
    cdef int64_t floats = image_floats(plan, step.y), most = MOST_MACS if floats < FARTHEST_FLOATS else MOST_FARTHEST_MACS
    if reach.macs * pixels_of(plan, step) + next.macs * pixels_of(plan, step + 1) > most * floats and least > 0:
        return False
    return floats >= least


cdef int64_t rows_of(const Plan* plan, const Step* step) noexcept nogil:
    return plan.values[step.y].shape.dims[2]


cdef int64_t set_rows(const CompiledProgram* program, Plan* plan, int first, int count, int64_t rows) noexcept nogil:
    """Set the rows of each step of a chain whose turns have so many rows of the last result; return the floats between the steps."""
    cdef int64_t floats = 0
    cdef const Shape* y
    cdef StepPlan* sp
    cdef int s
    for s in range(first + count - 1, first - 1, -1):
        y = &plan.values[program.steps[s].y].shape
        sp = &plan.steps[s]
        sp.band_rows = sp.kept_rows = min(rows, y.dims[2])
        if s < first + count - 1:
            floats += y.dims[1] * y.dims[3] * sp.kept_rows
        rows = (sp.band_rows - 1) * sp.reach.step + sp.reach.rows
    return floats


cdef int64_t most_floats(const CompiledProgram* program, const Plan* plan, int first, int count) noexcept nogil:
    """Return how many floats there may be between the steps of a chain."""
    cdef int s
    for s in range(first + 1, first + count):
        if image_floats(plan, program.steps[s].x) >= FARTHEST_FLOATS:
            return SHARED_FLOATS // max(2, program.workers)
    return CHAIN_FLOATS


cdef bint meets_closely(const CompiledProgram* program, const Plan* plan, int first, int count, int64_t bands) noexcept nogil:
    """Return whether few rows are computed twice where so many items of an image meet."""
    cdef int64_t rows = ceil_div(rows_of(plan, &program.steps[first + count - 1]), bands), all_rows
    cdef int s
    for s in range(first + count - 1, first, -1):
        rows = (rows - 1) * plan.steps[s].reach.step + plan.steps[s].reach.rows
        all_rows = rows_of(plan, &program.steps[s - 1])
        if 100 * (rows * bands - all_rows) > MEETING_PERCENT * all_rows:
            return False
    return True


cdef int fitting(const CompiledProgram* program, Plan* plan, int first, int count) noexcept nogil:
    """Return how many of some steps might run together, which is `count` if they can; then all of the chain is set."""
    cdef int64_t images = plan.values[program.steps[first].x].shape.dims[0], height = rows_of(plan, &program.steps[first + count - 1])
    cdef int64_t rows = TURN_ROWS, bands = 1, fresh, floats
    cdef StepPlan* sp = &plan.steps[first]
    cdef int k
    floats = set_rows(program, plan, first, count, rows)
    if floats > max(CHAIN_FLOATS, most_floats(program, plan, first, count)):
        return count - 1
    while bands * ITEM_ROWS < height and idle_percent(images * bands, program.workers) > IDLE_PERCENT:
        bands += 1
    if idle_percent(images * bands, program.workers) > IDLE_PERCENT:
        return count - 1
    if bands > 1 and floats > CHAIN_FLOATS and not meets_closely(program, plan, first, count, bands):
        return count - 1
    while rows < ceil_div(height, bands) and set_rows(program, plan, first, count, rows + TURN_ROWS) <= TURN_FLOATS:
        rows += TURN_ROWS
    set_rows(program, plan, first, count, rows)
    fresh = min(rows, ceil_div(height, bands))
    for k in range(count - 1, 0, -1):
        fresh *= sp[k].reach.step
        if sp[k].reach.brings and 100 * (sp[k].reach.rows - sp[k].reach.step) > TWICE_PERCENT * fresh and (
                image_floats(plan, program.steps[first + k].x) < BRINGS_FARTHER * program.far_floats):
            return k
    sp.bands = bands
    sp.turn_rows = rows
    return count


cdef int chain_from(const CompiledProgram* program, Plan* plan, int first) noexcept nogil:
    """Return how many steps from this one run together, and set their rows."""
    cdef int count = 0, s, found, fits = 0
    cdef StepPlan* sp = &plan.steps[first]
    while count < MAX_TOGETHER and first + count < program.n_steps and can_run(program, plan, first + count, &sp[count].reach):
        if count and (sp[count - 1].reach.last or not leads_to_next(program, plan, first + count - 1)):
            break
        count += 1
    found = count
    # A step that cannot run in bands, as a mean of planes, has its items channel by channel: what it reads stays in the cache of a worker
    # that has made it so.
    if program.workers > 1 and count and first + count < program.n_steps and program.steps[first + count].ops.reads == NULL and (
            program.steps[first + count].x == program.steps[first + count - 1].y):
        count -= 1
    while count > 1 and fits != count:
        fits = fitting(program, plan, first, count)
        if fits != count:
            count = fits
            fits = 0
    for s in range(count if count > 1 else 0, found):
        sp[s].band_rows = 0
    if count < 2:
        return 1
    sp.chain = count
    for s in range(1, count):
        sp[s].within = True
    return count


cdef void choose_chains(const CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int s = 0
    while s < program.n_steps:
        s += chain_from(program, plan, s)


cdef void place_chains(const CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int64_t place, own
    cdef const Shape* y
    cdef StepPlan* sp
    cdef int s, k
    for s in range(program.n_steps):
        sp = &plan.steps[s]
        if not sp.chain:
            continue
        place = own = 0
        for k in range(sp.chain):
            own = max(own, sp[k].band_floats)
            if k < sp.chain - 1:
                y = &plan.values[program.steps[s + k].y].shape
                sp[k].band_offset = place
                # kernels may read a vector too much
                place += ceil_div(y.dims[1] * y.dims[3] * sp[k].kept_rows, 16) * 16 + 16
        sp[sp.chain - 1].band_offset = place
        sp.parallel = program.workers > 1
        need_scratch(plan, place + own)


cdef inline int64_t first_read(const Reach* reach, int64_t row) noexcept nogil:
    return max(0, row * reach.step - reach.pad)


cdef void chain_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef const Step* steps = job.step
    cdef StepPlan* sp = job.sp
    cdef int last = sp.chain - 1, k
    cdef Job own = job[0]
    cdef Band band
    cdef StepTotals* totals = job.program.totals + (steps - job.program.steps) if job.program.totals != NULL else NULL
    cdef int64_t workers = job.program.workers if sp.parallel else 1, began = 0
    cdef int64_t done[MAX_TOGETHER]      # rows of each result that are computed
    cdef int64_t needed[MAX_TOGETHER]    # ... that this turn computes
    cdef int64_t first[MAX_TOGETHER]     # ... that the scratch begins with
    cdef int64_t height = rows_of(job.plan, &steps[last]), end, row, x_image, y_image
    cdef const Shape* x = &job.plan.values[steps.x].shape
    cdef const Shape* y
    band.image = index // sp.bands
    row = index % sp.bands * height // sp.bands
    end = (index % sp.bands + 1) * height // sp.bands
    done[last] = row
    for k in range(last, 0, -1):
        done[k - 1] = first[k - 1] = first_read(&sp[k].reach, done[k])
    x_image = x.dims[1] * x.dims[2] * x.dims[3]
    y = &job.plan.values[steps[last].y].shape
    y_image = y.dims[1] * y.dims[2] * y.dims[3]
    own.scratch_floats -= sp[last].band_offset
    while row < end and not stops(job.host, job.stopped):
        row = min(end, row + sp.turn_rows)
        needed[last] = row
        for k in range(last, 0, -1):
            needed[k - 1] = min(rows_of(job.plan, &steps[k - 1]), (needed[k] - 1) * sp[k].reach.step - sp[k].reach.pad + sp[k].reach.rows)
            # windows that are shorter than their stride leave rows out
            done[k - 1] = max(done[k - 1], first_read(&sp[k].reach, done[k]))
        band.x = job.x + band.image * x_image
        band.x_plane = x.dims[2] * x.dims[3]
        band.x_end = job.x + job.plan.values[steps.x].size
        for k in range(last + 1):
            y = &job.plan.values[steps[k].y].shape
            if totals != NULL:
                began = monotonic_ns()
            if k < last:
                make_room(y, &sp[k], scratch, &first[k], first_read(&sp[k + 1].reach, done[k + 1]), done[k])
                band.y = scratch + sp[k].band_offset - first[k] * y.dims[3]
                band.y_plane = sp[k].kept_rows * y.dims[3]
                band.r = job.operands[k]
            else:
                band.y = job.y + band.image * y_image
                band.y_plane = y.dims[2] * y.dims[3]
                band.r = job.operands[k]
                if sp[k].reach.last:
                    band.r += band.image * y_image
            if needed[k] > done[k]:
                band.begin = done[k]
                band.end = needed[k]
                own.step = <Step*>&steps[k]
                # only the first step reads something outside of the chain
                own.scaled = job.scaled
                if k > 0:
                    own.scaled.factor = NULL
                elif job.scaled.factor != NULL:
                    own.scaled.factor += band.image * job.scaled_step
                own.sp = &sp[k]
                own.step.ops.band(&own, &band, scratch + sp[last].band_offset)
                done[k] = needed[k]
            if totals != NULL:
                fetch_add(&totals[k].ns, (monotonic_ns() - began) // workers, RELAXED)
            band.x = band.y
            band.x_plane = band.y_plane
            band.x_end = scratch + sp[k].band_offset + y.dims[1] * band.y_plane


cdef void make_room(const Shape* y, const StepPlan* sp, float* scratch, int64_t* first, int64_t needed, int64_t done) noexcept nogil:
    """Move the rows from `needed` on, which is not before `first`, to the beginning of the scratch of a result, and set `first` to them."""
    cdef int64_t width = y.dims[3], floats = (done - needed) * width, shift = (needed - first[0]) * width, _
    cdef float* plane = scratch + sp.band_offset
    if shift <= 0:
        return
    if floats > 0:
        for _ in range(y.dims[1]):
            memmove(plane, plane + shift, floats * sizeof(float))
            plane += sp.kept_rows * width
    first[0] = needed
