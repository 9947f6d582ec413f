"""The steps of a program at run time: plain C, no allocation, no lookup.

A step is cut into items (`runtime/_product.pyx`, `runtime/_elementwise.pyx`) that the workers of one parallel section claim dynamically.
Sections go through the host, which in a session is ONNX Runtime's intra-op pool.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from ._job cimport ACTIVATE_CHUNK, Job, items_of_runs
from ._elementwise cimport (
    activate_item,
    binary_item,
    copy_item,
    global_pool_item,
    normalize_item,
    pad_item,
    pool_item,
    resize_item,
)
from ._product cimport band_item, depthwise_item, few_pixels_item, gather_item, product_item
from ._recurrent cimport RecurrentRun, run_recurrent
from ._structs cimport *


cdef extern from *:
    """
    #include <stdint.h>
    #if defined(_WIN32)
    #include <windows.h>
    static int64_t monotonic_ns(void) {
        LARGE_INTEGER count, rate;
        QueryPerformanceCounter(&count);
        QueryPerformanceFrequency(&rate);
        return (int64_t)((double)count.QuadPart * 1e9 / (double)rate.QuadPart);
    }
    #else
    #include <time.h>
    static int64_t monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    #endif
    """
    int64_t monotonic_ns() nogil


cdef inline int64_t* counter(const Job* job, int64_t worker) noexcept nogil:
    """The next item of a worker's range, in a cache line of its own."""
    return <int64_t*>(job.counters + worker * COUNTER_FLOATS)


cdef void work(void* user, size_t worker) noexcept nogil:
    """A worker's own range of items first, then what is left of the others'.

    Ranges, because neighbouring items write to the same cache lines: with items dealt one by one, two threads took twice the time of one.
    """
    cdef Job* job = <Job*>user
    cdef float* scratch = job.scratch + <int64_t>worker * job.scratch_floats
    cdef int64_t index, end, v, victim
    for v in range(job.workers):
        victim = (<int64_t>worker + v) % job.workers
        end = (victim + 1) * job.items // job.workers
        while True:
            index = fetch_add(counter(job, victim), 1, RELAXED)
            if index >= end:
                break
            job.item(job, index, scratch)


cdef int section(Job* job, const Host* host, bint parallel) noexcept nogil:
    cdef int64_t w
    job.workers = job.program.workers if parallel else 1
    if job.items < job.workers:
        job.workers = job.items
    for w in range(job.workers):
        counter(job, w)[0] = w * job.items // job.workers
    if job.workers > 1:
        return host.parallel_for(host.context, work, <size_t>job.workers, job)
    if job.items:
        work(job, 0)
    return 0


cdef int execute(CompiledProgram* program, Plan* plan, const Host* host, const float** inputs, float** outputs,
                 float* arena) noexcept nogil:
    cdef int s, failed = 0
    cdef Job job
    cdef Step* step
    cdef Step* last
    cdef float* values[RECURRENT_VALUES]
    cdef int numbers[RECURRENT_VALUES]
    cdef int i
    job.program = program
    job.plan = plan
    job.scratch = arena + plan.scratch_offset
    job.shared = arena + plan.shared_offset
    job.scratch_floats = plan.scratch_floats
    job.counters = arena + plan.counters_offset
    for s in range(program.n_steps):
        if s and plan.steps[s - 1].bands:
            continue
        step = &program.steps[s]
        job.step = step
        job.sp = &plan.steps[s]
        last = step + 1 if job.sp.bands else step
        job.x = address_of(program, plan, step.x, inputs, outputs, arena)
        job.r = address_of(program, plan, last.r, inputs, outputs, arena) if last.r != NONE else NULL
        job.y = address_of(program, plan, last.y, inputs, outputs, arena)
        if step.recurrent != NULL:
            recurrent_values(step.recurrent, numbers)
            for i in range(RECURRENT_VALUES):
                values[i] = address_of(program, plan, numbers[i], inputs, outputs, arena) if numbers[i] != NONE else NULL
            job.values = values
        failed = timed_step(&job, host, &program.totals[s]) if program.totals != NULL else run_step(&job, host)
        if failed:
            return failed
    return 0


cdef int timed_step(Job* job, const Host* host, StepTotals* totals) noexcept nogil:
    """run_step, added to what its program has spent on it."""
    cdef int64_t began = monotonic_ns()
    cdef int failed = run_step(job, host)
    if job.sp.bands:
        fetch_add(&totals.within_next, 1, RELAXED)
        totals += 1
        add_work(totals, &(job.sp + 1).work)
        fetch_add(&totals.work.moved, -2 * job.plan.values[job.step.y].size, RELAXED)
    fetch_add(&totals.ns, monotonic_ns() - began, RELAXED)
    if not in_place(job):
        add_work(totals, &job.sp.work)
    return failed


cdef inline void add_work(StepTotals* totals, const Work* work) noexcept nogil:
    fetch_add(&totals.work.macs, work.macs, RELAXED)
    fetch_add(&totals.work.dense_macs, work.dense_macs, RELAXED)
    fetch_add(&totals.work.moved, work.moved, RELAXED)


cdef inline bint in_place(const Job* job) noexcept nogil:
    """Whether a step that only copies finds its result where it is to be."""
    return (job.step.kind == STEP_CONCAT or job.step.kind == STEP_RESHAPE) and job.y + job.sp.origin == job.x


cdef int recurrent_step(Job* job, const Host* host) noexcept nogil:
    cdef RecurrentRun run
    run.program = job.program
    run.step = job.step
    run.sp = job.sp
    run.x = job.x
    run.y = job.y
    run.last_h = job.values[0]
    run.last_c = job.values[1]
    run.initial_h = job.values[2]
    run.initial_c = job.values[3]
    run.lengths = <const int32_t*>job.values[4]
    run.state = job.shared
    run.scratch = job.scratch
    run.scratch_floats = job.scratch_floats
    run.counters = job.counters
    return run_recurrent(&run, host)


cdef int run_step(Job* job, const Host* host) noexcept nogil:
    cdef Step* step = job.step
    cdef Plan* plan = job.plan
    cdef int failed = 0
    if in_place(job):
        return 0
    job.items = job.sp.items
    if step.kind == STEP_RECURRENT:
        return recurrent_step(job, host)
    if step.kind == STEP_PRODUCT and job.sp.product.sell:
        job.item = few_pixels_item
    elif step.kind == STEP_PRODUCT:
        if job.sp.product.shared_gather:
            job.items = job.sp.items // job.sp.product.chunks * job.sp.product.most_blocks
            job.item = gather_item
            failed = section(job, host, True)
            job.items = job.sp.items
        job.item = product_item
    elif step.kind == STEP_POOL:
        job.item = pool_item
    elif job.sp.bands:
        job.items = job.sp.bands * plan.values[step.x].shape.dims[0]
        job.item = band_item
    elif step.kind == STEP_DEPTHWISE:
        job.items = items_of_runs(job.sp)
        job.item = depthwise_item
    elif step.kind == STEP_GLOBAL_POOL:
        job.item = global_pool_item
    elif step.kind == STEP_ACTIVATE:
        job.items = (plan.values[step.y].size + ACTIVATE_CHUNK - 1) // ACTIVATE_CHUNK
        job.item = activate_item
    elif step.kind == STEP_BINARY:
        job.items = items_of_runs(job.sp)
        job.item = binary_item
    elif step.kind == STEP_NORMALIZE:
        job.items = items_of_runs(job.sp)
        job.item = normalize_item
    elif step.kind == STEP_CONCAT or step.kind == STEP_SHUFFLE or step.kind == STEP_TRANSPOSE:
        job.items = items_of_runs(job.sp)
        job.item = copy_item
    elif step.kind == STEP_PAD:
        job.items = items_of_runs(job.sp)
        job.item = pad_item
    elif step.kind == STEP_RESIZE:
        job.item = resize_item
    else:
        if plan.values[step.y].size:
            memcpy(job.y, job.x, plan.values[step.y].size * sizeof(float))
        return 0
    return failed | section(job, host, job.sp.parallel)


cdef inline float* address_of(CompiledProgram* program, Plan* plan, int value, const float** inputs, float** outputs,
                            float* arena) noexcept nogil:
    cdef ValuePlan* v = &plan.values[plan.values[value].root]
    cdef int64_t shift = plan.values[value].shift
    if v.storage == STORE_ARENA:
        return arena + v.offset + shift
    if v.storage == STORE_INPUT:
        return <float*>inputs[v.slot]
    if v.storage == STORE_OUTPUT:
        return outputs[v.slot] + shift
    if v.storage == STORE_NOWHERE:
        return NULL
    return program.constant[v.slot]
