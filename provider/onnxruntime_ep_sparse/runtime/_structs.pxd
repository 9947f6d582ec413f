"""The C structures of a compiled program that all kinds of steps share. Static parts are filled once by `runtime/_build.pyx`; a Plan holds
all that depends on the input shapes.

The data of one kind (`Step.spec`) and its part of a plan (`StepPlan.own`) are structures of the module of its family, which fills a
StepKindOps for each of its kinds; `runtime/_step_kinds.pyx` is the table of these.

Every value is a dense tensor in ONNX's own order, or images whose columns and rows are dealt to the lanes of vectors
(`runtime/_dealt.pxd`): see docs/architecture.md. Sizes and strides count elements, which are float32
unless `CompiledProgram.type` says otherwise. Pointers to values are `float*` whatever their elements are.
"""

from libc.stdint cimport int64_t, uint64_t

cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels.table_bytes cimport ByteKernels
from onnxruntime_ep_sparse_kernels._enums cimport *

from ._enums cimport *

cdef extern from *:
    int64_t fetch_add "__atomic_fetch_add" (int64_t* p, int64_t n, int order) nogil
    int64_t load "__atomic_load_n" (const int64_t* p, int order) nogil
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELAXED "__ATOMIC_RELAXED"
    int RELEASE "__ATOMIC_RELEASE"

cdef enum:
    NONE = -1
    COUNTER_FLOATS = 16  # a cache line
    MAX_MORE = 8         # values of a step besides x, r and y
    MAX_OPERANDS = 3     # of numbers that the plan computes
    MAX_SECTIONS = 3     # of a step, besides one that converts its x
    MAX_TOGETHER = 16    # steps that run together in bands
    MAX_FAULT = 160      # bytes of why a step has stopped a run

cdef extern from *:
    """
    #define MOST_ELEMENTS ((int64_t)1 << 40)
    """
    int64_t MOST_ELEMENTS   # of a value: what is reckoned with its sizes then stays within 64 bits

cdef struct Shape:
    int rank
    int64_t dims[MAX_RANK]

cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b

cdef inline int64_t element_count(const Shape* shape, int begin, int end) noexcept nogil:
    cdef int64_t n = 1
    cdef int i
    for i in range(begin, end):
        n *= shape.dims[i]
    return n

cdef inline bint same_shape(const Shape* a, const Shape* b) noexcept nogil:
    cdef int i
    if a.rank != b.rank:
        return False
    for i in range(a.rank):
        if a.dims[i] != b.dims[i]:
            return False
    return True

# A number that the plan computes: an integer or a truth, or a float.
cdef union Number:
    int64_t integer
    float real

# A list of numbers that the plan computes: see `program/numbers.py`.
cdef struct Numbers:
    int op                # NumberOp
    int type              # ElementType
    int y
    int before            # so many steps come before
    int rank
    int count
    int columns           # of a list of two dimensions, else 1
    int operands[MAX_OPERANDS]
    int places[MAX_NUMBERS]
    Number literals[MAX_NUMBERS]
    int input             # of NUMBER_INPUT: the input that is read ...
    int content           # ... and the place of its numbers in Plan.contents

cdef struct CompiledProgram
cdef struct Plan
cdef struct Step
cdef struct StepPlan
cdef struct Host
cdef struct Job

ctypedef void (*Item)(Job* job, int64_t index, float* scratch) noexcept nogil

# The kernels that compute a step, and how they find its operands. The texts are constants.
cdef struct Variant:
    const char* kernel     # the family, as in the names of kernels; NULL: the step has none
    int rows               # of a kernel's tile; 0: the name has only the width
    int64_t width          # vectors of a kernel's tile, or pixels; 0: the name has none
    const char* layout     # NULL where there is only one
    int64_t nonzeros       # of the weights

# Items of a step that any worker may do in any order: no two of them write the same memory.
cdef struct Section:
    Item item
    int64_t items
    int64_t rounds         # in which all items are done, one after another: job.round says which
    bint parallel          # else one worker does all items of a round

cdef enum Operand:
    NO_OPERAND
    OPERAND_X
    OPERAND_R

# How the pixels of dealt images are shared out among the lanes of vectors: as segments of the width times groups of rows.
cdef struct Deal:
    int64_t lanes
    int64_t columns        # segments of the width; 0: no value is dealt
    int64_t rows           # groups of rows: columns * rows is `lanes`

# The rows of x that a row of the result reads: row i reads `rows` of them from i * step - pad on, as far as these are inside the image.
cdef struct Reach:
    int64_t pad
    int64_t step
    int64_t rows
    int64_t macs           # a pixel of all channels of the result
    bint last              # no step can follow that reads the result band by band
    bint brings            # what is read is brought into another order first, which costs time for each row and each band

# Some rows of one image of a result. Pointers are to where row 0 of the first channel stands, or would stand: in the scratch of a worker
# there are only some rows of each channel.
cdef struct Band:
    int64_t image
    int64_t begin
    int64_t end
    const float* x
    const float* x_end     # beyond which nothing may be read
    int64_t x_plane        # from one channel to the next
    float* y
    int64_t y_plane
    const float* r         # the second operand: of the image where it has the shape of the result, else all of it

# A kind of step, as the rest of the runtime sees it. A function that a kind can do without is NULL.
cdef struct StepKindOps:
    size_t spec_size       # of Step.spec
    size_t plan_size       # of StepPlan.own
    # Fills Step.spec, which holds zeros, from the dataclass of the kind. NULL: the kind has no data.
    int (*build)(Step* step, object spec) except -1
    # Frees what a spec points to, also where `build` has left it half filled. NULL: it points to nothing.
    void (*release)(void* spec) noexcept nogil
    # Sets the shapes of the results, and sizes of those besides y; 0 on success, else the reason is in `message`.
    int (*infer)(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil
    # Sets items and StepPlan.own, and says what scratch a worker needs; 0 on success, else memory is short. Runs outside the
    # program's lock: others may plan the same step. `parallel` is set as usual before.
    int (*plan)(CompiledProgram* program, Plan* plan, int index) noexcept nogil
    # The rest of the plan, when the results of all steps have their shapes. NULL: there is none.
    void (*complete)(const CompiledProgram* program, Plan* plan, const Step* step, StepPlan* sp) noexcept nogil
    # Frees what StepPlan.own points to, also where the plan is half made. NULL: it points to nothing.
    void (*release_plan)(const Step* step, StepPlan* sp) noexcept nogil
    # Item `index` of the step's only section. NULL where there is `sections`.
    Item item
    # Lists the sections of the step, at most MAX_SECTIONS, one after another; returns their number. It depends on the plan alone. NULL: one
    # section over all items.
    int (*sections)(const Job* job, Section* sections) noexcept nogil
    # The operand whose memory the result can take, because elements are read where they are written. NULL: none.
    Operand (*overwrites)(const Step* step, const StepPlan* sp) noexcept nogil
    # Whether the step can read x and r, and write y, dealt in this way; `gain`, which is 0, becomes the time that this saves, in
    # multiply-adds. NULL: it cannot. Runs when all shapes are known.
    bint (*deals)(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil
    # Whether a step that reads x dealt can write y in ONNX's order, where r is.
    bint leaves
    # Whether x becomes a part of y beside others.
    bint joins
    # The rest of the plan of a dealt step, when all values have their places; 0 on success, else memory is short. NULL: there is none.
    int (*placed)(CompiledProgram* program, Plan* plan, int index) noexcept nogil
    # Whether the step can run together with its neighbours, band by band of the rows of an image; then `reach` says what it reads. NULL: it
    # cannot. Runs when all shapes are known. `plan` finds StepPlan.band_rows set where the step does.
    bint (*reads)(const CompiledProgram* program, const Plan* plan, int index, Reach* reach) noexcept nogil
    # Computes a band. NULL where `reads` is.
    void (*band)(Job* job, const Band* band, float* scratch) noexcept nogil
    # Whether the result is x times a number of r for each channel of an image, and nothing else. NULL: it never is. Where r has two rows,
    # the second one is added and the result may be clamped.
    bint (*scales)(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil
    # Whether the step can multiply what it reads of x by such numbers. NULL: it cannot.
    bint (*scaled)(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil
    # Pixels side by side that the step needs of x at a time, where it can do the product before itself and x is its result; else 0. NULL:
    # it cannot. Runs when all shapes are known.
    int64_t (*multiplies)(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil
    # Says which kernels compute the step as planned, for recordings; `variant` is 0. NULL: the kind has no kernels of several variants.
    void (*variant)(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* variant) noexcept nogil

cdef struct Step:
    const StepKindOps* ops
    int x
    int r                # residual, or second operand
    int y
    int act
    float alpha
    float beta
    int completes        # adds what the step before has not added because its operands differ in shape
    int n_more           # values besides x, r and y: results first, NONE for those that are missing
    int n_more_results
    int more[MAX_MORE]
    void* spec           # the family's structure of this kind, or NULL

cdef enum StorageKind:
    STORE_ARENA
    STORE_INPUT
    STORE_OUTPUT
    STORE_CONSTANT
    STORE_NOWHERE      # between steps that run together in bands
    STORE_NUMBERS      # of the plan
    STORE_KEPT         # computed when the plan was made: see `runtime/_fixed.pyx`

# The work of one execution of a step. Multiply-adds of products only; nothing is moved where the result is in place already.
cdef struct Work:
    int64_t macs           # by nonzeros
    int64_t dense_macs
    int64_t moved          # floats read and written, weights not counted

cdef enum View:
    NO_VIEW
    WHOLE_VIEW             # y shows the memory of x
    PART_VIEW              # x is one run of y
    RUN_VIEW               # y is one run of x

cdef struct StepPlan:
    Work work
    int64_t items
    int parallel
    int apart              # r has another shape than the result, which is computed without r and act: the next step adds them
    int dealt              # reads x and r, and writes y, dealt
    int leaves             # ... but r and y stand in ONNX's order
    int converts           # x stands the other way, and is brought into another place first ...
    int64_t converted_floats
    int64_t converted_offset   # ... of the arena, which only this step needs
    int together           # the steps from this one to the one before that number share a parallel section
    int view               # View: a step that has nothing to do where x is at y + origin
    int64_t origin
    int scaled             # multiplies what it reads by r of the step before, whose result shows the memory of its x
    int chain              # not 0: so many steps from this one run together, band by band
    int within             # an earlier step computes this one too
    const void* product    # the step does the product before, and reads the x of that: its ProductPlan; else NULL
    int fixed              # the result depends on shapes alone, and was computed when the plan was made
    int64_t bands          # of the first step of a chain: items of an image
    int64_t turn_rows      # ... and rows of the last result that an item computes at a time
    int64_t band_rows      # not 0: rows of the result that are computed at a time, at most
    int64_t kept_rows      # ... and stand in the scratch of a worker, of all steps of a chain but the last
    int64_t band_offset    # ... from here on
    int64_t band_floats    # of scratch that the step needs itself
    Reach reach
    void* own              # the family's structure of this kind

cdef struct ValuePlan:
    Shape shape
    int64_t size
    int64_t bytes          # of an element
    int dealt              # its images stand dealt: see `runtime/_dealt.pxd`
    int64_t room           # floats that it takes, where it is dealt
    int storage            # StorageKind
    int slot               # which input, output, constant; for the arena the offset is below
    int64_t offset
    Number* numbers        # of a value that the plan computes, NULL of others; `size` is their count
    float* kept            # of a result of a fixed step: its elements, in memory of the plan
    int root               # the value whose memory this one shows ...
    int64_t shift          # ... and how many floats from its beginning
    int last               # the last step that touches this memory

cdef inline int64_t floats_of(const ValuePlan* value) noexcept nogil:
    """Return how many floats take as many bytes as a value."""
    return ceil_div(value.size * value.bytes, sizeof(float))

# The inputs that a plan is made for.
cdef struct Key:
    Shape* shapes          # of the inputs
    Number* contents       # of those that are read when a plan is made: MAX_NUMBERS of each

cdef struct Plan:
    int references
    uint64_t used
    Plan* next
    Key key
    Number* numbers        # that the plan computes: MAX_NUMBERS of each list
    Number* tensors        # the same as tensors, for steps that read them: elements of their types, from the same places on
    ValuePlan* values
    StepPlan* steps
    char* own              # memory of StepPlan.own of all steps, zeros at first
    Deal deal
    int uneven             # operands broadcast along the first dimension, which then is not a batch
    int64_t scratch_offset
    int64_t scratch_floats  # a worker
    int64_t shared_floats  # of all workers together
    int64_t shared_offset
    int64_t counters_offset
    int64_t value_floats   # of the arena, before scratch
    int64_t arena_floats

cdef inline void need_scratch(Plan* plan, int64_t floats) noexcept nogil:
    """Reserve this many floats per worker."""
    if floats > plan.scratch_floats:
        plan.scratch_floats = floats

cdef inline void need_shared(Plan* plan, int64_t floats) noexcept nogil:
    """Reserve this many floats for all workers together."""
    if floats > plan.shared_floats:
        plan.shared_floats = floats

# The time that a profiled program has spent on a step in all its runs. Changed and read atomically, because runs go on.
cdef struct StepTotals:
    int64_t ns
    int64_t within_next    # runs in which it ran band by band together with the next step
    Work work

# One execution of a step. Of a chain that runs in bands, that of the last step, with the work of all.
cdef struct StepRun:
    int step
    int workers
    int64_t begin          # ns of `runtime/_recording.pxd`'s clock
    int64_t end
    Work work
    Variant variant

# The steps of a run, in their order, for a profile.
cdef struct Recording:
    StepRun* runs
    int64_t count
    int64_t room
    int64_t lost           # those for which there was no memory

cdef struct Host:
    # How a running program reaches its surroundings: ONNX Runtime's kernel context in a session, numpy in tests.
    void* context
    # Calls body(user, i) for i in 0..total-1 and returns when all are done; 0 on success.
    int (*parallel_for)(void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, void* user) noexcept nogil
    # Allocates output `index` with these dimensions, and the element type that the host knows; NULL on failure.
    float* (*output)(void* context, size_t index, const int64_t* dims, size_t rank) noexcept nogil
    # Why the run is to stop now, or NULL. All threads of a run may call it. NULL: nothing stops a run.
    const char* (*stop)(void* context) noexcept nogil
    # Where the run is recorded, or NULL.
    Recording* recording

cdef inline float* element_at(const float* data, int64_t elements, int64_t bytes) noexcept nogil:
    """Return the address so many elements of `bytes` bytes further on."""
    return <float*>(<char*>data + elements * bytes)

cdef inline const char* asked_to_stop(const Host* host) noexcept nogil:
    return host.stop(host.context) if host.stop != NULL else NULL

cdef struct CompiledProgram:
    t.KernelTable* kernels
    ByteKernels* byte_kernels  # NULL where no value has bytes
    int workers
    int64_t far_floats     # of an image between two steps, from which on they run together in bands: see `runtime/_bands.pyx`
    int64_t dealt_pixels   # of an image, from which on products may run dealt; 0: all run dealt that can
    int separable          # slices along the first dimension of all inputs are independent
    int n_values
    int n_inputs
    int n_outputs
    int n_steps
    int n_numbers
    int n_contents         # inputs that are read when a plan is made
    Step* steps
    Numbers* numbers       # that plans compute
    int* inputs            # value of each input
    int* type              # ElementType of each value
    int* bytes             # of an element of each value
    int* onnx_type         # of the elements of each value, as ONNX numbers element types
    int* ranks             # of the inputs, or NULL: any
    int* outputs
    Shape* constant_shape  # of each value; rank -1: not constant
    float** constant
    int* readers           # of each value: steps that read it, and outputs that it is
    void* lock             # PyThread_type_lock, guards what follows
    uint64_t clock
    Plan* plans
    int n_plans
    StepTotals* totals     # of each step, or NULL where the program is not profiled
    int64_t runs           # those that `totals` are of

# A worker's view of one execution of a step.
cdef struct Job:
    CompiledProgram* program
    Plan* plan
    Step* step
    StepPlan* sp
    const float* x
    const float* r
    float* y
    float** more             # where the values of Step.more are; NULL for those that are missing
    t.Scaled scaled          # of a `scaled` step: for the first image; else without factors
    int64_t scaled_step      # from the factors of an image to those of the next
    const float** operands   # where the second operands of the steps of a chain are, or NULL
    float* scratch
    float* shared
    float* converted         # for an x that is brought into another order
    int64_t scratch_floats   # of a worker
    float* counters
    int64_t round            # of a section that has several
    const Host* host
    const char** stopped     # why the run is to stop, once that is known: for all workers
    char* fault              # room for MAX_FAULT bytes of a reason that a step finds
