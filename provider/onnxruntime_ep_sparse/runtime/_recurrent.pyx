"""LSTM, GRU and RNN after their input projection: data, shapes and plan. `runtime/_cells.pyx` runs them."""

import numpy as np

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free

from ._cells cimport *
from ._from_python cimport allocate, memory_of
from ._packed cimport *
from ._sections cimport IDLE_PERCENT, idle_percent
from ._few cimport few_create, layout_of
from ._product cimport layout_variant
from ._sell cimport sell_width
from ._structs cimport *
from ._tiles cimport offsets_return, offsets_take
from ._weight_store cimport shared_drop

cdef enum:
    # Below this many multiply-adds a time (some 10 us) waiting for each other costs more than a second worker saves.
    PARALLEL_MACS = 20000
    # Items of a worker, so that none waits long for another that was interrupted.
    ITEMS = 2


cdef void recurrent_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Recurrent)
    ops.plan_size = sizeof(RecurrentPlan)
    ops.build = build
    ops.release = release
    ops.infer = infer
    ops.plan = plan_recurrent
    ops.release_plan = release_plan
    ops.sections = recurrent_sections
    ops.multiplies = multiplies
    ops.variant = variant


cdef int build(Step* step, object spec) except -1:
    cdef Recurrent* rec = <Recurrent*>step.spec
    rec.cell = spec.cell
    rec.hidden = spec.hidden
    rec.phases = len(spec.gates)
    for i, gates in enumerate(spec.gates):
        rec.gates[<int>i] = gates
    rec.all_gates = sum(spec.gates)
    rec.reverse = <int*>memory_of(spec.reverse, np.int32)
    rec.activation = <CellActivation*>allocate(len(spec.activations) * sizeof(CellActivation))
    for i, activation in enumerate(spec.activations):
        rec.activation[<int>i].act = activation.act
        rec.activation[<int>i].alpha = activation.alpha
        rec.activation[<int>i].beta = activation.beta
    rec.clip = spec.clip
    rec.couples = spec.couples
    rec.batch_first = spec.batch_first
    step.n_more = RECURRENT_VALUES
    step.n_more_results = INITIAL_H
    step.more[LAST_H] = spec.last_h
    step.more[LAST_C] = spec.last_c
    step.more[INITIAL_H] = spec.initial_h
    step.more[INITIAL_C] = spec.initial_c
    step.more[LENGTHS] = spec.lengths
    if spec.peephole__dgh is not None:
        rec.peephole = <float*>memory_of(spec.peephole__dgh, np.float32)
    if spec.late__dh is not None:
        rec.late = <float*>memory_of(spec.late__dh, np.float32)
    rec.product = <Product*>allocate(len(spec.products) * sizeof(Product))
    rec.directions = len(spec.reverse)
    for i, product in enumerate(spec.products):
        fill_product(&rec.product[<int>i], product)
    return 0


cdef void release(void* spec) noexcept nogil:
    cdef Recurrent* rec = <Recurrent*>spec
    cdef int i
    if rec.product != NULL:
        for i in range(rec.directions * rec.phases):
            release_product(&rec.product[i])
    free(rec.product)
    shared_drop(rec.reverse)
    free(rec.activation)
    shared_drop(rec.peephole)
    shared_drop(rec.late)


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    """Shapes of the results; 0 on success."""
    cdef Recurrent* rec = <Recurrent*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef Shape state
    cdef int i, v, batch = 0 if rec.batch_first else 1
    y.rank = 4
    y.dims[0] = x.dims[0]
    y.dims[1] = x.dims[1] if rec.batch_first else rec.directions
    y.dims[2] = rec.directions if rec.batch_first else x.dims[1]
    y.dims[3] = rec.hidden
    state.rank = 3
    state.dims[1 - batch] = x.dims[batch]
    state.dims[0 if batch else 1] = rec.directions
    state.dims[1 if batch else 0] = x.dims[batch]
    state.dims[2] = rec.hidden
    for i in range(LENGTHS):
        v = step.more[i]
        if v != NONE and i < step.n_more_results:
            plan.values[v].shape = state
            plan.values[v].size = x.dims[batch] * rec.directions * rec.hidden
        elif v != NONE and not same_shape(&plan.values[v].shape, &state):
            snprintf(message, message_size, "initial_%s of a recurrent node does not have the shape %lld x %lld x %lld",
                     b"h" if i == INITIAL_H else b"c", <long long>state.dims[0], <long long>state.dims[1], <long long>state.dims[2])
            return 1
    v = step.more[LENGTHS]
    if v != NONE and (plan.values[v].shape.rank != 1 or plan.values[v].shape.dims[0] != x.dims[batch]):
        snprintf(message, message_size, "sequence_lens does not have one entry for each of %lld sequences", <long long>x.dims[batch])
        return 1
    return 0


cdef bint choose_tiles(const CompiledProgram* program, const Recurrent* rec, const Shape* x, RecurrentPlan* own) noexcept nogil:
    """Choose the layouts of R and the tiles of sequences; return whether all of R is multiplied by tiles of vectors."""
    cdef int parts = rec.directions * rec.phases, i, b
    cdef int64_t lanes = program.kernels.lanes, vectors, most, floats
    cdef const GatherGroup* group
    cdef ProductPlan* q
    cdef bint tiled = False, few = False, dense = True
    own.times = x.dims[1 if rec.batch_first else 0]
    own.sequences = x.dims[0 if rec.batch_first else 1]
    vectors = (own.sequences + lanes - 1) // lanes
    most = vectors
    for i in range(parts):
        group = &rec.product[i].groups[0]
        if rec.product[i].max_vectors < most:
            most = rec.product[i].max_vectors
        for b in range(group.blocks):
            # as far as 16 bits reach
            floats = (group.bounds[b + 1] - group.bounds[b]) * lanes
            if most * floats > 65535:
                most = 65535 // floats
    own.tiles = (vectors + most - 1) // most if most else 0
    own.width = (vectors + own.tiles - 1) // own.tiles * lanes if own.tiles else 0
    for i in range(parts):
        q = &own.parts[i]
        q.images = q.slices = q.in_depth = q.in_height = q.out_height = 1
        q.in_width = q.out_width = q.pixels = q.flat = own.sequences
        q.tiles = own.tiles
        q.layout = layout_of(&rec.product[i], q, program.kernels)
        if q.layout == LAYOUT_SELL and own.sequences > lanes:
            q.layout = LAYOUT_TILES
        tiled = tiled or q.layout == LAYOUT_TILES
        few = few or q.layout != LAYOUT_TILES
        dense = dense and q.layout == LAYOUT_DENSE
    own.together = 1
    if dense and own.sequences:
        # a dense kernel reads and writes units side by side: each sequence has a state of its own
        own.width = 1
        own.tiles = own.sequences
        own.together = ceil_div(own.sequences, ceil_div(own.sequences, program.kernels.dense_rows))
    elif not tiled and own.sequences:
        own.width = sell_width(program.kernels, own.sequences)
    return not few


cdef int64_t multiplies(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil:
    """Return the number of sequences, where they are whole vectors that go from time to time together, and units can be cut everywhere."""
    cdef const Step* step = &program.steps[index]
    cdef const Recurrent* rec = <const Recurrent*>step.spec
    cdef RecurrentPlan own
    cdef int64_t pixels = 0
    if rec.batch_first or step.more[LENGTHS] != NONE or rec.hidden % UNITS:
        return 0
    own.parts = <ProductPlan*>calloc(rec.directions * rec.phases, sizeof(ProductPlan))
    if own.parts != NULL and choose_tiles(program, rec, &plan.values[step.x].shape, &own) and own.width == own.sequences:
        pixels = own.width
    free(own.parts)
    return pixels


cdef int plan_recurrent(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Tiles of sequences, items, tables of offsets; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Recurrent* rec = <Recurrent*>step.spec
    cdef RecurrentPlan* own = <RecurrentPlan*>sp.own
    cdef int parts = rec.directions * rec.phases, i
    cdef int64_t lanes = program.kernels.lanes, macs = 0, pixels = 0
    cdef int64_t blocks = (rec.hidden + UNITS - 1) // UNITS
    cdef ProductPlan* q
    own.parts = <ProductPlan*>calloc(parts, sizeof(ProductPlan))
    if own.parts == NULL:
        return 1
    choose_tiles(program, rec, &plan.values[step.x].shape, own)
    own.input = <const ProductPlan*>sp.product
    if own.input != NULL:
        own.projection = <const Product*>step[-1].spec
    for i in range(parts):
        macs += rec.product[i].macs * own.sequences
    own.groups = ceil_div(own.tiles, own.together)
    own.state_floats = (STATES * rec.hidden * own.width + 31) // 16 * 16
    for i in range(parts):
        q = &own.parts[i]
        q.pitch = own.width
        if q.layout == LAYOUT_DENSE and own.width > 1:
            q.layout = LAYOUT_SELL if own.sequences <= lanes else LAYOUT_TILES
        if q.layout != LAYOUT_TILES:
            if few_create(&rec.product[i], q, lanes):
                return 1
        elif own.tiles:
            q.offsets = offsets_take(&rec.product[i], q.pitch, own.width, 0)
            if q.offsets == NULL:
                return 1
    own.chunks = 1
    i = <int>(rec.directions * own.groups)
    own.rounds = 1 if idle_percent(i, program.workers) <= IDLE_PERCENT else own.times * rec.phases
    sp.parallel = program.workers > 1 and (macs * own.times if own.rounds == 1 else macs) > PARALLEL_MACS
    while sp.parallel and own.rounds > 1 and own.chunks < blocks and (i * own.chunks < ITEMS * program.workers or (
            idle_percent(i * own.chunks, program.workers) > IDLE_PERCENT)):
        own.chunks += 1
    sp.items = i * own.chunks
    # the sums of an item, and as much as a gate of it
    own.tile_begin = ((rec.all_gates + 1) * most_units(rec, own) * own.width * own.together + 47) // 16 * 16
    if own.input != NULL:
        pixels = own.input.tile_vectors * lanes
        need_scratch(plan, own.tile_begin + own.projection.channels * pixels + 16)
        own.state_begin = (own.projection.M * pixels + 15) // 16 * 16
    need_scratch(plan, own.tile_begin)
    need_shared(plan, own.state_begin + recurrent_floats(rec, own))
    for i in range(parts):
        sp.work.macs += rec.product[i].groups[0].nonzeros * own.sequences * own.times
        sp.work.dense_macs += rec.product[i].groups[0].weights * own.sequences * own.times
    return 0


cdef void variant(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* v) noexcept nogil:
    """Tell the kernels of the first gates; others can have another layout."""
    cdef const Recurrent* rec = <const Recurrent*>step.spec
    cdef const RecurrentPlan* own = <const RecurrentPlan*>sp.own
    cdef int64_t lanes = program.kernels.lanes, nonzeros = 0
    cdef Layout layout = own.parts[0].layout
    cdef int i
    layout_variant(program.kernels, &rec.product[0], layout,
                   own.together if layout == LAYOUT_DENSE else own.width if layout == LAYOUT_SELL else own.width // lanes, v)
    for i in range(rec.directions * rec.phases):
        nonzeros += rec.product[i].groups[0].nonzeros
    v.nonzeros = nonzeros


cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil:
    cdef Recurrent* rec = <Recurrent*>step.spec
    cdef RecurrentPlan* own = <RecurrentPlan*>sp.own
    cdef int i
    if own.parts != NULL:
        for i in range(rec.directions * rec.phases):
            offsets_return(&rec.product[i], own.parts[i].offsets)
        free(own.parts)
