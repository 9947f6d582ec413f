"""Fills the C structures of `runtime/_structs.pxd` that depend on no shape from a `steps.ProgramSpec`, and frees them."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ._sell cimport sell_free
from ._weight_store cimport shared_drop, shared_new, shared_settled
from ._structs cimport *


cdef void* allocate(size_t size) except NULL:
    cdef void* memory = calloc(size + 1, 1)
    if memory == NULL:
        raise MemoryError(f"{size} bytes for a compiled program")
    return memory


cdef void* copy_of(array, dtype) except NULL:
    """The array's data, contiguous, in shared memory."""
    contiguous = np.ascontiguousarray(array, dtype)
    cdef uintptr_t source = contiguous.ctypes.data
    cdef size_t size = contiguous.nbytes
    cdef void* memory = shared_new(size)
    if memory == NULL:
        raise MemoryError(f"{size} bytes for a compiled program")
    with nogil:
        memcpy(memory, <void*>source, size)
        memory = shared_settled(memory)
    return memory


cdef int fill_shape(Shape* shape, dims) except -1:
    if len(dims) > MAX_RANK:
        raise ValueError(f"{len(dims)} dimensions: at most {MAX_RANK} are supported")
    shape.rank = len(dims)
    for i, size in enumerate(dims):
        shape.dims[i] = size
    return 0


cdef int fill_window(Window* window, spec) except -1:
    """A step without a window (Gemm, MatMul) reads pixel by pixel."""
    for i in range(3):
        window.kernel[i] = window.stride[i] = window.dilation[i] = 1
    if spec is None:
        return 0
    window.rank = len(spec.kernel)
    window.auto_pad = spec.auto_pad
    for i in range(window.rank):
        axis = 3 - window.rank + i
        window.kernel[axis] = spec.kernel[i]
        window.stride[axis] = spec.stride[i]
        window.dilation[axis] = spec.dilation[i]
        window.pad_begin[axis] = spec.pad_begin[i]
        window.pad_end[axis] = spec.pad_end[i]
    return 0


cdef int fill_resize(Resize* resize, spec) except -1:
    if spec is None:
        return 0
    resize.interpolation = spec.interpolation
    resize.coordinates = spec.coordinates
    for i in range(2):
        resize.scale[i] = spec.scale[i]
        resize.size[i] = spec.size[i]
    return 0


cdef int fill_product(Product* p, spec) except -1:
    cdef GatherGroup* group
    cdef Panel* panel
    p.shape_rule = spec.rule
    p.x_rows = spec.x_rows
    p.y_rows = spec.y_rows
    p.M = spec.m
    p.channels = spec.channels
    p.taps = len(spec.taps)
    p.n_segments = len(spec.segments)
    p.segments = <SegmentShape*>copy_of(spec.segments, np.int32)
    p.units = len(spec.unit_segment) - 1
    p.unit_segment = <int32_t*>copy_of(spec.unit_segment, np.int32)
    p.tap = <Tap*>copy_of(spec.taps, np.int32)
    p.bias = <float*>copy_of(spec.bias__m, np.float32)
    p.max_vectors = spec.max_vectors
    p.vector_operand = spec.vector_operand
    fill_shape(&p.batch, spec.batch)
    p.groups = <GatherGroup*>allocate(len(spec.groups) * sizeof(GatherGroup))
    p.n_groups = len(spec.groups)
    for g in range(p.n_groups):
        group = &p.groups[g]
        source = spec.groups[g]
        group.channel_begin = source.channel_begin
        group.channels = source.channels
        group.offset_begin = p.offsets
        group.blocks = len(source.bounds) - 1
        group.bounds = <int64_t*>copy_of(source.bounds, np.int64)
        panel = &group.panel
        packed = source.panel
        panel.mr = packed.mr
        panel.row_begin = packed.row_begin
        panel.rows = packed.rows
        panel.strips = (panel.rows + STRIP - 1) // STRIP
        panel.groups = packed.row_start__bg.shape[1] - 1
        panel.columns = packed.k__nc.shape[1]
        panel.entries = len(packed.k__nc)
        panel.offsets = panel.columns * panel.entries
        panel.row_start = <int32_t*>copy_of(packed.row_start__bg, np.int32)
        panel.row = <int32_t*>copy_of(packed.row__bgr, np.int32)
        panel.k = <uint32_t*>copy_of(packed.k__nc, np.uint32)
        panel.value = <float*>copy_of(packed.value__nr, np.float32)
        group.nonzeros = source.nonzeros
        group.weights = source.weights
        p.offsets += panel.offsets
        p.macs += packed.value__nr.size
    return 0


cdef int fill_depthwise(Depthwise* p, spec) except -1:
    p.M = spec.m
    p.channels = spec.channels
    p.value = <float*>copy_of(spec.value__mt, np.float32)
    p.bias = <float*>copy_of(spec.bias__m, np.float32)
    return 0


cdef void depthwise_free(Depthwise* p) noexcept nogil:
    if p != NULL:
        shared_drop(p.value)
        shared_drop(p.bias)
        free(p)


cdef void product_free(Product* p) noexcept nogil:
    cdef int g
    if p == NULL:
        return
    for g in range(p.n_groups):
        shared_drop(p.groups[g].bounds)
        shared_drop(p.groups[g].panel.row_start)
        shared_drop(p.groups[g].panel.row)
        shared_drop(p.groups[g].panel.k)
        shared_drop(p.groups[g].panel.value)
        sell_free(p.groups[g].panel.sell)
    free(p.groups)
    shared_drop(p.segments)
    shared_drop(p.unit_segment)
    shared_drop(p.tap)
    shared_drop(p.bias)
    free(p)


cdef int fill_recurrent(Recurrent* rec, spec) except -1:
    rec.cell = spec.cell
    rec.hidden = spec.hidden
    rec.phases = len(spec.gates)
    for i, gates in enumerate(spec.gates):
        rec.gates[<int>i] = gates
    rec.all_gates = sum(spec.gates)
    rec.reverse = <int*>copy_of(spec.reverse, np.int32)
    rec.activation = <ActivationOf*>allocate(len(spec.activations) * sizeof(ActivationOf))
    for i, activation in enumerate(spec.activations):
        rec.activation[<int>i].act = activation.act
        rec.activation[<int>i].alpha = activation.alpha
        rec.activation[<int>i].beta = activation.beta
    rec.clip = spec.clip
    rec.couples = spec.couples
    rec.batch_first = spec.batch_first
    rec.lengths = spec.lengths
    rec.initial_h = spec.initial_h
    rec.initial_c = spec.initial_c
    rec.last_h = spec.last_h
    rec.last_c = spec.last_c
    if spec.peephole__dgh is not None:
        rec.peephole = <float*>copy_of(spec.peephole__dgh, np.float32)
    if spec.late__dh is not None:
        rec.late = <float*>copy_of(spec.late__dh, np.float32)
    rec.product = <Product**>allocate(len(spec.products) * sizeof(Product*))
    rec.directions = len(spec.reverse)
    for i, product in enumerate(spec.products):
        rec.product[<int>i] = <Product*>allocate(sizeof(Product))
        fill_product(rec.product[<int>i], product)
    return 0


cdef void recurrent_free(Recurrent* rec) noexcept nogil:
    cdef int i
    if rec == NULL:
        return
    if rec.product != NULL:
        for i in range(rec.directions * rec.phases):
            product_free(rec.product[i])
    free(rec.product)
    shared_drop(rec.reverse)
    free(rec.activation)
    shared_drop(rec.peephole)
    shared_drop(rec.late)
    free(rec)


cdef int fill_step(Step* step, source) except -1:
    step.kind = source.kind
    step.x = source.x
    step.r = source.r
    step.y = source.y
    step.act = source.activation.act
    step.alpha = source.activation.alpha
    step.beta = source.activation.beta
    spec = source.spec
    fill_window(&step.window, getattr(spec, "window", None))
    if source.kind == STEP_PRODUCT:
        step.product = <Product*>allocate(sizeof(Product))
        fill_product(step.product, spec)
    elif source.kind == STEP_DEPTHWISE:
        step.depthwise = <Depthwise*>allocate(sizeof(Depthwise))
        fill_depthwise(step.depthwise, spec)
    elif source.kind == STEP_RECURRENT:
        step.recurrent = <Recurrent*>allocate(sizeof(Recurrent))
        fill_recurrent(step.recurrent, spec)
    elif source.kind == STEP_BINARY:
        step.op = spec.op
    elif source.kind == STEP_POOL or source.kind == STEP_GLOBAL_POOL:
        step.is_max = spec.is_max
        step.ceil_mode = getattr(spec, "ceil_mode", False)
        step.count_include_pad = getattr(spec, "count_include_pad", False)
    elif source.kind == STEP_RESHAPE:
        step.allow_zero = spec.allow_zero
        step.flatten_axis = spec.flatten_axis
        fill_shape(&step.target, spec.target)
        for axis in spec.removed:
            step.removed |= 1 << <int>axis
        for axis in spec.inserted:
            step.inserted |= 1 << <int>axis
    elif source.kind == STEP_CONCAT:
        step.axis = spec.axis
        step.begins = spec.begins
    elif source.kind == STEP_PAD:
        fill_shape(&step.before, spec.before)
        fill_shape(&step.after, spec.after)
        step.fill = spec.fill
    elif source.kind == STEP_SHUFFLE:
        step.block = spec.block
        step.depth_first = spec.depth_first
        step.to_depth = spec.to_depth
    elif source.kind == STEP_TRANSPOSE:
        fill_shape(&step.target, spec.target)
    elif source.kind == STEP_RESIZE:
        fill_resize(&step.resize, spec)
    elif source.kind == STEP_NORMALIZE:
        step.epsilon = spec.epsilon
    return 0


cdef int fill_program(CompiledProgram* program, spec) except -1:
    program.inputs = <int*>copy_of(list(spec.inputs.values()), np.int32)
    program.n_inputs = len(spec.inputs)
    program.is_integer = <int*>copy_of([number in spec.integers for number in spec.inputs.values()], np.int32)
    if spec.ranks:
        program.ranks = <int*>copy_of(spec.ranks, np.int32)
    program.outputs = <int*>copy_of(list(spec.outputs.values()), np.int32)
    program.n_outputs = len(spec.outputs)
    program.constant = <float**>allocate(spec.n_values * sizeof(float*))
    program.constant_shape = <Shape*>allocate(spec.n_values * sizeof(Shape))
    program.n_values = spec.n_values
    for value, array in spec.constants.items():
        fill_shape(&program.constant_shape[<int>value], array.shape)
        program.constant[<int>value] = <float*>copy_of(array, np.float32)
    program.steps = <Step*>allocate(len(spec.steps) * sizeof(Step))
    program.n_steps = len(spec.steps)
    for i, source in enumerate(spec.steps):
        fill_step(&program.steps[<int>i], source)
    return 0


cdef void program_clear(CompiledProgram* program) noexcept nogil:
    cdef int i
    for i in range(program.n_steps):
        product_free(program.steps[i].product)
        depthwise_free(program.steps[i].depthwise)
        recurrent_free(program.steps[i].recurrent)
    if program.constant != NULL:
        for i in range(program.n_values):
            shared_drop(program.constant[i])
    free(program.steps)
    shared_drop(program.inputs)
    shared_drop(program.is_integer)
    shared_drop(program.ranks)
    shared_drop(program.outputs)
    free(program.constant)
    free(program.constant_shape)
