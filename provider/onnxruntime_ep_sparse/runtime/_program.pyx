"""Compiled programs: built once from a `steps.ProgramSpec`, then plain C that runs without Python.

`program_run` finds or makes the plan for the input shapes (at most MAX_PLANS are kept, the least recently used goes), takes an arena and
executes. One lock guards the list of plans. It is held for a look-up, neither while a plan is made nor for the run, so that a run of a
known shape never waits for a new one.
"""

from collections import namedtuple

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from ._arenas cimport Arena, arena_return, arena_take, arenas_forget
from ._build cimport fill_program, program_clear
from ._execute cimport execute
from ._from_python cimport allocate, fill_shape
from ._lock cimport *
from ._numbers cimport read_contents, write_numbers
from ._plan cimport plan_create, plan_free
from ._sections cimport run_begins, run_ends
from ._structs cimport *

cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels.table_bytes cimport ByteKernels

cdef enum:
    MAX_PLANS = 16
    # Activations of the slices of a batch that run together: 8 MB per worker, at most 16 MB, which leaves room for weights in a 32 MB
    # last-level cache. MobileNetV2 at batch 8 on one thread: 1.08 times as fast as with 16 MB; on two threads ResNet-50 with 8 MB 0.77.
    NEAR_FLOATS = 2 * 1024 * 1024
    NEAR_WORKERS = 2
    # Steps run together in bands where an image between them is as large as most of an L2: MobileNetV2 in turn with another session 2.54 ms
    # from here on, 2.89 alone; from 400 KB on MobileNetV1 3.28 ms, 3.14 so.
    FAR_FLOATS = 180 * 1024
    # Pixels of an image from which on products may run dealt: those of 28x28 (VGG-16 at 90 %, one thread, AVX2: 46.3 ms from 32x32 on, 43.6
    # so).
    DEALT_PIXELS = 784
    # Of a run's stack, for its inputs and outputs: some 70 of each.
    NEAR_WORDS = 1024


cdef void program_release(CompiledProgram* program) noexcept nogil:
    cdef Plan* plan
    if program == NULL:
        return
    while program.plans != NULL:
        plan = program.plans
        program.plans = plan.next
        plan_free(program, plan)
    arenas_forget(program)
    program_clear(program)
    free(program.totals)
    if program.lock != NULL:
        PyThread_free_lock(<PyThread_type_lock>program.lock)
    free(program)


cdef inline bint same_key(const CompiledProgram* program, const Key* a, const Key* b) noexcept nogil:
    cdef int i
    for i in range(program.n_inputs):
        if not same_shape(&a.shapes[i], &b.shapes[i]):
            return False
    return program.n_contents == 0 or memcmp(a.contents, b.contents, program.n_contents * MAX_NUMBERS * sizeof(Number)) == 0


cdef Plan* plan_found(CompiledProgram* program, const Key* key) noexcept nogil:
    """Return the plan for such inputs, for one run more, or NULL. The caller holds the lock."""
    cdef Plan* plan = program.plans
    program.clock += 1
    while plan != NULL and not same_key(program, &plan.key, key):
        plan = plan.next
    if plan != NULL:
        plan.references += 1
        plan.used = program.clock
    return plan


cdef Plan* plan_take(CompiledProgram* program, const Key* key, char* message, size_t message_size) noexcept nogil:
    """Return the plan for such inputs, kept alive until plan_return; NULL with a reason.

    A plan is made outside the lock. Of two that are made for the same inputs at the same time, the first one stays.
    """
    cdef Plan* plan
    cdef Plan* made
    cdef Plan* gone = NULL
    PyThread_acquire_lock(<PyThread_type_lock>program.lock, WAIT_LOCK)
    plan = plan_found(program, key)
    PyThread_release_lock(<PyThread_type_lock>program.lock)
    if plan != NULL:
        return plan
    made = plan_create(program, key, message, message_size)
    if made == NULL:
        return NULL
    PyThread_acquire_lock(<PyThread_type_lock>program.lock, WAIT_LOCK)
    plan = plan_found(program, key)
    if plan == NULL:
        plan = made
        made = NULL
        # one for the list, one for the run
        plan.references = 2
        plan.used = program.clock
        if program.n_plans >= MAX_PLANS:
            gone = oldest_taken_out(program)
        plan.next = program.plans
        program.plans = plan
        program.n_plans += 1
    PyThread_release_lock(<PyThread_type_lock>program.lock)
    plan_free(program, made)
    plan_free(program, gone)
    return plan


cdef Plan* oldest_taken_out(CompiledProgram* program) noexcept nogil:
    """Remove the plan that was used least recently from the list; returned if no run has it. The caller holds the lock."""
    cdef Plan** link = &program.plans
    cdef Plan** oldest = link
    cdef Plan* plan
    while link[0] != NULL:
        if link[0].used < oldest[0].used:
            oldest = link
        link = &link[0].next
    plan = oldest[0]
    oldest[0] = plan.next
    program.n_plans -= 1
    plan.references -= 1
    return plan if plan.references == 0 else NULL


cdef void plan_return(CompiledProgram* program, Plan* plan) noexcept nogil:
    """NULL is allowed."""
    cdef bint last
    if plan == NULL:
        return
    PyThread_acquire_lock(<PyThread_type_lock>program.lock, WAIT_LOCK)
    plan.references -= 1
    last = plan.references == 0
    PyThread_release_lock(<PyThread_type_lock>program.lock)
    if last:
        plan_free(program, plan)


cdef int64_t slices_of(CompiledProgram* program, const Shape* shapes) noexcept nogil:
    """Return how many independent slices the inputs hold along their first dimension; 1 if the program or these shapes cannot be cut."""
    cdef int i
    if not program.separable or program.n_inputs == 0:
        return 1
    for i in range(program.n_inputs):
        if shapes[i].rank == 0 or shapes[i].dims[0] != shapes[0].dims[0]:
            return 1
    return shapes[0].dims[0] if shapes[0].dims[0] > 0 else 1


cdef Plan* plan_of_slices(CompiledProgram* program, const Key* key, int64_t whole, int64_t slices, char* message,
                          size_t message_size) noexcept nogil:
    """plan_take for inputs cut from `whole` to so many slices; the shapes of `key` are left as they were."""
    cdef Shape* shapes = key.shapes
    cdef Plan* plan
    cdef int i
    for i in range(program.n_inputs):
        shapes[i].dims[0] = slices
    plan = plan_take(program, key, message, message_size)
    for i in range(program.n_inputs):
        shapes[i].dims[0] = whole
    return plan


cdef int program_run(CompiledProgram* program, const Host* host, const float** inputs, const int64_t** dims, const size_t* ranks,
                     char* message, size_t message_size) noexcept nogil:
    """Compute the outputs; 0 on success, else the reason is in `message`. Inputs and outputs of a usual region are listed on the stack."""
    cdef int64_t near[NEAR_WORDS]
    cdef size_t inputs_size = program.n_inputs * (sizeof(Shape) + sizeof(void*)) + program.n_contents * MAX_NUMBERS * sizeof(Number)
    cdef size_t size = inputs_size + 2 * program.n_outputs * sizeof(void*)
    cdef void* room = near if size <= sizeof(near) else malloc(size)
    cdef int failed
    if room == NULL:
        snprintf(message, message_size, "out of memory for the places of %d inputs and %d outputs", program.n_inputs, program.n_outputs)
        return 1
    run_begins()
    failed = run_slices(program, host, inputs, dims, ranks, message, message_size, room)
    run_ends()
    if room != near:
        free(room)
    return failed


cdef int run_slices(CompiledProgram* program, const Host* host, const float** inputs, const int64_t** dims, const size_t* ranks,
                    char* message, size_t message_size, void* room) noexcept nogil:
    """Run a large batch slice by slice, as many at once as keep the activations near the caches.

    `room` has a Shape and a pointer for each input, MAX_NUMBERS for each one that is read for the plan, and two pointers for each output.
    """
    cdef Shape* shapes = <Shape*>room
    cdef Number* contents = <Number*>(shapes + program.n_inputs)
    cdef const float** part_inputs = <const float**>(contents + program.n_contents * MAX_NUMBERS)
    cdef float** outputs = <float**>(part_inputs + program.n_inputs)
    cdef float** part_outputs = outputs + program.n_outputs
    cdef Plan* plan
    cdef Plan* rest = NULL
    cdef Plan* current
    cdef Arena* arena = NULL
    cdef const ValuePlan* value
    cdef Shape shape
    cdef Key key
    cdef int64_t n, part, begin, floats
    cdef int i, failed = 0
    key.shapes = shapes
    key.contents = contents
    for i in range(program.n_inputs):
        if ranks[i] > MAX_RANK:
            snprintf(message, message_size, "input %d has %d dimensions, at most %d are supported", i, <int>ranks[i], <int>MAX_RANK)
            return 1
        shapes[i].rank = <int>ranks[i]
        memcpy(shapes[i].dims, dims[i], ranks[i] * sizeof(int64_t))
    if read_contents(program, <const void**>inputs, shapes, contents, message, message_size):
        return 1
    n = slices_of(program, shapes)
    part = n
    if n > 1:
        plan = plan_of_slices(program, &key, n, 1, message, message_size)
        if plan == NULL or plan.uneven:
            n = 1  # what does not hold for slices may hold for the whole, and the reverse
        else:
            part = NEAR_FLOATS * min(program.workers, NEAR_WORKERS) // plan.value_floats if plan.value_floats else n
            part = 1 if part < 1 else (n if part > n else part)
        if plan != NULL:
            plan_return(program, plan)
    if n > 1:
        plan = plan_of_slices(program, &key, n, part, message, message_size)
        if plan != NULL and n % part:
            rest = plan_of_slices(program, &key, n, n % part, message, message_size)
            failed = rest == NULL
    else:
        part = n
        plan = plan_take(program, &key, message, message_size)
    if plan == NULL:
        failed = 1
    if not failed:
        floats = plan.arena_floats
        if rest != NULL and rest.arena_floats > floats:
            floats = rest.arena_floats
        arena = arena_take(program, floats)
        if arena == NULL:
            snprintf(message, message_size, "out of memory for %lld floats of activations", <long long>floats)
            failed = 1
    if not failed:
        for i in range(program.n_outputs):
            shape = plan.values[program.outputs[i]].shape
            if n > part:
                shape.dims[0] = shape.dims[0] // part * n
            outputs[i] = host.output(host.context, i, shape.dims, shape.rank)
            if outputs[i] == NULL and plan.values[program.outputs[i]].size:
                snprintf(message, message_size, "output %d could not be allocated", i)
                failed = 1
                break
            if plan.values[program.outputs[i]].numbers != NULL:
                write_numbers(program, plan, program.outputs[i], outputs[i])
    begin = 0
    while not failed and begin < n:
        current = plan if n - begin >= part else rest
        for i in range(program.n_inputs):
            value = &plan.values[program.inputs[i]]
            part_inputs[i] = element_at(inputs[i], begin * (value.size // part), value.bytes)
        for i in range(program.n_outputs):
            value = &plan.values[program.outputs[i]]
            part_outputs[i] = element_at(outputs[i], begin * (value.size // part), value.bytes)
        if execute(program, current, host, part_inputs, part_outputs, arena.data, message, message_size):
            failed = 1
        begin += part
    if program.totals != NULL and begin:
        fetch_add(&program.runs, 1, RELAXED)
    if arena != NULL:
        arena_return(arena)
    plan_return(program, plan)
    plan_return(program, rest)
    return failed


cdef int serial_for(void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, void* user) noexcept nogil:
    cdef size_t i
    for i in range(total):
        body(user, i)
    return 0


cdef float* keep_output(void* context, size_t index, const int64_t* dims, size_t rank) noexcept nogil:
    """Return the array for an output, made under the GIL: only Program.run() uses this host, whose context is (outputs, types, stop)."""
    with gil:
        try:
            array = np.empty([dims[i] for i in range(rank)], (<tuple>context)[1][index])
            (<tuple>context)[0][index] = array
            return <float*><uintptr_t>array.ctypes.data
        except Exception:
            return NULL


cdef const char* ask_function(void* context) noexcept nogil:
    with gil:
        try:
            if not (<tuple>context)[2]():
                return NULL
            return b"stopped by a function"
        except Exception:
            return b"the function that says whether to stop has failed"


Place = namedtuple("Place", ("storage", "slot", "offset", "size", "dealt"))
Place.__doc__ = """Where a value stands: `offset` and `size` count floats.

`storage` is "arena", "input", "output" or "constant", `slot` the number of that input, output or constant, 0 of the arena. "nowhere" are
values between steps that run together in bands, "numbers" those that a plan computes, "kept" what steps have made of shapes alone. `dealt`:
its images stand dealt to the lanes of vectors (`runtime/_dealt.pxd`).
"""
STORAGES = {
    STORE_ARENA: "arena",
    STORE_INPUT: "input",
    STORE_OUTPUT: "output",
    STORE_CONSTANT: "constant",
    STORE_NOWHERE: "nowhere",
    STORE_NUMBERS: "numbers",
    STORE_KEPT: "kept",
}

StepRecord = namedtuple("StepRecord", ("step", "ns", "macs", "kernel", "rows", "width", "layout", "nonzeros"))
StepRecord.__doc__ = """One execution of a step: its number, its time, its multiply-adds by nonzeros.

The kernels are those of Variant in `runtime/_structs.pxd`.
"""


cdef class Program:
    """A region compiled for one instruction set: `Program(spec, table, workers, profile, far_floats, dealt_pixels, byte_table)`.

    `spec` is a `steps.ProgramSpec`, `table` a capsule from `onnxruntime_ep_sparse_kernels.table`, `workers` the number of threads that the
    work is cut for. With `profile` runs are counted, and the time of every step is added up. Steps run together in bands where an image
    between them has at least `far_floats`, or less with several workers; 0: wherever they can. Products run dealt where images have at
    least `dealt_pixels`; 0: wherever they can. Values of 8 bits need the `byte_table` of the same vectors.
    `run` computes on the calling thread, for tests; a session detaches the C object instead.
    """

    def __cinit__(self, spec, table, int workers=1, bint profile=False, int64_t far_floats=FAR_FLOATS,
                  int64_t dealt_pixels=DEALT_PIXELS, byte_table=None):
        cdef CompiledProgram* program = <CompiledProgram*>allocate(sizeof(CompiledProgram))
        self.compiled = program
        self.input_names = tuple(spec.inputs)
        self.output_names = tuple(spec.outputs)
        self.input_types = [spec.type_of(value).bits for value in spec.inputs.values()]
        self.output_types = [spec.type_of(value).bits for value in spec.outputs.values()]
        self.labels = tuple((source.kind.name.lower(), source.name, source.description) for source in spec.steps)
        program.kernels = <t.KernelTable*>PyCapsule_GetPointer(table, "onnxruntime_ep_sparse_kernels.table")
        if byte_table is not None:
            program.byte_kernels = <ByteKernels*>PyCapsule_GetPointer(byte_table, "onnxruntime_ep_sparse_kernels.table_bytes")
            if program.byte_kernels.lanes != program.kernels.lanes:
                raise ValueError(f"kernels for vectors of {program.kernels.lanes} and {program.byte_kernels.lanes} lanes")
        program.workers = workers
        program.far_floats = far_floats
        program.dealt_pixels = dealt_pixels
        program.separable = spec.separable
        program.lock = <void*>PyThread_allocate_lock()
        if program.lock == NULL:
            raise MemoryError("no memory for a lock of a compiled program")
        fill_program(program, spec)
        if profile:
            program.totals = <StepTotals*>allocate(len(spec.steps) * sizeof(StepTotals))

    def __dealloc__(self):
        program_release(self.compiled)

    cdef CompiledProgram* detach(self) except NULL:
        if self.compiled == NULL:
            raise ValueError("this program was handed to a session already")
        cdef CompiledProgram* program = self.compiled
        self.compiled = NULL
        return program

    def run(self, *inputs, stop=None, recorded=None):
        """Compute the outputs (list of arrays) for inputs in the order of `input_names`; RuntimeError says why shapes are bad.

        The arrays have the element types of the program, bfloat16 as uint16 with the same bits; inputs of other types are converted.

        The function `stop` is asked between steps, and between the times of a recurrent step, whether the run is to stop. The list
        `recorded` gets a StepRecord for each step that the run computes.
        """
        if self.compiled == NULL:
            raise ValueError("this program was handed to a session already")
        if len(inputs) != len(self.input_names):
            raise ValueError(f"{len(self.input_names)} inputs expected: {', '.join(self.input_names)}")
        arrays = [np.ascontiguousarray(array, bits) for array, bits in zip(inputs, self.input_types)]
        shapes = [np.array(array.shape, np.int64) for array in arrays]
        outputs = [None] * len(self.output_names)
        data = np.array([array.ctypes.data for array in arrays], np.uintp)
        dims = np.array([shape.ctypes.data for shape in shapes], np.uintp)
        ranks = np.array([array.ndim for array in arrays], np.uintp)
        cdef const float** c_data = <const float**><uintptr_t>data.ctypes.data
        cdef const int64_t** c_dims = <const int64_t**><uintptr_t>dims.ctypes.data
        cdef const size_t* c_ranks = <const size_t*><uintptr_t>ranks.ctypes.data
        cdef char message[256]
        cdef Host host
        cdef Recording recording
        cdef const StepRun* made
        cdef const Variant* variant
        cdef int failed
        context = (outputs, self.output_types, stop)
        host.context = <void*>context
        host.parallel_for = serial_for
        host.output = keep_output
        host.stop = NULL
        host.recording = NULL
        if stop is not None:
            host.stop = ask_function
        recording.runs = NULL
        recording.count = recording.room = recording.lost = 0
        if recorded is not None:
            host.recording = &recording
        with nogil:
            failed = program_run(self.compiled, &host, c_data, c_dims, c_ranks, message, sizeof(message))
        for i in range(recording.count):
            made = &recording.runs[<int64_t>i]
            variant = &made.variant
            recorded.append(StepRecord(
                made.step, made.end - made.begin, made.work.macs, variant.kernel.decode() if variant.kernel != NULL else "", variant.rows,
                variant.width, variant.layout.decode() if variant.layout != NULL else "", variant.nonzeros,
            ))
        free(recording.runs)
        if failed:
            raise RuntimeError(message.decode())
        return outputs

    def places(self, *shapes):
        """Return a Place for every value of a run with inputs of these shapes, for tests; RuntimeError says why shapes are bad."""
        cdef Shape* keys
        cdef Key key
        cdef char message[256]
        cdef Plan* plan
        cdef ValuePlan* root
        if self.compiled == NULL or len(shapes) != len(self.input_names):
            raise ValueError(f"{len(self.input_names)} shapes of a program that no session has are expected")
        room = bytearray(len(shapes) * sizeof(Shape) + 1)
        contents = bytearray(self.compiled.n_contents * MAX_NUMBERS * sizeof(Number) + 1)
        keys = key.shapes = <Shape*><char*>room
        key.contents = <Number*><char*>contents
        for i, dims in enumerate(shapes):
            fill_shape(&keys[<int>i], dims)
        plan = plan_take(self.compiled, &key, message, sizeof(message))
        if plan == NULL:
            raise RuntimeError(message.decode())
        found = []
        for v in range(self.compiled.n_values):
            root = &plan.values[plan.values[v].root]
            offset = plan.values[v].shift + (root.offset if root.storage == STORE_ARENA else 0)
            found.append(Place(STORAGES[root.storage], root.slot, offset, plan.values[v].size, bool(plan.values[v].dealt)))
        plan_return(self.compiled, plan)
        return found

    def plans(self):
        """Return (shapes of the inputs, runs that have it) for every plan that is kept, for tests. The last one made comes first."""
        cdef Plan* plan
        cdef Shape* dims
        cdef int i
        found = []
        PyThread_acquire_lock(<PyThread_type_lock>self.compiled.lock, WAIT_LOCK)
        plan = self.compiled.plans
        while plan != NULL:
            dims = plan.key.shapes
            shapes = tuple([tuple([dims[i].dims[k] for k in range(dims[i].rank)]) for i in range(self.compiled.n_inputs)])
            found.append((shapes, plan.references - 1))
            plan = plan.next
        PyThread_release_lock(<PyThread_type_lock>self.compiled.lock)
        return found
