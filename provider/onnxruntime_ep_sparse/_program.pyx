"""Compiled programs: built once from a `steps.ProgramSpec`, then plain C that runs without Python.

`program_run` finds or makes the plan for the input shapes (at most MAX_PLANS are kept, the least recently used goes), takes an arena and
executes. Plans and arenas are guarded by one lock that is held for the look-up, not for the run.
"""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint32_t, uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from onnxruntime_ep_sparse._execute cimport execute
from onnxruntime_ep_sparse._plan cimport plan_create, plan_free
from onnxruntime_ep_sparse._sell cimport sell_free
from onnxruntime_ep_sparse._structs cimport *

from onnxruntime_ep_sparse_kernels cimport table as t

cdef extern from "pythread.h" nogil:
    # Python's portable mutex; none of these needs the GIL (cpython.pythread declares that PyThread_free_lock does).
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    int WAIT_LOCK

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    #include <stdlib.h>
    #include <stdint.h>
    /* 64-byte aligned memory for activations. Tiles touch a page a channel: where the system has huge pages they save most TLB misses. */
    static void *sparse_pages(size_t bytes) {
        const size_t huge = (size_t)2 << 20, alignment = bytes >= huge ? huge : 64;
        void *memory;
    #if defined(_WIN32)
        memory = _aligned_malloc(bytes, alignment);
    #else
        if (posix_memalign(&memory, alignment, bytes)) return NULL;
    #endif
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (bytes >= huge) madvise(memory, bytes, MADV_HUGEPAGE);
    #endif
        return memory;
    }
    static void sparse_pages_free(void *memory) {
    #if defined(_WIN32)
        _aligned_free(memory);
    #else
        free(memory);
    #endif
    }
    """
    void* sparse_pages(size_t bytes) nogil
    void sparse_pages_free(void* memory) nogil

cdef enum:
    MAX_PLANS = 16
    MAX_ARENAS = 16
    # Activations of the slices of a batch that run together: 16 MB, which leaves room for weights in a 32 MB last-level cache.
    NEAR_FLOATS = 4 * 1024 * 1024
    # Two steps run in bands only where what is between them is far larger than the caches: MobileNetV1 on 224x224, with 5 MB at most,
    # takes 5 to 10 % longer so, on 3840x2160 30 % less.
    FAR_FLOATS = 2 * 1024 * 1024


cdef void* allocate(size_t size) except NULL:
    cdef void* memory = calloc(size + 1, 1)
    if memory == NULL:
        raise MemoryError(f"{size} bytes for a compiled program")
    return memory


cdef void* copy_of(array, dtype) except NULL:
    """The array's data, contiguous, in C memory of its own."""
    contiguous = np.ascontiguousarray(array, dtype)
    cdef void* memory = allocate(contiguous.nbytes)
    cdef uintptr_t source = contiguous.ctypes.data
    memcpy(memory, <void*>source, contiguous.nbytes)
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
    cdef Group* group
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
    p.groups = <Group*>allocate(len(spec.groups) * sizeof(Group))
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
        free(p.value)
        free(p.bias)
        free(p)


cdef void product_free(Product* p) noexcept nogil:
    cdef int g
    if p == NULL:
        return
    for g in range(p.n_groups):
        free(p.groups[g].bounds)
        free(p.groups[g].panel.row_start)
        free(p.groups[g].panel.row)
        free(p.groups[g].panel.k)
        free(p.groups[g].panel.value)
        sell_free(p.groups[g].panel.sell)
    free(p.groups)
    free(p.segments)
    free(p.unit_segment)
    free(p.tap)
    free(p.bias)
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
    free(rec.reverse)
    free(rec.activation)
    free(rec.peephole)
    free(rec.late)
    free(rec)


cdef void program_release(CompiledProgram* program) noexcept nogil:
    cdef int i
    cdef Plan* plan
    cdef Arena* arena
    if program == NULL:
        return
    while program.plans != NULL:
        plan = program.plans
        program.plans = plan.next
        plan_free(program, plan)
    while program.arenas != NULL:
        arena = program.arenas
        program.arenas = arena.next
        sparse_pages_free(arena.data)
        free(arena)
    for i in range(program.n_steps):
        product_free(program.steps[i].product)
        depthwise_free(program.steps[i].depthwise)
        recurrent_free(program.steps[i].recurrent)
    if program.constant != NULL:
        for i in range(program.n_values):
            free(program.constant[i])
    free(program.steps)
    free(program.inputs)
    free(program.is_integer)
    free(program.outputs)
    free(program.constant)
    free(program.constant_shape)
    free(program.totals)
    if program.lock != NULL:
        PyThread_free_lock(<PyThread_type_lock>program.lock)
    free(program)


cdef inline bint same_shapes(const Shape* a, const Shape* b, int n) noexcept nogil:
    cdef int i, k
    for i in range(n):
        if a[i].rank != b[i].rank:
            return False
        for k in range(a[i].rank):
            if a[i].dims[k] != b[i].dims[k]:
                return False
    return True


cdef Plan* plan_take(CompiledProgram* program, const Shape* inputs, char* message, size_t message_size) noexcept nogil:
    """The plan for these shapes, kept alive until plan_return; NULL with a reason. The caller holds the lock."""
    cdef Plan* plan = program.plans
    cdef Plan** link
    cdef Plan** oldest = NULL
    program.clock += 1
    while plan != NULL:
        if same_shapes(plan.key, inputs, program.n_inputs):
            plan.references += 1
            plan.used = program.clock
            return plan
        plan = plan.next
    plan = plan_create(program, inputs, message, message_size)
    if plan == NULL:
        return NULL
    plan.references = 2
    plan.used = program.clock
    if program.n_plans >= MAX_PLANS:
        link = &program.plans
        while link[0] != NULL:
            if oldest == NULL or link[0].used < oldest[0].used:
                oldest = link
            link = &link[0].next
        plan_drop(program, oldest)
    plan.next = program.plans
    program.plans = plan
    program.n_plans += 1
    return plan


cdef void plan_drop(CompiledProgram* program, Plan** link) noexcept nogil:
    cdef Plan* plan = link[0]
    link[0] = plan.next
    program.n_plans -= 1
    plan_return(program, plan)


cdef void plan_return(CompiledProgram* program, Plan* plan) noexcept nogil:
    plan.references -= 1
    if plan.references == 0:
        plan_free(program, plan)


cdef Arena* arena_take(CompiledProgram* program, int64_t floats) noexcept nogil:
    """An arena of at least this size out of the pool, or a new one. The caller holds the lock."""
    cdef Arena* arena
    cdef Arena** link = &program.arenas
    while link[0] != NULL:
        arena = link[0]
        if arena.floats >= floats:
            link[0] = arena.next
            program.n_arenas -= 1
            return arena
        link = &arena.next
    arena = <Arena*>malloc(sizeof(Arena))
    if arena == NULL:
        return NULL
    arena.data = <float*>sparse_pages(floats * sizeof(float))
    if arena.data == NULL:
        free(arena)
        return NULL
    arena.floats = floats
    return arena


cdef void arena_return(CompiledProgram* program, Arena* arena) noexcept nogil:
    """Back into the pool; when it is full, the smallest arena goes."""
    cdef Arena** link
    cdef Arena** smallest
    arena.next = program.arenas
    program.arenas = arena
    program.n_arenas += 1
    if program.n_arenas <= MAX_ARENAS:
        return
    smallest = link = &program.arenas
    while link[0] != NULL:
        if link[0].floats < smallest[0].floats:
            smallest = link
        link = &link[0].next
    arena = smallest[0]
    smallest[0] = arena.next
    program.n_arenas -= 1
    sparse_pages_free(arena.data)
    free(arena)


cdef int64_t slices_of(CompiledProgram* program, const Shape* shapes) noexcept nogil:
    """How many independent slices the inputs hold along their first dimension; 1 if the program or these shapes cannot be cut."""
    cdef int i
    if not program.separable or program.n_inputs == 0:
        return 1
    for i in range(program.n_inputs):
        if shapes[i].rank == 0 or shapes[i].dims[0] != shapes[0].dims[0]:
            return 1
    return shapes[0].dims[0] if shapes[0].dims[0] > 0 else 1


cdef Plan* plan_of_slices(CompiledProgram* program, Shape* shapes, int64_t whole, int64_t slices, char* message,
                          size_t message_size) noexcept nogil:
    """plan_take for inputs cut from `whole` to so many slices; `shapes` are left as they were."""
    cdef Plan* plan
    cdef int i
    for i in range(program.n_inputs):
        shapes[i].dims[0] = slices
    plan = plan_take(program, shapes, message, message_size)
    for i in range(program.n_inputs):
        shapes[i].dims[0] = whole
    return plan


cdef int program_run(CompiledProgram* program, const Host* host, const float** inputs, const int64_t** dims, const size_t* ranks,
                     char* message, size_t message_size) noexcept nogil:
    """A large batch runs slice by slice, as many at once as keep the activations near the caches."""
    cdef Shape shapes[MAX_OPERANDS]
    cdef float* outputs[MAX_OPERANDS]
    cdef const float* part_inputs[MAX_OPERANDS]
    cdef float* part_outputs[MAX_OPERANDS]
    cdef Plan* plan
    cdef Plan* rest = NULL
    cdef Plan* current
    cdef Arena* arena = NULL
    cdef Shape shape
    cdef int64_t n, part, begin, floats
    cdef int i, failed = 0
    for i in range(program.n_inputs):
        if ranks[i] > MAX_RANK:
            snprintf(message, message_size, "input %d has %d dimensions, at most %d are supported", i, <int>ranks[i], <int>MAX_RANK)
            return 1
        shapes[i].rank = <int>ranks[i]
        memcpy(shapes[i].dims, dims[i], ranks[i] * sizeof(int64_t))
    n = slices_of(program, shapes)
    part = n
    PyThread_acquire_lock(<PyThread_type_lock>program.lock, WAIT_LOCK)
    if n > 1:
        plan = plan_of_slices(program, shapes, n, 1, message, message_size)
        if plan != NULL:
            part = NEAR_FLOATS // plan.value_floats if plan.value_floats else n
            part = 1 if part < 1 else (n if part > n else part)
            plan_return(program, plan)
        plan = plan_of_slices(program, shapes, n, part, message, message_size)
        if plan != NULL and n % part:
            rest = plan_of_slices(program, shapes, n, n % part, message, message_size)
            failed = rest == NULL
    else:
        plan = plan_take(program, shapes, message, message_size)
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
    PyThread_release_lock(<PyThread_type_lock>program.lock)
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
    begin = 0
    while not failed and begin < n:
        current = plan if n - begin >= part else rest
        for i in range(program.n_inputs):
            part_inputs[i] = inputs[i] + begin * (plan.values[program.inputs[i]].size // part)
        for i in range(program.n_outputs):
            part_outputs[i] = outputs[i] + begin * (plan.values[program.outputs[i]].size // part)
        failed = execute(program, current, host, part_inputs, part_outputs, arena.data)
        if failed:
            snprintf(message, message_size, "sequence_lens holds a number below 0 or beyond the times of X" if failed == BAD_LENGTHS
                     else "the parallel section of a step failed")
            failed = 1
        begin += part
    if program.totals != NULL and begin:
        fetch_add(&program.runs, 1, RELAXED)
    PyThread_acquire_lock(<PyThread_type_lock>program.lock, WAIT_LOCK)
    if arena != NULL:
        arena_return(program, arena)
    if plan != NULL:
        plan_return(program, plan)
    if rest != NULL:
        plan_return(program, rest)
    PyThread_release_lock(<PyThread_type_lock>program.lock)
    return failed


cdef int serial_for(void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, void* user) noexcept nogil:
    cdef size_t i
    for i in range(total):
        body(user, i)
    return 0


cdef float* keep_output(void* context, size_t index, const int64_t* dims, size_t rank) noexcept nogil:
    """The array for an output, made under the GIL: only Program.run() uses this host."""
    with gil:
        try:
            array = np.empty([dims[i] for i in range(rank)], np.float32)
            (<list>context)[index] = array
            return <float*><uintptr_t>array.ctypes.data
        except Exception:
            return NULL


cdef class Program:
    """A region compiled for one instruction set: `Program(spec, table, workers, profile, far_floats)`.

    `spec` is a `steps.ProgramSpec`, `table` a capsule from `onnxruntime_ep_sparse_kernels.table`, `workers` the number of threads that the
    work is cut for. With `profile` runs are counted, and the time of every step is added up. Two steps run together in bands where an image
    has at least `far_floats` between them. `run` computes on the calling thread, for tests; a session detaches the C object instead.
    """

    def __cinit__(self, spec, table, int workers=1, bint profile=False, int64_t far_floats=FAR_FLOATS):
        cdef CompiledProgram* program = <CompiledProgram*>allocate(sizeof(CompiledProgram))
        cdef Step* step
        self.compiled = program
        if max(len(spec.inputs), len(spec.outputs)) > MAX_OPERANDS:
            raise ValueError(f"a region with more than {MAX_OPERANDS} inputs or outputs is not supported")
        self.input_names = tuple(spec.inputs)
        self.output_names = tuple(spec.outputs)
        self.labels = tuple((source.kind.name.lower(), source.name, source.description) for source in spec.steps)
        program.kernels = <t.KernelTable*>PyCapsule_GetPointer(table, "onnxruntime_ep_sparse_kernels.table")
        program.workers = workers
        program.far_floats = far_floats
        program.separable = spec.separable
        program.lock = <void*>PyThread_allocate_lock()
        if program.lock == NULL:
            raise MemoryError("a lock for a compiled program")
        program.inputs = <int*>copy_of(list(spec.inputs.values()), np.int32)
        program.n_inputs = len(spec.inputs)
        program.is_integer = <int*>copy_of([number in spec.integers for number in spec.inputs.values()], np.int32)
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
        if profile:
            program.totals = <StepTotals*>allocate(len(spec.steps) * sizeof(StepTotals))
        for i, source in enumerate(spec.steps):
            step = &program.steps[<int>i]
            step.kind = source.kind
            step.x = source.x
            step.r = source.r
            step.y = source.y
            step.act = source.activation.act
            step.alpha = source.activation.alpha
            step.beta = source.activation.beta
            step.op = source.op
            step.is_max = source.is_max
            step.ceil_mode = source.ceil_mode
            step.count_include_pad = source.count_include_pad
            step.allow_zero = source.allow_zero
            step.flatten_axis = source.flatten_axis
            step.axis = source.axis
            step.begins = source.begins
            step.fill = source.fill
            step.epsilon = source.epsilon
            step.block = source.block
            step.depth_first = source.depth_first
            step.to_depth = source.to_depth
            fill_shape(&step.before, source.before)
            fill_shape(&step.after, source.after)
            fill_resize(&step.resize, source.resize)
            fill_shape(&step.target, source.target)
            fill_window(&step.window, source.window)
            for axis in source.removed:
                step.removed |= 1 << <int>axis
            for axis in source.inserted:
                step.inserted |= 1 << <int>axis
            if source.kind == STEP_RECURRENT:
                step.recurrent = <Recurrent*>allocate(sizeof(Recurrent))
                fill_recurrent(step.recurrent, source.recurrent)
            if source.kind == STEP_DEPTHWISE:
                step.depthwise = <Depthwise*>allocate(sizeof(Depthwise))
                fill_depthwise(step.depthwise, source.product)
            elif source.product is not None:
                step.product = <Product*>allocate(sizeof(Product))
                fill_product(step.product, source.product)

    def __dealloc__(self):
        program_release(self.compiled)

    cdef CompiledProgram* detach(self) except NULL:
        if self.compiled == NULL:
            raise ValueError("this program was handed to a session already")
        cdef CompiledProgram* program = self.compiled
        self.compiled = NULL
        return program

    def run(self, *inputs):
        """Compute the outputs (list of float32 arrays) for inputs in the order of `input_names`; RuntimeError says why shapes are bad."""
        if self.compiled == NULL:
            raise ValueError("this program was handed to a session already")
        if len(inputs) != len(self.input_names):
            raise ValueError(f"{len(self.input_names)} inputs expected: {', '.join(self.input_names)}")
        arrays = [np.ascontiguousarray(array, np.float32) for array in inputs]
        shapes = [np.array(array.shape, np.int64) for array in arrays]
        outputs = [None] * len(self.output_names)
        cdef const float* data[MAX_OPERANDS]
        cdef const int64_t* dims[MAX_OPERANDS]
        cdef size_t ranks[MAX_OPERANDS]
        cdef char message[256]
        cdef Host host
        cdef int failed
        for i in range(len(arrays)):
            data[<int>i] = <const float*><uintptr_t>arrays[i].ctypes.data
            dims[<int>i] = <const int64_t*><uintptr_t>shapes[i].ctypes.data
            ranks[<int>i] = arrays[i].ndim
        host.context = <void*>outputs
        host.parallel_for = serial_for
        host.output = keep_output
        with nogil:
            failed = program_run(self.compiled, &host, data, dims, ranks, message, sizeof(message))
        if failed:
            raise RuntimeError(message.decode())
        return outputs
