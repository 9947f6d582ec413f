"""The plugin library: ONNX Runtime loads this extension module as `SparseExecutionProvider`.

ONNX Runtime calls all functions here from plain C, with or without the GIL. Those that run Python take the GIL and turn every exception
into a status. `compute` (`ort/_region.pyx`) and the Release functions touch plain C memory only, because they also run while the
interpreter shuts down. The order of calls is: CreateEpFactories, create_ep, get_capability once or more for every graph, compile_regions,
compute ..., release.
"""

from cpython.ref cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc

from ._abi cimport (
    API_VERSION,
    API_VERSION_PLUGIN,
    CREATE_EP_DEVICE,
    DEVICE_CPU,
    EP_GRAPH_SUPPORT_INFO_ADD_NODES_TO_FUSE,
    FAIL,
    GET_EP_API,
    GET_SESSION_OPTIONS_CONFIG_ENTRIES,
    HARDWARE_DEVICE_TYPE,
    INVALID_ARGUMENT,
    RELEASE_NODE,
    Api,
    ApiBase,
    OrtEp,
    OrtEpFactory,
    OrtNodeFusionOptions,
    Status,
    add_nodes_to_fuse_t,
    create_ep_device_t,
    device_type_t,
    failed,
    flag,
    get_table_t,
    release_t,
)
from ._custom_ops cimport add_custom_ops
from ._graph_reader cimport Source, raised, read, session_entries
from ._log cimport INFO, VERBOSE, WARNING, is_shown, say
from ._opaque cimport UNKNOWN
from ._pool cimport pool_size
from ._profiler cimport new_profiler
from ._region cimport Region, forget, keep, node_name, region_of, release_region, step_totals
from ._runs cimport place_of_terminate, run_begins, run_ends
from ._status cimport c_copy, reason_of, remember_modules, status_of
from ..runtime._structs cimport RELAXED, fetch_add

import json
import threading
from dataclasses import asdict
from time import perf_counter

from . import ep_context
from .. import options as option_table, reasons
from .._version import __version__
from ..options import isa_of
from ..partition.decision import NodeDecision, merged
from ..partition.select import select
from ..runtime._weight_store import held

cdef extern from *:
    """
    /* Declared before Cython does, so that -fvisibility=hidden leaves these to the linker's version script. */
    #if defined(__GNUC__)
    __attribute__((visibility("default"))) void* CreateEpFactories(const char*, const void*, const void*, void**, size_t, size_t*);
    __attribute__((visibility("default"))) void* ReleaseEpFactory(void*);
    __attribute__((visibility("default"))) void* RegisterCustomOps(void*, const void*);
    #endif
    """
    long count_add "__sync_add_and_fetch"(long* counter, long change) nogil
    bint replace_if "__sync_bool_compare_and_swap"(long* p, long old, long new) nogil
    long load "__atomic_load_n"(long* p, int order) nogil
    void store "__atomic_store_n"(long* p, long value, int order) nogil
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"

cdef extern from "Python.h":
    ctypedef int PyGILState_STATE
    PyGILState_STATE PyGILState_Ensure() nogil
    void PyGILState_Release(PyGILState_STATE) nogil
    PyObject* PyImport_ImportModule(const char*) nogil
    void PyErr_Fetch(PyObject**, PyObject**, PyObject**) nogil
    PyObject* PyObject_Str(PyObject*) nogil
    const char* PyUnicode_AsUTF8(PyObject*) nogil
    void PyErr_Clear() nogil
    void Py_XDECREF(PyObject*) nogil


cdef struct SparseEp:
    OrtEp base  # first: ONNX Runtime holds a pointer to it
    const void* logger  # of the session; not to be used while it ends
    char* options  # JSON of the session's Options
    char* decisions  # JSON: key of a graph -> partition.decision.Decided
    Region* regions  # all that are not released
    char* request  # JSON of the session's ep_context.Request
    char* compatibility  # compatibility info for compiled models
    int64_t cancels  # how often the session's runs were cancelled
    int64_t profilers  # that are at work
    int terminate  # where RunOptions have this flag, or UNKNOWN
    int pool  # threads of the session's pool, with the caller; 0 if not known


cdef enum:
    UNSET
    BEING_SET
    SET

# Without initialisers: those would run at import, which may come after CreateEpFactories has set the tables.
# The first exported function that is called sets the first three; nothing writes them afterwards, because sessions read them at any time.
cdef const Api* api
cdef const Api* ep_api
cdef OrtEpFactory factory
cdef long tables
cdef long live
cdef long imported
cdef char[32] version

# Answers of set_dynamic_options() to explain() and step_times(): token -> JSON.
_answers = {}

# Compressed weights that get_capability has decoded, and ranks that the graph implies; compile_regions follows in the same thread and
# uses them again.
_decoded = threading.local()


# The provider of one session


cdef const char* get_name(const void* this) noexcept nogil:
    return "SparseExecutionProvider"


cdef Status create_ep(void* this, const void** devices, const void** metadata, size_t device_count, const void* session_options,
                      const void* logger, void** out) noexcept nogil:
    cdef SparseEp* ep = NULL
    out[0] = NULL
    with gil:
        try:
            entries = session_entries(api, session_options, GET_SESSION_OPTIONS_CONFIG_ENTRIES)
            pool = option_table.pool_threads(entries, pool_size(api, session_options))
            chosen = option_table.from_session(entries, pool=pool)
            ep = <SparseEp*>calloc(1, sizeof(SparseEp))
            if ep == NULL:
                raise MemoryError
            ep.pool = pool
            ep.logger = logger
            ep.options = c_copy(json.dumps(asdict(chosen)))
            ep.decisions = c_copy("{}")
            ep.request = c_copy(json.dumps(asdict(ep_context.Request.of(entries))))
            ep.compatibility = c_copy(ep_context.compatibility_info(isa_of(chosen).name))
            if is_shown(api, logger, INFO):
                say(api, logger, INFO, option_table.words(chosen))
        except BaseException as error:
            release(ep)
            return status_of(api, error, "")
    ep.base.ort_version_supported = API_VERSION
    ep.base.GetName = get_name
    ep.base.GetCapability = get_capability
    ep.base.Compile = compile_regions
    ep.base.ReleaseNodeComputeInfos = release_regions
    ep.base.SetDynamicOptions = set_dynamic_options
    ep.base.OnRunStart = on_run_start
    ep.base.OnRunEnd = on_run_end
    ep.base.GetCompiledModelCompatibilityInfo = compatibility_of
    ep.base.CreateProfiler = create_profiler
    ep.terminate = place_of_terminate(api)
    count_add(&live, 1)
    out[0] = ep
    return NULL


cdef void release(SparseEp* ep) noexcept nogil:
    if ep != NULL:
        free(ep.options)
        free(ep.decisions)
        free(ep.request)
        free(ep.compatibility)
        free(ep)


cdef void release_ep(void* this, void* ep) noexcept nogil:
    if ep != NULL:
        release(<SparseEp*>ep)
        count_add(&live, -1)


cdef object options_of(SparseEp* ep):
    return option_table.Options(**json.loads(ep.options))


cdef Status get_capability(void* this, const void* graph, void* support) noexcept nogil:
    with gil:
        try:
            offer(<SparseEp*>this, graph, support)
            return NULL
        except BaseException as error:
            return status_of(api, error, "")


cdef object offer(SparseEp* ep, const void* ort_graph, void* support):
    """Offer ONNX Runtime the regions worth taking, and remember the decision about each node.

    ONNX Runtime only logs a failure here and continues without the provider, so the reason is remembered as well.
    """
    cdef Source source
    cdef OrtNodeFusionOptions fusion
    cdef const void** nodes
    cdef size_t i, count
    # The dense weights are packed in compile_regions; ONNX Runtime may free its own.
    fusion.ort_version_supported = API_VERSION
    fusion.drop_constant_initializers = 1
    try:
        _decoded.weights, _decoded.ranks = {}, {}
        source = read(api, ort_graph, _decoded.weights, _decoded.ranks)
    except Exception as error:
        remember(ep, "", [([], undecided("", "", "", error).to_dict())])
        raise
    try:
        try:
            selection = chosen_of(source.graph, options_of(ep))
        except Exception as error:
            decided(ep, source, [undecided(node.name, node.op_type, node.domain, error) for node in source.graph.nodes])
            raise
        decided(ep, source, selection.decisions)
        tell(ep, selection)
        if not selection.regions:
            _decoded.weights = {}
        for region in selection.regions:
            count = len(region)
            nodes = <const void**>malloc(count * sizeof(void*))
            if nodes == NULL:
                raise MemoryError
            try:
                for i in range(count):
                    nodes[i] = source.node(region[i])
                raised(api, (<add_nodes_to_fuse_t>ep_api.slots[EP_GRAPH_SUPPORT_INFO_ADD_NODES_TO_FUSE])(support, nodes, count, &fusion))
            finally:
                free(nodes)
    finally:
        source.close()


cdef object tell(SparseEp* ep, selection):
    """Log which nodes are taken, the decision about each, and what may be wrong with the file."""
    if selection.warning:
        say(api, ep.logger, WARNING, selection.warning)
    if is_shown(api, ep.logger, VERBOSE):
        for d in selection.decisions:
            say(api, ep.logger, VERBOSE, f"{d.name or '(unnamed)'} ({d.op_type}): {'taken' if d.taken else 'left'}: {d.reason}")
    if is_shown(api, ep.logger, INFO):
        taken = sum(d.taken for d in selection.decisions)
        count = len(selection.regions)
        say(api, ep.logger, INFO, f"takes {taken} of {len(selection.decisions)} nodes in {count} region{'' if count == 1 else 's'}")


def chosen_of(graph, options):
    """Return the regions of a graph, and the decisions about its nodes."""
    if options.policy != "measure":
        return select(graph, options)
    from ..partition.measured import choose  # only here: these take 20 ms of a process's first session
    from .region_timer import MEASURING, RegionTimer
    with MEASURING:
        return choose(graph, options, RegionTimer(options))


def undecided(name, op_type, domain, error):
    """Return the decision that a node could not be examined because of `error`."""
    finding = reasons.NOT_EXAMINED(error=reason_of(error))
    return NodeDecision(
        name=name, op_type=op_type, domain=domain, shape=None, sparsity=None, pattern="", region=None, taken=False,
        code=finding.code, reason=finding.text, option=finding.option,
    )


cdef object decided(SparseEp* ep, Source source, decisions):
    """Keep the decisions about the nodes of a graph, which ONNX Runtime may have shown before."""
    remember(ep, source.key, merged(json.loads(ep.decisions).get(source.key, []), source.graph, decisions))


cdef object remember(SparseEp* ep, str key, decisions):
    """Keep the decisions about a graph in place of the earlier ones."""
    cdef char* text
    known = json.loads(ep.decisions)
    known[key] = decisions
    text = c_copy(json.dumps(known))
    free(ep.decisions)
    ep.decisions = text


cdef dict figures_of(SparseEp* ep):
    """Return what was measured of the regions that are taken: outputs of their nodes -> the reason."""
    decisions = [entry for entries in json.loads(ep.decisions).values() for entry in entries]
    return {name: fields["reason"] for outputs, fields in decisions if fields["code"] == reasons.MEASURED_FASTER.code for name in outputs}


cdef str explanation(SparseEp* ep):
    """Return JSON: key of a graph -> the decisions about its nodes."""
    known = json.loads(ep.decisions)
    return json.dumps({key: [decision for _, decision in entries] for key, entries in known.items()})


cdef Status set_dynamic_options(void* this, const char* const* keys, const char* const* values, size_t count) noexcept nogil:
    cdef size_t i
    with gil:
        try:
            given = [(keys[i].decode("utf-8", "replace"), values[i].decode("utf-8", "replace")) for i in range(count)]
            for key, value in given:
                option_table.check_dynamic(key, value)
            for key, value in given:
                if key == "cancel":
                    fetch_add(&(<SparseEp*>this).cancels, 1, RELAXED)
                elif key == "explain":
                    _answers[value] = explanation(<SparseEp*>this)
                elif key == "profile":
                    profiled = options_of(<SparseEp*>this).profile
                    _answers[value] = json.dumps(step_totals((<SparseEp*>this).regions) if profiled else None)
            return NULL
        except BaseException as error:
            return status_of(api, error, "")


cdef Status on_run_start(void* this, const void* run_options) noexcept nogil:
    cdef SparseEp* ep = <SparseEp*>this
    run_begins(&ep.cancels, <const char*>run_options + ep.terminate if ep.terminate != UNKNOWN else NULL)
    return NULL


cdef Status on_run_end(void* this, const void* run_options, flag sync_stream) noexcept nogil:
    run_ends(&(<SparseEp*>this).cancels)
    return NULL


cdef Status create_profiler(void* this, void** profiler) noexcept nogil:
    profiler[0] = new_profiler(api, ep_api, &(<SparseEp*>this).profilers)
    return NULL


# Compiled regions


cdef Status compile_regions(void* this, const void** graphs, const void** fused_nodes, size_t count, void** infos,
                            void** contexts) noexcept nogil:
    cdef size_t i
    for i in range(count):
        infos[i] = NULL
        if contexts != NULL:
            contexts[i] = NULL
    with gil:
        where = ""
        try:
            options = options_of(<SparseEp*>this)
            request = ep_context.Request(**json.loads((<SparseEp*>this).request))
            known, ranks = getattr(_decoded, "weights", {}), getattr(_decoded, "ranks", {})
            figures = figures_of(<SparseEp*>this) if request.wanted and options.policy == "measure" else {}
            for i in range(count):
                name = node_name(api, fused_nodes[i])
                where = f"{name}: "
                began, before = perf_counter(), held()[1]
                infos[i] = region_of(api, graphs[i], fused_nodes[i], name, options, request, known, ranks, figures, &contexts[i])
                (<Region*>infos[i]).has_pool = (<SparseEp*>this).pool != 1
                if is_shown(api, (<SparseEp*>this).logger, INFO):
                    text = made(<Region*>infos[i], i, perf_counter() - began, held()[1] - before, held()[1])
                    say(api, (<SparseEp*>this).logger, INFO, text)
            for i in range(count):
                keep(&(<SparseEp*>this).regions, <Region*>infos[i], &(<SparseEp*>this).cancels, &(<SparseEp*>this).profilers)
                (<Region*>infos[i]).last = i == count - 1
            return NULL
        except BaseException as error:
            release_regions(this, infos, count)
            for i in range(count if contexts != NULL else 0):
                (<release_t>api.slots[RELEASE_NODE])(contexts[i])
                contexts[i] = NULL
            return status_of(api, error, where)
        finally:
            _decoded.weights = {}


cdef str made(const Region* region, size_t number, double seconds, int64_t own_bytes, int64_t all_bytes):
    """Return what a region needs, for the log. Weights that other regions of the process have as well count for the first one alone."""
    steps = f"{region.n_labels} step{'' if region.n_labels == 1 else 's'}"
    first = region.labels[0].name.decode("utf-8", "replace") if region.n_labels else ""
    return (f"region {number}, from node {first or '(unnamed)'}: {steps}, ready in {seconds * 1e3:.1f} ms; "
            f"{own_bytes / 1e6:.2f} MB of packed weights, {all_bytes / 1e6:.2f} MB in this process")


cdef const char* compatibility_of(void* this, const void* graph) noexcept nogil:
    return (<SparseEp*>this).compatibility


cdef void release_regions(void* this, void** infos, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        forget(&(<SparseEp*>this).regions, <Region*>infos[i])
        release_region(<Region*>infos[i])
        infos[i] = NULL


# The factory: one static object that outlives every registration, because sessions go on calling it after the library is unregistered.


cdef const char* get_vendor(const void* this) noexcept nogil:
    return "onnxruntime-ep-sparse"


cdef uint32_t get_vendor_id(const void* this) noexcept nogil:
    return 0


cdef const char* get_version(const void* this) noexcept nogil:
    return version


cdef Status get_supported_devices(void* this, const void** devices, size_t device_count, void** ep_devices, size_t max_ep_devices,
                                  size_t* ep_device_count) noexcept nogil:
    cdef size_t i
    cdef Status status
    ep_device_count[0] = 0
    for i in range(device_count):
        if ep_device_count[0] < max_ep_devices and (<device_type_t>api.slots[HARDWARE_DEVICE_TYPE])(devices[i]) == DEVICE_CPU:
            status = (<create_ep_device_t>ep_api.slots[CREATE_EP_DEVICE])(this, devices[i], NULL, NULL, &ep_devices[ep_device_count[0]])
            if status != NULL:
                return status
            ep_device_count[0] += 1
    return NULL


cdef Status validate_compatibility(void* this, const void** devices, size_t device_count, const char* info, int* out) noexcept nogil:
    with gil:
        try:
            out[0] = ep_context.compatibility_level(info.decode("utf-8", "replace"))
            return NULL
        except BaseException as error:
            return status_of(api, error, "")


cdef Status create_data_transfer(void* this, void** transfer) noexcept nogil:
    # ONNX Runtime calls this member without checking for NULL. Without a data transfer, it uses the CPU's memory.
    transfer[0] = NULL
    return NULL


cdef Status ensure_imported(char* message, size_t size) noexcept nogil:
    """Import this module if ONNX Runtime has loaded the library by its path alone. Nothing but this function works before that."""
    cdef PyGILState_STATE state
    cdef PyObject* module
    cdef PyObject* kind = NULL
    cdef PyObject* error = NULL
    cdef PyObject* trace = NULL
    cdef PyObject* text = NULL
    cdef const char* reason = NULL
    cdef Status status = NULL
    if load(&imported, ACQUIRE):
        return NULL
    state = PyGILState_Ensure()
    module = PyImport_ImportModule("onnxruntime_ep_sparse.ort._plugin")
    if module == NULL:
        PyErr_Fetch(&kind, &error, &trace)
        if error != NULL:
            text = PyObject_Str(error)
        if text != NULL:
            reason = PyUnicode_AsUTF8(text)
        if reason == NULL:
            reason = "no reason given"
        snprintf(message, size, "SparseExecutionProvider: onnxruntime_ep_sparse cannot be imported: %s", reason)
        status = failed(api, FAIL, message)
        Py_XDECREF(text)
        Py_XDECREF(kind)
        Py_XDECREF(error)
        Py_XDECREF(trace)
        PyErr_Clear()
    elif not load(&imported, ACQUIRE):
        status = failed(api, FAIL, "SparseExecutionProvider: this file is not the one that Python imports; register get_library_path()")
    Py_XDECREF(module)
    PyGILState_Release(state)
    return status


cdef Status start(const void* api_base) noexcept nogil:
    """Set ONNX Runtime's function tables and import this module. Every exported function calls this first."""
    cdef const ApiBase* base = <const ApiBase*>api_base
    cdef const Api* table = base.GetApi(API_VERSION)
    cdef char[512] message
    if table == NULL:
        table = base.GetApi(API_VERSION_PLUGIN)
        snprintf(message, sizeof(message), "onnxruntime-ep-sparse needs onnxruntime >= 1.%d, this is %s", <int>API_VERSION,
                 base.GetVersionString())
        return failed(table, FAIL, message)
    set_tables(table)
    return ensure_imported(message, sizeof(message))


cdef void set_tables(const Api* table) noexcept nogil:
    """Set ONNX Runtime's function tables and the factory in the first call. Another thread that comes meanwhile waits."""
    global api, ep_api
    while load(&tables, ACQUIRE) != SET:
        if not replace_if(&tables, UNSET, BEING_SET):
            continue
        api = table
        ep_api = (<get_table_t>table.slots[GET_EP_API])()
        factory.ort_version_supported = API_VERSION
        factory.GetName = get_name
        factory.GetVendor = get_vendor
        factory.GetSupportedDevices = get_supported_devices
        factory.CreateEp = create_ep
        factory.ReleaseEp = release_ep
        factory.GetVendorId = get_vendor_id
        factory.GetVersion = get_version
        factory.ValidateCompiledModelCompatibilityInfo = validate_compatibility
        factory.CreateDataTransfer = create_data_transfer
        store(&tables, SET, RELEASE)


cdef public void* CreateEpFactories(const char* registered_name, const void* api_base, const void* logger, void** factories,
                                    size_t max_factories, size_t* factory_count) noexcept nogil:
    cdef Status status = start(api_base)
    factory_count[0] = 0
    if status != NULL:
        return status
    if max_factories < 1:
        return failed(api, INVALID_ARGUMENT, "SparseExecutionProvider: no room for a factory")
    factories[0] = &factory
    factory_count[0] = 1
    return NULL


cdef public void* ReleaseEpFactory(void* released) noexcept nogil:
    return NULL


cdef public void* RegisterCustomOps(void* session_options, const void* api_base) noexcept nogil:
    cdef Status status = start(api_base)
    return add_custom_ops(api, session_options) if status == NULL else status


# The Python side


def live_sessions() -> int:
    """Return the number of sessions that have this provider."""
    return load(&live, ACQUIRE)


def take_answer(token: str) -> str:
    """Return the JSON that a session has left under this token, and forget it.

    It holds decisions (dynamic option `explain`) or the totals of the session's steps (`profile`).
    """
    return _answers.pop(token)


cdef bytes version_text = __version__.encode()
snprintf(version, sizeof(version), "%s", <const char*>version_text)
remember_modules()
store(&imported, 1, RELEASE)
