"""Recurrent steps at run time: LSTM, GRU and RNN, time by time.

The state stands as [units, sequences], which is the tile that kernels multiply by R: nothing is gathered. An item is some hidden units of
one direction for a tile of sequences: it loads its part of the projection as the partial sums that the kernels continue, and finishes its
units. All items of a time need all results of the time before.

So all times are rounds of one section: a worker does the items of a range of its own first, so that each keeps its part of R in its cache.
Where directions and tiles suffice for all workers, each goes through all times on its own, in one round.

Where the step does the input projection too, an item computes the rows of its units for the times of a tile of the input when it comes to
the first of them, and reads them until the next tile begins.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from ._packed cimport *
from ._sections cimport section, stops
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t

cdef extern from *:
    void store_text "__atomic_store_n"(const char** p, const char* text, int order) nogil

cdef enum:
    FUNCTIONS = 3            # f, g, h
    # Of the input projection of a tile that are computed block by block of K: an eighth of a MB.
    PROJECTED_FLOATS = 32 * 1024


# One execution of a recurrent node.
cdef struct RecurrentRun:
    const CompiledProgram* program
    Recurrent* rec
    RecurrentPlan* own
    const float* x             # the input projection, or the input where the step does that product too
    float* y
    const int32_t* lengths
    const float* initial_h
    const float* initial_c
    float* last_h
    float* last_c
    float* projected           # then: the projection of the times of a tile, row after row
    float* state


cdef inline RecurrentRun run_of(const Job* job) noexcept nogil:
    cdef RecurrentRun run
    run.program = job.program
    run.rec = <Recurrent*>job.step.spec
    run.own = <RecurrentPlan*>job.sp.own
    run.x = job.x
    run.y = job.y
    run.last_h = job.more[LAST_H]
    run.last_c = job.more[LAST_C]
    run.initial_h = job.more[INITIAL_H]
    run.initial_c = job.more[INITIAL_C]
    run.lengths = <const int32_t*>job.more[LENGTHS]
    run.projected = job.shared
    run.state = job.shared + run.own.state_begin
    return run


cdef int recurrent_sections(const Job* job, Section* sections) noexcept nogil:
    """List the beginning, all times, and the end, where last states are wanted."""
    cdef RecurrentPlan* own = <RecurrentPlan*>job.sp.own
    sections[0] = section(begin_item, 1, False)
    sections[1] = section(times_item, job.sp.items, job.sp.parallel)
    sections[1].rounds = own.rounds
    sections[2] = section(end_item, 1 if job.more[LAST_H] != NULL or job.more[LAST_C] != NULL else 0, False)
    return 3 if own.sequences else 1


cdef void begin_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Stop the run if a length is impossible; set the states."""
    cdef RecurrentRun run = run_of(job)
    cdef int64_t i
    if run.lengths != NULL:
        for i in range(run.own.sequences):
            if run.lengths[i] < 0 or run.lengths[i] > run.own.times:
                store_text(job.stopped, b"sequence_lens holds a number below 0 or beyond the times of X", RELAXED)
                return
    if run.own.sequences:
        begin_states(&run)


cdef void times_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Compute some hidden units, at the times of this round."""
    cdef RecurrentRun run = run_of(job)
    cdef int64_t stages = run.own.times * run.rec.phases // run.own.rounds, stage
    for stage in range(job.round * stages, (job.round + 1) * stages):
        if stage > job.round * stages and stops(job.host, job.stopped):
            return
        recurrent_item(&run, stage, index, scratch)


cdef void end_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef RecurrentRun run = run_of(job)
    end_states(&run)


# --- states


# Sequences [first, first + count) of one direction.
cdef struct Tile:
    int64_t direction
    int64_t first
    int64_t count
    int64_t vectors
    float* state


cdef inline Tile tile_of(const RecurrentRun* run, int64_t index) noexcept nogil:
    cdef Tile tile
    cdef int64_t lanes = run.program.kernels.lanes, first
    tile.direction = index // run.own.tiles
    if run.own.together > 1:
        tile.first = index % run.own.tiles
        tile.count = tile.vectors = 1
    else:
        first = slice_tile(run.own.parts, lanes, index % run.own.tiles, &tile.vectors)
        tile.first = first * lanes
        tile.count = run.own.sequences - tile.first
        if tile.count > tile.vectors * lanes:
            tile.count = tile.vectors * lanes
    tile.state = run.state + index * run.own.state_floats
    return tile


cdef inline float* state_of(const RecurrentRun* run, const Tile* tile, int64_t which, int64_t unit) noexcept nogil:
    """Return the row of a hidden unit in one of a tile's states."""
    return tile.state + (which * run.rec.hidden + unit) * run.own.width


cdef inline int64_t state_place(const RecurrentRun* run, const Tile* tile) noexcept nogil:
    """Return where the first sequence of a tile begins in an initial or last state."""
    cdef Recurrent* rec = run.rec
    if rec.batch_first:
        return (tile.first * rec.directions + tile.direction) * rec.hidden
    return (tile.direction * run.own.sequences + tile.first) * rec.hidden


cdef inline int64_t state_stride(const RecurrentRun* run) noexcept nogil:
    cdef Recurrent* rec = run.rec
    return rec.directions * rec.hidden if rec.batch_first else rec.hidden


cdef void load_rows(const RecurrentRun* run, float* tile, const float* x, int64_t stride, int64_t count, int64_t depth) noexcept nogil:
    """tile[k, i] = x[i, k] of `count` sequences."""
    if run.own.width == 1:
        memcpy(tile, x, depth * sizeof(float))
    else:
        run.program.kernels.gather_rows(tile, run.own.width, x, stride, count, depth)


cdef void store_rows(const RecurrentRun* run, float* y, int64_t stride, const float* tile, int64_t count, int64_t depth) noexcept nogil:
    """y[i, k] = tile[k, i]."""
    if run.own.width == 1:
        memcpy(y, tile, depth * sizeof(float))
    else:
        run.program.kernels.scatter_rows(y, stride, tile, run.own.width, count, depth, NULL, ACT_NONE, 0, 0)


cdef void begin_states(const RecurrentRun* run) noexcept nogil:
    """Initial states, or zeros."""
    cdef int64_t hidden = run.rec.hidden, i
    cdef Tile tile
    memset(run.state, 0, recurrent_floats(run.rec, run.own) * sizeof(float))
    for i in range(run.rec.directions * run.own.tiles):
        tile = tile_of(run, i)
        if run.initial_h != NULL:
            load_rows(run, state_of(run, &tile, 0, 0), run.initial_h + state_place(run, &tile), state_stride(run), tile.count, hidden)
        if run.initial_c != NULL:
            load_rows(run, state_of(run, &tile, STATE_C, 0), run.initial_c + state_place(run, &tile), state_stride(run), tile.count, hidden)


cdef void end_states(const RecurrentRun* run) noexcept nogil:
    """Last states, where they are wanted."""
    cdef int64_t i
    cdef Tile tile
    for i in range(run.rec.directions * run.own.tiles):
        tile = tile_of(run, i)
        end_state(run, &tile, run.last_h, state_of(run, &tile, run.own.times % 2, 0))
        end_state(run, &tile, run.last_c, state_of(run, &tile, STATE_C, 0))


cdef void end_state(const RecurrentRun* run, const Tile* tile, float* last, const float* state) noexcept nogil:
    """Store one of the last states; 0 for sequences of length 0, as in ONNX Runtime."""
    cdef int64_t hidden = run.rec.hidden, i
    if last == NULL:
        return
    last += state_place(run, tile)
    store_rows(run, last, state_stride(run), state, tile.count, hidden)
    for i in range(tile.count):
        if length_of(run, tile.first + i) == 0:
            memset(last + i * state_stride(run), 0, hidden * sizeof(float))


# --- one item


cdef inline int64_t length_of(const RecurrentRun* run, int64_t sequence) noexcept nogil:
    return run.own.times if run.lengths == NULL else run.lengths[sequence]


cdef inline int64_t time_of(const RecurrentRun* run, int64_t direction, int64_t time, int64_t sequence) noexcept nogil:
    """Return the time step of the input and output that a sequence is at; beyond its end, the step at which it reads and writes anyway."""
    cdef int64_t length = length_of(run, sequence)
    return length - 1 - time if run.rec.reverse[direction] and time < length else time


cdef inline bint over(const RecurrentRun* run, int64_t time, int64_t sequence) noexcept nogil:
    return time >= length_of(run, sequence)


cdef void recurrent_item(const RecurrentRun* run, int64_t stage, int64_t index, float* scratch) noexcept nogil:
    """Some hidden units of a group of tiles at one time, or one of its phases."""
    cdef Recurrent* rec = run.rec
    cdef RecurrentPlan* own = run.own
    cdef int64_t phase = stage % rec.phases, time = stage // rec.phases, chunk = index % own.chunks
    cdef int64_t blocks = (rec.hidden + UNITS - 1) // UNITS, unit, end, i
    cdef int64_t direction = index // own.chunks // own.groups, group = index // own.chunks % own.groups
    cdef int64_t first = direction * own.tiles + group * own.tiles // own.groups
    cdef int64_t tiles = direction * own.tiles + (group + 1) * own.tiles // own.groups - first
    cdef int64_t floats = most_units(rec, own) * own.width   # of a gate, and of what waits for it
    cdef float* late = scratch + own.together * rec.all_gates * floats
    cdef Tile tile
    unit = chunk * blocks // own.chunks * UNITS
    end = (chunk + 1) * blocks // own.chunks * UNITS
    if end > rec.hidden:
        end = rec.hidden
    if own.input != NULL and phase == 0:
        project(run, direction, time, unit, end, scratch + own.tile_begin)
    for i in range(tiles):
        tile = tile_of(run, first + i)
        load_projection(run, &tile, phase, time, unit, end, scratch + i * rec.all_gates * floats)
        if rec.late != NULL:
            keep_late(run, &tile, unit, end, scratch + i * rec.all_gates * floats, late + i * floats)
    tile = tile_of(run, first)
    multiply(run, &tile, tiles, phase, time, unit, end, scratch)
    for i in range(tiles):
        tile = tile_of(run, first + i)
        finish_units(run, &tile, phase, time, unit, end, scratch + i * rec.all_gates * floats, late + i * floats)
        if phase == rec.phases - 1:
            store_output(run, &tile, time, unit, end)


cdef void finish_units(const RecurrentRun* run, const Tile* tile, int64_t phase, int64_t time, int64_t unit, int64_t end, float* sums,
                       float* late) noexcept nogil:
    """Gates and new state of these units."""
    cdef Recurrent* rec = run.rec
    cdef int64_t units
    while unit < end:
        units = UNITS if unit + UNITS <= end else end - unit
        if rec.cell == CELL_LSTM:
            lstm(run, tile, time, unit, units, sums)
        elif rec.cell == CELL_GRU:
            gru(run, tile, phase, time, unit, units, sums, late)
        else:
            rnn(run, tile, time, unit, units, sums)
        sums += rec.gates[phase] * units * run.own.width
        late += units * run.own.width
        unit += units


cdef void load_projection(const RecurrentRun* run, const Tile* tile, int64_t phase, int64_t time, int64_t unit, int64_t end,
                          float* sums) noexcept nogil:
    """Load the part of the input projection that belongs to these units, as [rows, sequences]."""
    cdef Recurrent* rec = run.rec
    cdef RecurrentPlan* own = run.own
    cdef int64_t rows = rec.gates[phase] * (end - unit), total = rec.directions * rec.all_gates * rec.hidden, row, i, r
    cdef int64_t time_stride = total if rec.batch_first else total * own.sequences
    cdef int64_t stride = total * own.times if rec.batch_first else total
    cdef const float* source
    cdef const float* x
    row = row_of(rec, tile.direction, phase, unit)
    if own.input != NULL:
        copy_projection(run, tile, time_of(run, tile.direction, time, tile.first), row, rows, sums)
        return
    x = run.x + tile.first * stride + row
    if run.lengths == NULL:
        load_rows(run, sums, x + time_of(run, tile.direction, time, tile.first) * time_stride, stride, tile.count, rows)
        return
    if tile.count < own.width:
        memset(sums, 0, rows * own.width * sizeof(float))
    for i in range(tile.count):
        source = x + i * stride + time_of(run, tile.direction, time, tile.first + i) * time_stride
        for r in range(rows):
            sums[r * own.width + i] = source[r]


cdef inline int64_t row_of(const Recurrent* rec, int64_t direction, int64_t phase, int64_t unit) noexcept nogil:
    """Return the first row of W of a hidden unit."""
    return (direction * rec.all_gates + (rec.gates[0] if phase else 0)) * rec.hidden + rec.gates[phase] * unit


cdef inline void tile_at(const RecurrentRun* run, int64_t time, int64_t* first, int64_t* count) noexcept nogil:
    """Find the tile of the input that a time belongs to: its first time, and how many it has."""
    cdef const ProductPlan* q = run.own.input
    cdef int64_t index = time * q.tiles // run.own.times    # the inverse of slice_tile
    first[0] = slice_tile(q, run.program.kernels.lanes, index, count) // q.side
    count[0] //= q.side


cdef void project(const RecurrentRun* run, int64_t direction, int64_t time, int64_t unit, int64_t end, float* tile) noexcept nogil:
    """Compute the input projection of these units for all times of a tile, where it begins: it is read while it is in a cache."""
    cdef Recurrent* rec = run.rec
    cdef const Product* p = run.own.projection
    cdef const ProductPlan* q = run.own.input
    cdef int64_t lanes = run.program.kernels.lanes, at = time_of(run, direction, time, 0)
    cdef int64_t first, count, width, phase, begin, strips, pieces, i
    tile_at(run, at, &first, &count)
    if time and at != (first + count - 1 if rec.reverse[direction] else first):
        return
    width = count * run.own.width
    run.program.kernels.gather_rows(tile, q.offsets.width, run.x + first * run.own.sequences * p.channels, p.channels, width, p.channels)
    for phase in range(rec.phases):
        begin = row_of(rec, direction, phase, unit)
        strips = (row_of(rec, direction, phase, end) - begin) // STRIP
        # sums that wait between blocks of K stay in L2
        pieces = ceil_div(strips * STRIP * width, PROJECTED_FLOATS)
        for i in range(pieces):
            multiply_tile(run.program.kernels, &p.groups[0], q.offsets, tile, width // lanes, begin + strips * i // pieces * STRIP,
                          begin + strips * (i + 1) // pieces * STRIP, p.bias, run.projected, q.offsets.width)


cdef void copy_projection(const RecurrentRun* run, const Tile* tile, int64_t time, int64_t row, int64_t rows, float* sums) noexcept nogil:
    """Copy rows of the projection of one time."""
    cdef t.Run whole
    cdef int64_t first, count, width = run.own.width, stride = run.own.input.offsets.width
    tile_at(run, time, &first, &count)
    whole.source = whole.target = 0
    whole.length = <int32_t>width
    run.program.kernels.gather(sums, width, run.projected + row * stride + (time - first) * width, stride, rows, &whole, 1, 1, NULL, NULL)


cdef void multiply_tile(const t.KernelTable* kernels, const GatherGroup* group, const Offsets* offsets, const float* x, int64_t vectors,
                        int64_t begin, int64_t end, const float* bias, float* y, int64_t y_stride) noexcept nogil:
    """Multiply rows [begin, end) of a matrix by so many vectors of a tile of pixels: add them to y, or to `bias` unless it is NULL."""
    cdef const Panel* panel = &group.panel
    cdef int64_t v, b, step
    cdef t.SpmmCall call
    call.row_begin = <int32_t>(begin // panel.mr)
    call.row_end = panel.groups if end == panel.rows else <int32_t>(end // panel.mr)
    call.offset = offsets.offset + group.offset_begin
    call.value = panel.value
    call.partial_stride = call.y_stride = y_stride
    call.residual = NULL
    call.ahead = NULL
    t.read_tile(&call)
    call.finish = False
    for b in range(group.blocks):
        read_block(&call, panel, b)
        call.bias = bias if b == 0 else NULL
        v = 0
        while v < vectors:
            step = call_vectors(vectors - v, kernels.widest[panel.mr])
            call.tile = x + group.bounds[b] * offsets.width + v * kernels.lanes
            call.y = y + v * kernels.lanes
            call.partial = call.y
            kernels.spmm[panel.mr][step](&call)
            v += step


cdef void keep_late(const RecurrentRun* run, const Tile* tile, int64_t unit, int64_t end, float* sums, float* late) noexcept nogil:
    """Begin a GRU's hidden gate with R's bias, because the reset gate scales R's product with its bias; keep the projection in `late`."""
    cdef Recurrent* rec = run.rec
    cdef int64_t width = run.own.width, units, u, i
    cdef const float* bias = rec.late + tile.direction * rec.hidden
    cdef float* hidden
    while unit < end:
        units = UNITS if unit + UNITS <= end else end - unit
        hidden = sums + 2 * units * width
        memcpy(late, hidden, units * width * sizeof(float))
        for u in range(units):
            for i in range(width):
                hidden[u * width + i] = bias[unit + u]
        sums += 3 * units * width
        late += units * width
        unit += units


cdef void multiply(const RecurrentRun* run, const Tile* tile, int64_t tiles, int64_t phase, int64_t time, int64_t unit, int64_t end,
                   float* sums) noexcept nogil:
    """Add R times the state to the sums of these units, for so many tiles from this one on."""
    cdef Recurrent* rec = run.rec
    cdef int64_t part = tile.direction * rec.phases + phase, width = run.own.width, row = rec.gates[phase] * unit
    cdef int64_t stop = rec.gates[phase] * end, lanes = run.program.kernels.lanes
    cdef Product* p = &rec.product[part]
    cdef ProductPlan* q = &run.own.parts[part]
    cdef GatherGroup* group = &p.groups[0]
    cdef Panel* panel = &group.panel
    cdef t.KernelTable* kernels = run.program.kernels
    cdef const float* x = state_of(run, tile, STATE_RESET if phase else time % 2, 0)
    cdef t.SellCall sell
    cdef t.DenseCall dense
    sums -= row * width
    if q.layout == LAYOUT_DENSE:
        dense.value = panel.dense
        dense.slice_step = rec.hidden * lanes
        dense.value_step = lanes
        dense.bias = sums
        dense.x = x
        dense.y = sums
        dense.x_stride = run.own.state_floats
        dense.bias_stride = dense.y_stride = rec.all_gates * most_units(rec, run.own)
        dense.scale = 1
        dense.depth = rec.hidden
        dense.rows = panel.rows
        dense.slice_begin = row // lanes
        dense.slice_end = (stop + lanes - 1) // lanes
        kernels.dense[tiles](&dense)
        return
    if q.layout == LAYOUT_SELL:
        sell.start = panel.sell.start
        sell.row = panel.sell.row
        sell.k = panel.sell.k
        sell.value = panel.sell.value
        sell.bias = sums
        sell.partial = sums
        sell.y = sums
        sell.x = x
        sell.slice_begin = <int32_t>(row // lanes)
        sell.slice_end = <int32_t>((stop + lanes - 1) // lanes)
        kernels.sell[width](&sell)
        return
    multiply_tile(kernels, group, q.offsets, x, tile.vectors, row, stop, NULL, sums, width)


cdef void store_output(const RecurrentRun* run, const Tile* tile, int64_t time, int64_t unit, int64_t end) noexcept nogil:
    """Store these units of the new h in y."""
    cdef Recurrent* rec = run.rec
    cdef RecurrentPlan* own = run.own
    cdef int64_t row = rec.directions * rec.hidden, i, u
    cdef int64_t stride = row * own.times if rec.batch_first else rec.hidden
    cdef int64_t time_stride = row if rec.batch_first else row * own.sequences
    cdef int64_t direction_stride = rec.hidden if rec.batch_first else rec.hidden * own.sequences
    cdef float* y = run.y + tile.direction * direction_stride + tile.first * stride + unit
    cdef const float* h = state_of(run, tile, (time + 1) % 2, unit)
    cdef float* target
    if run.lengths == NULL:
        store_rows(run, y + time_of(run, tile.direction, time, tile.first) * time_stride, stride, h, tile.count, end - unit)
        return
    for i in range(tile.count):
        target = y + i * stride + time_of(run, tile.direction, time, tile.first + i) * time_stride
        if over(run, time, tile.first + i):
            memset(target, 0, (end - unit) * sizeof(float))
            continue
        for u in range(end - unit):
            target[u] = h[u * own.width + i]


# --- cells: `units` hidden units from `unit` on, gate after gate in `sums`


cdef inline void apply(const RecurrentRun* run, const Tile* tile, int function, float* y, const float* x, int64_t n) noexcept nogil:
    cdef CellActivation* f = &run.rec.activation[tile.direction * FUNCTIONS + function]
    run.program.kernels.activate(y, x, NULL, n, <t.Act>f.act, f.alpha, f.beta)


cdef inline void apply_clipped(const RecurrentRun* run, const Tile* tile, int function, float* x, int64_t n) noexcept nogil:
    """Compute a gate: clip its sums, then apply f or g."""
    cdef float clip = run.rec.clip
    if clip != INFINITY:
        run.program.kernels.activate(x, x, NULL, n, ACT_CLAMP, -clip, clip)
    apply(run, tile, function, x, x, n)


cdef inline void combine(const RecurrentRun* run, float* y, const float* a, const float* b, int64_t n, t.Op op) noexcept nogil:
    run.program.kernels.binary(y, a, 1, b, 1, n, op)


cdef void peep(const RecurrentRun* run, const Tile* tile, int gate, int64_t unit, int64_t units, float* sums,
               const float* c) noexcept nogil:
    """Add the peephole's weights times c to a gate's sums."""
    cdef Recurrent* rec = run.rec
    cdef int64_t width = run.own.width, u, i
    cdef const float* weight
    if rec.peephole == NULL:
        return
    weight = rec.peephole + (tile.direction * FUNCTIONS + gate) * rec.hidden + unit
    for u in range(units):
        for i in range(width):
            sums[u * width + i] += weight[u] * c[u * width + i]


cdef void settle(const RecurrentRun* run, const Tile* tile, int64_t time, int64_t units, float* new, const float* old,
                 float* state) noexcept nogil:
    """Make `new` the state, which may be where the old one stands; sequences that are over keep the old one."""
    cdef int64_t width = run.own.width, u, i
    if run.lengths != NULL:
        for i in range(tile.count):
            if over(run, time, tile.first + i):
                for u in range(units):
                    new[u * width + i] = old[u * width + i]
    memcpy(state, new, units * width * sizeof(float))


cdef void lstm(const RecurrentRun* run, const Tile* tile, int64_t time, int64_t unit, int64_t units, float* sums) noexcept nogil:
    cdef int64_t n = units * run.own.width
    cdef float one = 1
    cdef float* i = sums
    cdef float* o = sums + n
    cdef float* f = sums + 2 * n
    cdef float* g = sums + 3 * n
    cdef float* c = state_of(run, tile, STATE_C, unit)
    cdef const float* h = state_of(run, tile, time % 2, unit)
    cdef float* later = state_of(run, tile, (time + 1) % 2, unit)
    cdef bint at_once = run.rec.peephole == NULL and not run.rec.couples, varies = run.lengths != NULL
    cdef float* new = f if varies else c
    cdef float* output = o if varies else later
    peep(run, tile, 0, unit, units, i, c)
    apply_clipped(run, tile, 0, i, 3 * n if at_once else n)
    if run.rec.couples:
        run.program.kernels.binary(f, &one, 0, i, 1, n, BINARY_SUB)
    elif not at_once:
        peep(run, tile, 2, unit, units, f, c)
        apply_clipped(run, tile, 0, f, n)
    apply_clipped(run, tile, 1, g, n)
    combine(run, f, f, c, n, BINARY_MUL)
    combine(run, i, i, g, n, BINARY_MUL)
    combine(run, new, f, i, n, BINARY_ADD)
    if not at_once:
        peep(run, tile, 1, unit, units, o, new)
        apply_clipped(run, tile, 0, o, n)
    apply(run, tile, 2, g, new, n)
    combine(run, output, o, g, n, BINARY_MUL)
    if varies:
        settle(run, tile, time, units, f, c, c)
        settle(run, tile, time, units, o, h, later)


cdef void gru(const RecurrentRun* run, const Tile* tile, int64_t phase, int64_t time, int64_t unit, int64_t units, float* sums,
              const float* late) noexcept nogil:
    cdef int64_t n = units * run.own.width
    cdef float* z = state_of(run, tile, STATE_Z, unit)
    cdef float* reset = sums + n
    cdef float* hidden = sums
    cdef const float* h = state_of(run, tile, time % 2, unit)
    cdef float* later = state_of(run, tile, (time + 1) % 2, unit)
    if phase == 0:
        apply_clipped(run, tile, 0, sums, 2 * n)
        memcpy(z, sums, n * sizeof(float))
        if run.rec.phases == 2:
            combine(run, state_of(run, tile, STATE_RESET, unit), reset, h, n, BINARY_MUL)
            return
        hidden = sums + 2 * n
        if late != NULL:
            combine(run, hidden, hidden, reset, n, BINARY_MUL)
            combine(run, hidden, hidden, late, n, BINARY_ADD)
    apply_clipped(run, tile, 1, hidden, n)
    # (1 - z) hidden + z h
    combine(run, later, h, hidden, n, BINARY_SUB)
    combine(run, later, later, z, n, BINARY_MUL)
    combine(run, hidden, hidden, later, n, BINARY_ADD)
    settle(run, tile, time, units, hidden, h, later)


cdef void rnn(const RecurrentRun* run, const Tile* tile, int64_t time, int64_t unit, int64_t units, float* sums) noexcept nogil:
    apply_clipped(run, tile, 0, sums, units * run.own.width)
    settle(run, tile, time, units, sums, state_of(run, tile, time % 2, unit), state_of(run, tile, (time + 1) % 2, unit))
