"""Steps of 8-bit integers, which are bytes, or floats less their zero points: functions by a table, sums, products, quantising."""

import numpy as np

from libc.math cimport rintf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf

from ._elementwise cimport LINE, activate_overwrites, infer_activate, plan_activate, plan_binary
from ._from_python cimport memory_of
from ._infer cimport broadcast
from ._loops cimport Loops, cut_run, item_begin
from ._sections cimport section
from ._structs cimport *
from ._weight_store cimport shared_drop
cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels.table_bytes cimport ByteKernels


# --- from integers to floats and back


# Numbers of all elements, or along an axis.
cdef struct Carry:
    float* zero
    float* scale
    int64_t count
    int axis


cdef void carry_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Carry)
    ops.build = build_carry
    ops.release = release_carry
    ops.infer = infer_carry
    ops.plan = plan_activate
    ops.item = carry_item


cdef int build_carry(Step* step, object spec) except -1:
    cdef Carry* own = <Carry*>step.spec
    zeros, scales = [spec.zero] if spec.zero__c is None else spec.zero__c, [spec.scale] if spec.scale__c is None else spec.scale__c
    own.count = max(len(zeros), len(scales))
    own.axis = spec.axis
    own.zero = <float*>memory_of(np.broadcast_to(zeros, own.count), np.float32)
    own.scale = <float*>memory_of(np.broadcast_to(scales, own.count), np.float32)
    return 0


cdef void release_carry(void* spec) noexcept nogil:
    shared_drop((<Carry*>spec).zero)
    shared_drop((<Carry*>spec).scale)


cdef int infer_carry(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Carry* own = <const Carry*>step.spec
    cdef const Shape* x = &plan.values[step.x].shape
    if own.count > 1 and x.dims[own.axis] != own.count:
        snprintf(message, message_size, "%lld scales or zero points along a dimension of %lld", <long long>own.count,
                 <long long>x.dims[own.axis])
        return 1
    return infer_activate(plan, step, sp, message, message_size)


cdef inline void widen(float* y, const int32_t* x, int64_t n, float zero) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = <float>x[i] - zero


cdef inline void narrow(int32_t* y, const float* x, int64_t n, float zero) noexcept nogil:
    """Return to int32, with the least one in the place of NaN."""
    cdef float low = -2147483648.0, high = 2147483520.0
    cdef int64_t i
    cdef float value
    for i in range(n):
        value = x[i] + zero
        value = value if value > low else low
        y[i] = <int32_t>(value if value < high else high)


cdef void carry_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some elements; along an axis run by run of those with the same numbers, or of all that stand along the last axis."""
    cdef const Carry* own = <const Carry*>job.step.spec
    cdef const Shape* shape = &job.plan.values[job.step.x].shape
    cdef int64_t size = job.plan.values[job.step.y].size, place = item_begin(index, job.sp.items, size, 4 * LINE)
    cdef int64_t end = item_begin(index + 1, job.sp.items, size, 4 * LINE), inner, run, first
    if own.count == 1:
        carry_run(job, place, end - place, 0, 0)
        return
    inner = element_count(shape, own.axis + 1, shape.rank)
    while place < end:
        first = place // inner % own.count
        run = min(own.count - first if inner == 1 else inner - place % inner, end - place)
        carry_run(job, place, run, first, inner == 1)
        place += run


cdef inline void carry_run(Job* job, int64_t place, int64_t n, int64_t first, int64_t step) noexcept nogil:
    """Carry n elements with the numbers from `first` on: one of all, or one of each with a step of 1."""
    cdef const Carry* own = <const Carry*>job.step.spec
    cdef int x = job.program.type[job.step.x], y = job.program.type[job.step.y]
    cdef ByteKernels* kernels = job.program.byte_kernels
    if x == TYPE_INT32:
        widen(job.y + place, <const int32_t*>job.x + place, n, own.zero[first])
    elif y == TYPE_INT32:
        narrow(<int32_t*>job.y + place, job.x + place, n, own.zero[first])
    elif y == TYPE_FLOAT32:
        kernels.dequantize(job.y + place, <const uint8_t*>job.x + place, n, own.scale + first, own.zero + first, step, x == TYPE_INT8)
    else:
        kernels.quantize(<uint8_t*>job.y + place, job.x + place, n, own.scale + first, own.zero + first, step, y == TYPE_INT8)


# --- a function of 256 integers

FIRST_OF = {0: np.uint8, -128: np.int8}
"""The types of 8 bits, by their least numbers."""


cdef struct LookUp:
    float* table
    float first
    uint8_t* byte_table  # of bytes, by their bits; NULL where `first` is not the least of a type


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
    if spec.first in FIRST_OF:
        places = np.arange(spec.table.size).astype(np.uint8).view(FIRST_OF[spec.first]) - np.int64(spec.first)
        with np.errstate(invalid="ignore"):  # a table of floats may hold any
            entries = spec.table[places].astype(np.int64) & 255
        (<LookUp*>step.spec).byte_table = <uint8_t*>memory_of(entries, np.uint8)
    return 0


cdef void release_look_up(void* spec) noexcept nogil:
    shared_drop((<LookUp*>spec).table)
    shared_drop((<LookUp*>spec).byte_table)


cdef void look_up_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef const LookUp* own = <const LookUp*>job.step.spec
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, 4 * LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, 4 * LINE) - begin
    if job.program.type[job.step.x] != TYPE_FLOAT32:
        job.program.byte_kernels.look_up(<uint8_t*>job.y + begin, <const uint8_t*>job.x + begin, n, own.byte_table)
        return
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
    if job.program.bytes[job.step.y] == 1:
        job.program.byte_kernels.quantize(<uint8_t*>job.y + begin, job.x + begin, n, job.more[SCALE], job.more[ZERO], 0, False)
        return
    job.program.kernels.activate(job.y + begin, job.x + begin, NULL, n, ACT_QUANTIZE, job.more[SCALE][0], -job.more[ZERO][0])
