"""Steps between channels and blocks of pixels: SpaceToDepth, DepthToSpace, and the last part of ConvTranspose."""

from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from ._copies cimport copy_item, set_loops
from ._loops cimport Element, Loops, even_items, item_begin
from ._structs cimport *


# Depth, height, width; images of one or two dimensions have a block of 1 and a crop of 0 in front.
cdef struct Shuffle:
    int rank
    int64_t block[3]
    int64_t crop[3]
    int64_t size         # pixels of a block
    int depth_first
    int to_depth


cdef void shuffle_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Shuffle)
    ops.plan_size = sizeof(Loops)
    ops.build = build_shuffle
    ops.infer = infer_shuffle
    ops.plan = plan_shuffle
    ops.item = shuffle_item


cdef int build_shuffle(Step* step, object spec) except -1:
    cdef Shuffle* shuffle = <Shuffle*>step.spec
    shuffle.rank = len(spec.block)
    shuffle.size = 1
    for i in range(3):
        shuffle.block[i] = 1
    for i in range(shuffle.rank):
        shuffle.block[3 - shuffle.rank + i] = spec.block[i]
        shuffle.crop[3 - shuffle.rank + i] = spec.crop[i] if spec.crop else 0
        shuffle.size *= spec.block[i]
    shuffle.depth_first = spec.depth_first
    shuffle.to_depth = spec.to_depth
    return 0


cdef int infer_shuffle(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shuffle* shuffle = <Shuffle*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t block
    cdef int i, axis
    cdef bint whole = x.rank == shuffle.rank + 2 and (shuffle.to_depth or x.dims[1] % shuffle.size == 0)
    y[0] = x[0]
    for i in range(shuffle.rank):
        axis = 3 - shuffle.rank + i
        block = shuffle.block[axis]
        whole = whole and (not shuffle.to_depth or x.dims[2 + i] % block == 0)
        y.dims[2 + i] = x.dims[2 + i] // block if shuffle.to_depth else x.dims[2 + i] * block - shuffle.crop[axis]
        whole = whole and y.dims[2 + i] >= 0
    if not whole:
        snprintf(message, message_size, "the image does not consist of whole blocks of %lld pixels", <long long>shuffle.size)
        return 1
    y.dims[1] = x.dims[1] * shuffle.size if shuffle.to_depth else x.dims[1] // shuffle.size
    return 0


cdef int plan_shuffle(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan some rows of the result an item; for SpaceToDepth, loops in each of which both sides advance steadily."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Shuffle* shuffle = <Shuffle*>step.spec
    cdef Loops* loops = <Loops*>sp.own
    cdef Shape* y = &plan.values[step.y].shape
    if shuffle.to_depth:
        plan_to_depth(program, plan, index)
        return 0
    loops.inner = y.dims[y.rank - 1]
    loops.runs = element_count(y, 0, y.rank - 1)
    sp.items = even_items(loops.runs, loops.inner, program.workers)
    return 0


cdef void plan_to_depth(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Loops over image, channel, and along each axis blocks and pixels of one; of the last axis the blocks are innermost."""
    cdef Step* step = &program.steps[index]
    cdef Shuffle* shuffle = <Shuffle*>step.spec
    cdef Shape* wide = &plan.values[step.x].shape
    cdef Shape* deep = &plan.values[step.y].shape
    cdef int64_t channels = wide.dims[1], pixels = element_count(deep, 2, deep.rank)
    cdef int64_t phase = pixels * (1 if shuffle.depth_first else channels)
    cdef int64_t extent[MAX_RANK]
    cdef int64_t from_x[MAX_RANK]
    cdef int64_t from_y[MAX_RANK]
    cdef int i, axis, blocks
    extent[0] = wide.dims[0]
    extent[1] = channels
    from_x[0] = from_y[0] = channels * shuffle.size * pixels
    from_x[1] = shuffle.size * pixels
    from_y[1] = pixels * (shuffle.size if shuffle.depth_first else 1)
    for i in range(shuffle.rank - 1, -1, -1):
        axis = 3 - shuffle.rank + i
        blocks = 2 + 2 * i + (i == shuffle.rank - 1)
        extent[blocks] = deep.dims[2 + i]
        from_x[blocks] = element_count(wide, 3 + i, wide.rank) * shuffle.block[axis]
        from_y[blocks] = element_count(deep, 3 + i, deep.rank)
        blocks = 2 + 2 * i + (i < shuffle.rank - 1)
        extent[blocks] = shuffle.block[axis]
        from_x[blocks] = element_count(wide, 3 + i, wide.rank)
        from_y[blocks] = phase
        phase *= shuffle.block[axis]
    set_loops(&plan.steps[index], program.workers, 2 + 2 * shuffle.rank, extent, from_x, from_y)


cdef void shuffle_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows of the result of DepthToSpace: each takes its pixels in turn from a row of each of as many channels as a block is wide."""
    cdef Shuffle* shuffle = <Shuffle*>job.step.spec
    cdef Loops* loops = <Loops*>job.sp.own
    cdef Shape* x = &job.plan.values[job.step.x].shape
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t pixels, plane, run, rest, phase, first, source
    cdef int64_t size[3]
    cdef int64_t out[3]
    cdef int64_t place[3]
    cdef int i
    if shuffle.to_depth:
        copy_item(job, index, scratch)
        return
    size[0] = size[1] = out[0] = out[1] = 1
    for i in range(shuffle.rank):
        size[3 - shuffle.rank + i] = x.dims[2 + i]
        out[3 - shuffle.rank + i] = y.dims[2 + i]
    pixels = size[0] * size[1] * size[2]
    plane = pixels if shuffle.depth_first else pixels * y.dims[1]  # from the channel of a phase to that of the next one
    for run in range(item_begin(index, job.sp.items, loops.runs, 1), item_begin(index + 1, job.sp.items, loops.runs, 1)):
        rest = run
        for i in range(1, -1, -1):
            place[i] = rest % out[i]
            rest //= out[i]
        phase = (place[0] % shuffle.block[0] * shuffle.block[1] + place[1] % shuffle.block[1]) * shuffle.block[2]
        first = rest // y.dims[1] * x.dims[1] + rest % y.dims[1] * (shuffle.size if shuffle.depth_first else 1)
        source = first * pixels + phase * plane + (place[0] // shuffle.block[0] * size[1] + place[1] // shuffle.block[1]) * size[2]
        if job.program.bytes[job.step.y] == 1:
            interleave(<uint8_t*>job.y + run * out[2], <const uint8_t*>job.x + source, plane, shuffle.block[2], out[2])
        else:
            interleave(job.y + run * out[2], job.x + source, plane, shuffle.block[2], out[2])


cdef void interleave(Element* y, const Element* x, int64_t plane, int64_t block, int64_t n) noexcept nogil:
    """Write n elements, in turn from `block` rows that begin `plane` elements apart."""
    cdef int64_t whole = n // block, p, j
    cdef const Element* second = x + plane
    cdef const Element* third = second + plane
    cdef const Element* fourth = third + plane
    if block == 1:
        memcpy(y, x, n * sizeof(Element))
        return
    if block == 2:
        for j in range(whole):
            y[2 * j] = x[j]
            y[2 * j + 1] = second[j]
    elif block == 4:
        for j in range(whole):
            y[4 * j] = x[j]
            y[4 * j + 1] = second[j]
            y[4 * j + 2] = third[j]
            y[4 * j + 3] = fourth[j]
    else:
        for p in range(block):
            for j in range(whole):
                y[block * j + p] = x[p * plane + j]
    for p in range(n - whole * block):
        y[whole * block + p] = x[p * plane + whole]
