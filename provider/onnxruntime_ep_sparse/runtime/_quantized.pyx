"""Steps of 8-bit integers, which are bytes, or floats less their zero points: functions by a table, sums, products, quantising."""

import numpy as np

from libc.math cimport rintf
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from ._elementwise cimport LINE, activate_overwrites, infer_activate, plan_activate, plan_binary
from ._from_python cimport memory_of
from ._infer cimport broadcast
from ._loops cimport Loops, cut_run, item_begin
from ._sections cimport section
from ._structs cimport *
from ._weight_store cimport shared_drop
cimport onnxruntime_ep_sparse_kernels.table as t


# --- from integers to floats and back


ctypedef fused Integer:
    uint8_t
    int8_t
    int32_t


cdef void carry_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(float)
    ops.build = build_carry
    ops.infer = infer_activate
    ops.plan = plan_activate
    ops.item = carry_item


cdef int build_carry(Step* step, object spec) except -1:
    (<float*>step.spec)[0] = spec.zero
    return 0


cdef inline void widen(float* y, const Integer* x, int64_t n, float zero) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = <float>x[i] - zero


cdef inline void narrow(Integer* y, const float* x, int64_t n, float zero, float low, float high) noexcept nogil:
    """Return to integers, with the least one in the place of NaN."""
    cdef int64_t i
    cdef float value
    for i in range(n):
        value = x[i] + zero
        value = value if value > low else low
        y[i] = <Integer>(value if value < high else high)


cdef void carry_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef const int* type = job.program.type
    cdef int x = type[job.step.x], y = type[job.step.y]
    cdef float zero = (<float*>job.step.spec)[0]
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, 4 * LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, 4 * LINE) - begin
    if x == TYPE_UINT8 or x == TYPE_BOOL:
        widen(job.y + begin, <const uint8_t*>job.x + begin, n, zero)
    elif x == TYPE_INT8:
        widen(job.y + begin, <const int8_t*>job.x + begin, n, zero)
    elif x == TYPE_INT32:
        widen(job.y + begin, <const int32_t*>job.x + begin, n, zero)
    elif y == TYPE_UINT8 or y == TYPE_BOOL:
        narrow(<uint8_t*>job.y + begin, job.x + begin, n, zero, 0, 255)
    elif y == TYPE_INT8:
        narrow(<int8_t*>job.y + begin, job.x + begin, n, zero, -128, 127)
    else:
        narrow(<int32_t*>job.y + begin, job.x + begin, n, zero, -2147483648.0, 2147483520.0)


# --- a function of 256 integers


cdef struct LookUp:
    float* table
    float first


cdef void look_up_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(LookUp)
    ops.build = build_look_up
    ops.release = release_look_up
    ops.infer = infer_activate
    ops.plan = plan_activate
    ops.item = look_up_item
    ops.overwrites = activate_overwrites


cdef int build_look_up(Step* step, object spec) except -1:
    (<LookUp*>step.spec).table = <float*>memory_of(spec.table, np.float32)
    (<LookUp*>step.spec).first = spec.first
    return 0


cdef void release_look_up(void* spec) noexcept nogil:
    shared_drop((<LookUp*>spec).table)


cdef void look_up_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef const LookUp* own = <const LookUp*>job.step.spec
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, LINE) - begin
    job.program.kernels.look_up(job.y + begin, job.x + begin, n, own.table, own.first)


# --- the sum or product of two operands


cdef void combine_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(t.Combination)
    ops.plan_size = sizeof(Loops)
    ops.build = build_combine
    ops.infer = infer_combine
    ops.plan = plan_binary
    ops.item = combine_item


cdef int build_combine(Step* step, object spec) except -1:
    cdef t.Combination* own = <t.Combination*>step.spec
    own.multiplies = spec.multiplies
    own.a_zero = spec.x_zero
    own.a_scale = spec.x_scale
    own.b_zero = spec.r_zero
    own.b_scale = spec.r_scale
    own.shift = spec.shift
    own.y_zero = spec.y_zero
    own.low = spec.low
    own.high = spec.high
    return 0


cdef int infer_combine(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    return broadcast(&plan.values[step.x].shape, &plan.values[step.r].shape, &plan.values[step.y].shape, message, message_size)


cdef void combine_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some elements, run by run of the innermost loop; the first run and the last one may be cut."""
    cdef Loops* loops = <Loops*>job.sp.own
    cdef int64_t size = job.plan.values[job.step.y].size, a, b, n
    cdef int64_t a_step = loops.a_stride[loops.n - 1], b_step = loops.b_stride[loops.n - 1]
    cdef int64_t place = item_begin(index, job.sp.items, size, 4 * LINE), end = item_begin(index + 1, job.sp.items, size, 4 * LINE)
    cdef const int* type = job.program.type
    cdef t.Combination own = (<const t.Combination*>job.step.spec)[0]
    own.a_signed = type[job.step.x] == TYPE_INT8
    own.b_signed = type[job.step.r] == TYPE_INT8
    own.y_signed = type[job.step.y] == TYPE_INT8
    while place < end:
        n = cut_run(loops, place, end, &a, &b)
        if type[job.step.y] == TYPE_FLOAT32:
            job.program.kernels.combine(job.y + place, job.x + a, a_step, job.r + b, b_step, n, &own)
        else:
            job.program.byte_kernels.combine(<uint8_t*>job.y + place, <const uint8_t*>job.x + a, a_step, <const uint8_t*>job.r + b, b_step,
                                             n, &own)
        place += n


# --- quantising by the extent of a value


cdef enum:
    SCALE                # places in Step.more
    ZERO
    DYNAMIC_VALUES


cdef void dynamic_quantize_ops(StepKindOps* ops) noexcept:
    ops.build = build_dynamic
    ops.infer = infer_dynamic
    ops.plan = plan_dynamic
    ops.sections = dynamic_sections


cdef int build_dynamic(Step* step, object spec) except -1:
    step.n_more = step.n_more_results = DYNAMIC_VALUES
    step.more[SCALE] = spec.scale
    step.more[ZERO] = spec.zero
    return 0


cdef int infer_dynamic(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef int i
    for i in range(DYNAMIC_VALUES):
        plan.values[step.more[i]].shape.rank = 0
        plan.values[step.more[i]].size = 1
    return infer_activate(plan, step, sp, message, message_size)


cdef int plan_dynamic(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan_activate(program, plan, index)
    need_shared(plan, 2 * plan.steps[index].items + 16)
    return 0


cdef int dynamic_sections(const Job* job, Section* sections) noexcept nogil:
    """List the sections: find the extent item by item, then the scale and the zero point, then quantise item by item."""
    sections[0] = section(extent_item, job.sp.items, job.sp.parallel)
    sections[1] = section(scale_item, 1, False)
    sections[2] = section(quantize_item, job.sp.items, job.sp.parallel)
    return 3


cdef void scale_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef float low = 0, high = 0, scale
    cdef int64_t i
    for i in range(job.sp.items):
        low = min(low, job.shared[2 * i])
        high = max(high, job.shared[2 * i + 1])
    scale = (high - low) / 255 if high != low else 1
    job.more[SCALE][0] = scale
    job.more[ZERO][0] = rintf(max(<float>0, min(<float>255, -low / scale)))


cdef void extent_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, LINE) - begin
    job.program.kernels.extent(job.x + begin, n, job.shared + 2 * index, job.shared + 2 * index + 1)


cdef void quantize_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, LINE) - begin
    job.program.kernels.activate(job.y + begin, job.x + begin, NULL, n, ACT_QUANTIZE, job.more[SCALE][0], -job.more[ZERO][0])
