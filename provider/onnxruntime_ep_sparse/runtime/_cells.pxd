from libc.stdint cimport int64_t

from onnxruntime_ep_sparse_kernels._enums cimport STRIP

from ._packed cimport Product, ProductPlan
from ._structs cimport Job, Section

cdef struct CellActivation:
    int act
    float alpha
    float beta

# See the dataclass of that name.
cdef struct Recurrent:
    int cell
    int64_t hidden
    int directions
    int* reverse           # of each direction
    int phases             # products a time: 1, or 2 where the second needs all results of the first
    int64_t gates[2]       # of each phase
    int64_t all_gates
    Product* product       # [directions][phases]
    CellActivation* activation  # [directions][3]
    float clip             # infinite: none
    float* peephole        # [directions][i, o, f][hidden], or NULL
    float* late            # [directions][hidden], or NULL
    int couples            # f = 1 - i
    int batch_first

# Indices into Step.more.
cdef enum:
    LAST_H
    LAST_C
    INITIAL_H
    INITIAL_C
    LENGTHS
    RECURRENT_VALUES

cdef struct RecurrentPlan:
    ProductPlan* parts     # of every product by R
    const Product* projection      # of the input, which the step does itself, tile by tile as ProductPlan says; NULL: x is all of it
    const ProductPlan* input
    int64_t times
    int64_t sequences
    int64_t width          # of a row of the state, in sequences
    int64_t tiles          # of sequences, each with a state of its own
    int64_t together       # tiles that an item multiplies at once: more than one only where each is a single sequence
    int64_t groups         # of so many tiles, in each direction
    int64_t chunks         # of the hidden units
    int64_t rounds         # in which the workers go through all times and phases; they wait for each other between two
    int64_t state_floats   # of a tile
    int64_t state_begin    # floats before the states in the memory of all workers: the projection of a tile
    int64_t tile_begin     # floats before a tile of the input in the scratch of a worker

cdef enum:
    UNITS = STRIP            # as in ops/recurrent.py
    # Of a tile's state: h now and at the next time, then c, or the update gate and the reset h of a GRU.
    STATES = 4
    STATE_C = 2
    STATE_Z = 2
    STATE_RESET = 3


cdef inline int64_t most_units(const Recurrent* rec, const RecurrentPlan* own) noexcept nogil:
    """Hidden units that an item finishes."""
    cdef int64_t blocks = (rec.hidden + UNITS - 1) // UNITS
    return (blocks + own.chunks - 1) // own.chunks * UNITS


cdef inline int64_t recurrent_floats(const Recurrent* rec, const RecurrentPlan* own) noexcept nogil:
    """Room for the states of all tiles of all directions."""
    return rec.directions * own.tiles * own.state_floats + 16


cdef int recurrent_sections(const Job* job, Section* sections) noexcept nogil
