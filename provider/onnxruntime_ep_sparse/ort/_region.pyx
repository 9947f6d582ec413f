"""One compiled region: its program, the C functions by which ONNX Runtime runs it, and its EPContext node in a compiled model.

`compute`, the functions of its state and `release_region` touch plain C memory only; they may run while the interpreter shuts down.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free

from ._abi cimport (
    API_VERSION,
    ATTRIBUTE_INT,
    ATTRIBUTE_STRING,
    CREATE_NODE,
    CREATE_OP_ATTR,
    FAIL,
    GET_MODEL_EDITOR_API,
    NODE_GET_NAME,
    RELEASE_OP_ATTR,
    Api,
    Status,
    create_node_t,
    create_op_attr_t,
    failed,
    get_table_t,
    get_text_t,
    release_t,
)
from ._binding cimport kernel_fill, kernel_release, kernel_run
from ._graph_reader cimport Source, encoded, names, raised, read
from ._profiler cimport Chunk, chunk_begins, chunk_ends
from ._runs cimport Stop, stop_of_run
from ._status cimport c_copy
from ..runtime._program cimport StepTotals
from ..runtime._structs cimport RELAXED, load

from dataclasses import replace

from . import ep_context
from ..graph.ir import CONTEXT_DATA, EP_CONTEXT
from ..options import byte_set_of, isa_of, workers_of
from ..partition.select import is_compiled
from ..pipeline import lower_to_spec, program_of
from ..program import serialize as compiled

cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    static void sparse_return_free_memory(void) { malloc_trim(0); }
    #else
    static void sparse_return_free_memory(void) {}
    #endif
    #if defined(__unix__) || defined(__APPLE__)
    #include <pthread.h>
    static long sparse_forks = 0;
    static void sparse_forked(void) { sparse_forks++; }
    static int sparse_count_forks(void) { return pthread_atfork(0, 0, sparse_forked); }
    #else
    static const long sparse_forks = 0;
    static int sparse_count_forks(void) { return 0; }
    #endif
    """
    long forks "sparse_forks"  # between the process in which this module was imported and this one
    int count_forks "sparse_count_forks"() nogil
    void return_free_memory "sparse_return_free_memory"() nogil


cdef str node_name(const Api* api, const void* node):
    cdef const char* name = NULL
    raised(api, (<get_text_t>api.slots[NODE_GET_NAME])(node, &name))
    return name.decode("utf-8", "replace")


cdef Region* region_of(const Api* api, const void* ort_graph, const void* fused_node, str name, options, request, dict known,
                       dict ranks, dict figures, void** context) except NULL:
    """Compile the program of one graph, and find the program's inputs and outputs among those of the fused node."""
    cdef Source source = read(api, ort_graph, known, ranks)
    cdef Region* region
    inputs, outputs = names(api, fused_node, False), names(api, fused_node, True)
    try:
        path = source.model_path(ort_graph)
        packed = packed_region(source, inputs, outputs, options, request, path)
    finally:
        source.close()
    if request.wanted:
        notes = next((figures[output] for output in outputs if output in figures), "")
        attributes = ep_context.node_attributes(name, packed.isa, compiled.encode(replace(packed, key="")), request, path, notes)
        context[0] = context_node(api, name, inputs, outputs, attributes)
    program = program_of(compiled.for_isa(packed, isa_of(options)), options)
    region = <Region*>calloc(1, sizeof(Region))
    if region == NULL:
        raise MemoryError
    try:
        fill_labels(region, program.labels)
        region.isa = c_copy(isa_of(options).name)
        region.byte_set = c_copy(byte_set_of(options))
        kernel_fill(&region.kernel, program, inputs, outputs, name)
    except BaseException:
        release_region(region)
        raise
    region.base.ort_version_supported = API_VERSION
    region.base.CreateState = create_state
    region.base.Compute = compute
    region.base.ReleaseState = release_state
    region.api = api
    region.forks = forks
    return region


# ONNX Runtime 1.25 writes names to its profile as they are, 1.32 escapes them.
PLAIN = {ord('"'): "'", ord("\\"): "/"} | dict.fromkeys(range(32), " ")


cdef object fill_labels(Region* region, labels):
    """Copy the words for each step. In profiles, steps without a name have their kind in its place."""
    region.labels = <Label*>calloc(len(labels) + 1, sizeof(Label))
    if region.labels == NULL:
        raise MemoryError
    region.n_labels = len(labels)
    for i, (kind, name, description) in enumerate(labels):
        region.labels[<int>i].kind = c_copy(kind)
        region.labels[<int>i].name = c_copy(name)
        region.labels[<int>i].plain_name = c_copy((name or kind).translate(PLAIN))
        region.labels[<int>i].description = c_copy(description)


cdef object packed_region(Source source, list inputs, list outputs, options, request, str path):
    """Pack a region, or read the packed region from the EPContext node of a compiled model, or from the cache of the option `cache_dir`."""
    if is_compiled(source.graph.nodes[0]):
        return ep_context.load_region(source.graph, lambda: source.bytes_attribute(0, CONTEXT_DATA), request, path)
    if options.cache_dir is not None:
        from .region_cache import cached_region  # only here: most sessions have no cache
        return cached_region(options, source.shown, source.graph, tuple(inputs), tuple(outputs))
    isa, workers = isa_of(options), workers_of(options)
    return compiled.Compiled(isa.name, tuple(inputs), tuple(outputs), lower_to_spec(source.graph, isa, workers))


cdef void* context_node(const Api* api, str name, list inputs, list outputs, dict attributes) except NULL:
    """Create an EPContext node with attributes of numbers and bytes. ONNX Runtime takes ownership of it."""
    cdef const Api* editor = (<get_table_t>api.slots[GET_MODEL_EDITOR_API])()
    cdef void* attribute[16]
    cdef const char** texts = <const char**>calloc(len(inputs) + len(outputs) + 1, sizeof(char*))
    cdef void* node = NULL
    cdef size_t i, count = 0
    cdef int64_t number
    if texts == NULL:
        raise MemoryError
    domain, op_type = (text.encode() for text in EP_CONTEXT)
    operands = [encoded(text) for text in (*inputs, *outputs)]
    try:
        for i in range(len(operands)):
            texts[i] = operands[i]
        for key, value in attributes.items():
            if isinstance(value, int):
                number = value
                create_attribute(api, key.encode(), <const char*>&number, 1, ATTRIBUTE_INT, &attribute[count])
            else:
                create_attribute(api, key.encode(), value, len(value), ATTRIBUTE_STRING, &attribute[count])
            count += 1
        raised(api, (<create_node_t>editor.slots[CREATE_NODE])(
            op_type, domain, name.encode(), texts, len(inputs), texts + len(inputs), len(outputs), attribute, count, &node))
    finally:
        for i in range(count):
            (<release_t>api.slots[RELEASE_OP_ATTR])(attribute[i])
        free(texts)
    return node


cdef object create_attribute(const Api* api, bytes name, const char* data, int size, int type, void** out):
    raised(api, (<create_op_attr_t>api.slots[CREATE_OP_ATTR])(name, data, size, type, out))


cdef void keep(Region** regions, Region* region, const int64_t* cancels, const int64_t* profilers) noexcept nogil:
    """Append a region, so that the list stays in the order in which the regions were compiled."""
    region.cancels = cancels
    region.profilers = profilers
    while regions[0] != NULL:
        regions = &regions[0].next
    regions[0] = region


cdef void forget(Region** regions, Region* region) noexcept nogil:
    """Remove a region from the list, if it is there."""
    while regions[0] != NULL:
        if regions[0] == region:
            regions[0] = region.next
            return
        regions = &regions[0].next


cdef void release_region(Region* region) noexcept nogil:
    cdef int i
    if region != NULL:
        kernel_release(&region.kernel)
        for i in range(region.n_labels):
            free(region.labels[i].kind)
            free(region.labels[i].name)
            free(region.labels[i].plain_name)
            free(region.labels[i].description)
        free(region.labels)
        free(region.isa)
        free(region.byte_set)
        free(region)


# Functions that ONNX Runtime calls


cdef Status create_state(void* this, void* context, void** state) noexcept nogil:
    """ONNX Runtime has dropped the dense weights by now; glibc would keep that memory (BERT-base: 330 MB) for the process."""
    if (<Region*>this).last:
        return_free_memory()
    state[0] = this
    return NULL


cdef void release_state(void* this, void* state) noexcept nogil:
    pass


cdef Status compute(void* this, void* state, void* context) noexcept nogil:
    cdef const Region* region = <const Region*>this
    cdef Stop stop
    if region.forks != forks and region.has_pool:
        return lost_threads(region)
    stop = stop_of_run(region.cancels)
    if load(region.profilers, RELAXED):
        return recorded_run(region, context, &stop)
    return kernel_run(region.api, &region.kernel, context, &stop, NULL)


cdef Status recorded_run(const Region* region, void* context, const Stop* stop) noexcept nogil:
    """Run, and leave what the steps have cost to the profiler that listens in this thread."""
    cdef Chunk* chunk = chunk_begins(region)
    cdef Status status = kernel_run(region.api, &region.kernel, context, stop, &chunk.recording if chunk != NULL else NULL)
    chunk_ends(chunk)
    return status


cdef Status lost_threads(const Region* region) noexcept nogil:
    """Fail: a forked process has none of the pool's threads. ONNX Runtime hangs or crashes when it ends such a session."""
    cdef char[768] message
    snprintf(message, sizeof(message), "SparseExecutionProvider: %.200s: this session was created before a fork, and its threads exist in "
             "the parent process only; create the session after the fork, or with intra_op_num_threads=1", region.kernel.name)
    return failed(region.api, FAIL, message)


if count_forks() != 0:
    raise MemoryError("no memory to watch for forks")


# Profiling


cdef list step_totals(const Region* regions):
    """Return what every step has cost so far, region by region. Runs may go on meanwhile."""
    cdef const StepTotals* totals
    cdef int i
    steps = []
    while regions != NULL:
        for i in range(regions.n_labels):
            totals = &regions.kernel.program.totals[i]
            steps.append({
                "region": regions.kernel.name.decode("utf-8"), "index": i, "kind": regions.labels[i].kind.decode(),
                "name": regions.labels[i].name.decode(), "description": regions.labels[i].description.decode(),
                "threads": regions.kernel.program.workers,
                "runs": load(&regions.kernel.program.runs, RELAXED), "within_next": load(&totals.within_next, RELAXED),
                "ns": load(&totals.ns, RELAXED), "macs": load(&totals.work.macs, RELAXED),
                "dense_macs": load(&totals.work.dense_macs, RELAXED),
                "moved_bytes": load(&totals.work.moved, RELAXED) * <int64_t>sizeof(float),
            })
        regions = regions.next
    return steps
