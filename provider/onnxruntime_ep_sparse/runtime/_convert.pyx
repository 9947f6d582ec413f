"""Conversions between float32 and types of 16 bits."""

from libc.stdint cimport int64_t, uint16_t

from ._loops cimport even_items, item_begin
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


cdef enum:
    LINE = 32            # elements of 16 bits of a cache line, between which results are cut into items
    ALONE = 1 << 18      # elements that one thread converts sooner than it wakes others
    PART = 512           # elements that are rounded at a time


cdef struct Convert:
    int narrow           # ElementType


cdef void convert_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Convert)
    ops.build = build_convert
    ops.infer = infer_convert
    ops.plan = plan_convert
    ops.item = convert_item
    ops.overwrites = convert_overwrites


cdef int build_convert(Step* step, object spec) except -1:
    (<Convert*>step.spec).narrow = spec.narrow
    return 0


cdef int infer_convert(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    plan.values[step.y].shape = plan.values[step.x].shape
    return 0


cdef int plan_convert(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = even_items(plan.values[program.steps[index].y].size, 1, program.workers)
    plan.steps[index].parallel = plan.steps[index].parallel and plan.values[program.steps[index].y].size > ALONE
    return 0


cdef void convert_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef t.KernelTable* kernels = job.program.kernels
    cdef bint half = (<Convert*>job.step.spec).narrow == TYPE_FLOAT16
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, LINE), n
    cdef int64_t end = item_begin(index + 1, job.sp.items, size, LINE)
    cdef uint16_t part[PART]
    if job.program.type[job.step.x] != TYPE_FLOAT32:
        (kernels.from_half if half else kernels.from_bfloat16)(job.y + begin, <const uint16_t*>job.x + begin, end - begin)
    elif job.program.type[job.step.y] != TYPE_FLOAT32:
        (kernels.to_half if half else kernels.to_bfloat16)(<uint16_t*>job.y + begin, job.x + begin, end - begin)
    else:
        while begin < end:
            n = min(PART, end - begin)
            (kernels.to_half if half else kernels.to_bfloat16)(part, job.x + begin, n)
            (kernels.from_half if half else kernels.from_bfloat16)(job.y + begin, part, n)
            begin += n


cdef Operand convert_overwrites(const Step* step, const StepPlan* sp) noexcept nogil:
    return OPERAND_X
