"""Our steps in ONNX Runtime's own profiles (ONNX Runtime 1.25 and later): `OrtEpProfilerImpl`.

ONNX Runtime makes a profiler for each session, and one more for each run with a profile of its own. Around every node it calls StartEvent
and StopEvent in the thread that computes it. So a region leaves its steps, between these two, in a place of its thread. StopEvent puts them
in the profiler's list, with times that lie within ONNX Runtime's event of the node. EndProfiling makes events of all.

Everything here is C without the GIL, and a released profiler touches nothing of the session, which may be gone by then. A session has its
regions until its profile has ended.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free

from ._abi cimport (
    API_VERSION,
    CREATE_PROFILING_EVENT,
    PROFILING_EVENT_GET_DURATION_US,
    PROFILING_EVENT_GET_TIMESTAMP_US,
    PROFILING_EVENTS_CONTAINER_ADD_EVENTS,
    PROFILING_KERNEL,
    RELEASE_PROFILING_EVENT,
    Api,
    OrtEpProfilerImpl,
    Status,
    add_events_t,
    create_profiling_event_t,
    get_int64_t,
    release_t,
)
from ._region cimport Label, Region
from ..runtime._clock cimport monotonic_ns
from ..runtime._structs cimport RELAXED, StepRun, Variant, fetch_add

cdef extern from *:
    """
    #if defined(_WIN32)
    #include <process.h>
    #define sparse_process_id _getpid
    #else
    #include <unistd.h>
    #define sparse_process_id getpid
    #endif
    #if defined(PY_HAVE_THREAD_NATIVE_ID)
    #define sparse_thread_id PyThread_get_thread_native_id
    #else
    #define sparse_thread_id PyThread_get_thread_ident
    #endif
    /* Whether the last event of ONNX Runtime in this thread has begun and not ended, and the steps that were computed since then. */
    static _Thread_local int sparse_listens;
    static _Thread_local void* sparse_steps;
    """
    int process_id "sparse_process_id"() nogil
    unsigned long thread_id "sparse_thread_id"() nogil
    bint listens "sparse_listens"
    void* steps "sparse_steps"
    bint replace_if "__sync_bool_compare_and_swap"(Chunk** p, Chunk* old, Chunk* new) nogil
    Chunk* exchange "__atomic_exchange_n"(Chunk** p, Chunk* new, int order) nogil
    Chunk* load_chunk "__atomic_load_n"(Chunk** p, int order) nogil
    int ACQ_REL "__ATOMIC_ACQ_REL"

cdef enum:
    # Steps of a profile, as many as ONNX Runtime's own events: 130 MB.
    MOST_STEPS = 1000000
    ARGUMENTS = 8


cdef struct Profiler:
    OrtEpProfilerImpl base  # first: ONNX Runtime holds a pointer to it
    const Api* api
    const Api* ep_api
    int64_t* profilers  # of the session
    int64_t offset  # from our clock to that of the profile, in ns
    Chunk* chunks  # the last one first
    int64_t count  # of steps
    int64_t left_out


cdef void* new_profiler(const Api* api, const Api* ep_api, int64_t* profilers) noexcept nogil:
    cdef Profiler* profiler = <Profiler*>calloc(1, sizeof(Profiler))
    if profiler == NULL:
        return NULL
    profiler.base.ort_version_supported = API_VERSION
    profiler.base.Release = release
    profiler.base.StartProfiling = start_profiling
    profiler.base.StartEvent = start_event
    profiler.base.StopEvent = stop_event
    profiler.base.EndProfiling = end_profiling
    profiler.api = api
    profiler.ep_api = ep_api
    profiler.profilers = profilers
    return profiler


cdef void release(void* this) noexcept nogil:
    free_chunks((<Profiler*>this).chunks)
    free(this)


cdef void free_chunks(Chunk* chunk) noexcept nogil:
    cdef Chunk* next_
    while chunk != NULL:
        next_ = chunk.next
        free(chunk.recording.runs)
        free(chunk)
        chunk = next_


cdef Status start_profiling(void* this, int64_t offset_ns) noexcept nogil:
    """Begin to listen. `offset_ns` is the time of the profile's clock."""
    (<Profiler*>this).offset = offset_ns - monotonic_ns()
    fetch_add((<Profiler*>this).profilers, 1, RELAXED)
    return NULL


# A region, between two events


cdef Status start_event(void* this, uint64_t correlation) noexcept nogil:
    global listens, steps
    free_chunks(<Chunk*>steps)  # of a run whose event has not ended
    steps = NULL
    listens = True
    return NULL


cdef Chunk* chunk_begins(const Region* region) noexcept nogil:
    cdef Chunk* chunk = <Chunk*>calloc(1, sizeof(Chunk)) if listens else NULL
    if chunk != NULL:
        chunk.region = region
        chunk.began = monotonic_ns()
    return chunk


cdef void chunk_ends(Chunk* chunk) noexcept nogil:
    global steps
    if chunk != NULL:
        free_chunks(<Chunk*>steps)
        steps = chunk


cdef Status stop_event(void* this, uint64_t correlation, const void* event) noexcept nogil:
    """Keep the steps of the region that was computed since the last event began, if one was."""
    global listens, steps
    cdef Profiler* profiler = <Profiler*>this
    cdef Chunk* chunk = <Chunk*>steps
    cdef Status status
    listens = False
    steps = NULL
    if chunk == NULL:
        return NULL
    status = (<get_int64_t>profiler.ep_api.slots[PROFILING_EVENT_GET_TIMESTAMP_US])(event, &chunk.begin)
    if status == NULL:
        status = (<get_int64_t>profiler.ep_api.slots[PROFILING_EVENT_GET_DURATION_US])(event, &chunk.end)
    if status != NULL or fetch_add(&profiler.count, chunk.recording.count, RELAXED) + chunk.recording.count > MOST_STEPS:
        fetch_add(&profiler.left_out, chunk.recording.count + chunk.recording.lost, RELAXED)
        free_chunks(chunk)
        return status
    fetch_add(&profiler.left_out, chunk.recording.lost, RELAXED)
    chunk.thread = <long>thread_id()
    chunk.end += chunk.begin
    while True:
        chunk.next = load_chunk(&profiler.chunks, RELAXED)
        if replace_if(&profiler.chunks, chunk.next, chunk):
            return NULL


# The end of a profile


cdef Status end_profiling(void* this, void* container) noexcept nogil:
    cdef Profiler* profiler = <Profiler*>this
    cdef Chunk* first = reversed_list(exchange(&profiler.chunks, NULL, ACQ_REL))
    cdef Chunk* chunk = first
    cdef Status status = NULL
    cdef int64_t i
    fetch_add(profiler.profilers, -1, RELAXED)
    while chunk != NULL and status == NULL:
        i = 0
        if chunk.recording.count:
            status = add_preparation(profiler, container, chunk)
        while i < chunk.recording.count and status == NULL:
            status = add_step(profiler, container, chunk, &chunk.recording.runs[i])
            i += 1
        chunk = chunk.next
    free_chunks(first)
    if status == NULL and profiler.left_out:
        status = add_note(profiler, container)
    return status


cdef Chunk* reversed_list(Chunk* chunk) noexcept nogil:
    cdef Chunk* before = NULL
    cdef Chunk* next_
    while chunk != NULL:
        next_ = chunk.next
        chunk.next = before
        before = chunk
        chunk = next_
    return before


cdef inline int64_t place(const Profiler* profiler, const Chunk* chunk, int64_t ns) noexcept nogil:
    """Return a time of our clock in us of the profile, within the event of the node: viewers need slices that lie within each other."""
    return min(max((ns + profiler.offset) // 1000, chunk.begin), chunk.end)


cdef Status add_preparation(const Profiler* profiler, void* container, const Chunk* chunk) noexcept nogil:
    """Add the time between the call of the region and its first step, where it is not too short to be seen."""
    cdef const char* keys[2]
    cdef const char* values[2]
    cdef int64_t begin = place(profiler, chunk, chunk.began), end = place(profiler, chunk, chunk.recording.runs[0].begin)
    if end == begin:
        return NULL
    keys[0], values[0] = b"provider", b"SparseExecutionProvider"
    keys[1], values[1] = b"computes", b"finds or makes the plan for these shapes, takes memory, allocates outputs"
    return add(profiler, container, chunk.thread, b"plan and memory", begin, end - begin, keys, values, 2)


cdef Status add_step(const Profiler* profiler, void* container, const Chunk* chunk, const StepRun* run) noexcept nogil:
    """Add the event of a step. ONNX Runtime writes texts as they are, those that begin with a brace without quotes."""
    cdef const Region* region = chunk.region
    cdef const Label* label = &region.labels[run.step]
    cdef const char* keys[ARGUMENTS]
    cdef const char* values[ARGUMENTS]
    cdef char[96] kernel
    cdef char[16] threads
    cdef char[256] work
    cdef double seconds = max(run.end - run.begin, 1) / 1e9
    cdef int64_t begin = place(profiler, chunk, run.begin), end = place(profiler, chunk, run.end)
    cdef bint on_bytes = region.kernel.program.bytes[region.kernel.program.steps[run.step].x] == 1
    cdef int64_t moved = run.work.moved * <int64_t>sizeof(float)
    cdef int n = 5
    snprintf(threads, sizeof(threads), "%d", run.workers)
    snprintf(work, sizeof(work), "{\"macs\": %lld, \"dense_macs\": %lld, \"macs_per_s\": %.6g, \"nnz\": %lld, \"moved_bytes\": %lld, "
             "\"gb_per_s\": %.6g}", <long long>run.work.macs, <long long>run.work.dense_macs, run.work.macs / seconds,
             <long long>run.variant.nonzeros, <long long>moved, moved / seconds / 1e9)
    keys[0], values[0] = b"provider", b"SparseExecutionProvider"
    keys[1], values[1] = b"kind", label.kind
    keys[2], values[2] = b"computes", label.description
    keys[3], values[3] = b"threads", threads
    keys[4], values[4] = b"work", work
    if run.variant.kernel != NULL:
        name_kernel(kernel, sizeof(kernel), &run.variant, region.byte_set if on_bytes else region.isa)
        keys[n], values[n] = b"kernel", kernel
        n += 1
    if run.variant.layout != NULL:
        keys[n], values[n] = b"layout", run.variant.layout
        n += 1
    return add(profiler, container, chunk.thread, label.plain_name, begin, end - begin, keys, values, n)


cdef void name_kernel(char* text, size_t size, const Variant* variant, const char* isa) noexcept nogil:
    if variant.rows:
        snprintf(text, size, "%s_%dx%d_%s", variant.kernel, variant.rows, <int>variant.width, isa)
    elif variant.width:
        snprintf(text, size, "%s_%d_%s", variant.kernel, <int>variant.width, isa)
    else:
        snprintf(text, size, "%s_%s", variant.kernel, isa)


cdef Status add_note(const Profiler* profiler, void* container) noexcept nogil:
    """Add an event that says how many steps are missing."""
    cdef char[128] text
    snprintf(text, sizeof(text), "%lld steps are missing: a profile has at most %d", <long long>profiler.left_out, <int>MOST_STEPS)
    return add(profiler, container, 0, text, 0, 0, NULL, NULL, 0)


cdef Status add(const Profiler* profiler, void* container, long thread, const char* name, int64_t begin, int64_t duration,
                const char** keys, const char** values, size_t count) noexcept nogil:
    cdef const Api* api = profiler.ep_api
    cdef void* event = NULL
    cdef Status status = (<create_profiling_event_t>api.slots[CREATE_PROFILING_EVENT])(
        PROFILING_KERNEL, process_id(), <int>thread, name, begin, duration, keys, values, count, &event)
    if status == NULL:
        status = (<add_events_t>api.slots[PROFILING_EVENTS_CONTAINER_ADD_EVENTS])(container, &event, 1)
        (<release_t>api.slots[RELEASE_PROFILING_EVENT])(event)
    return status
