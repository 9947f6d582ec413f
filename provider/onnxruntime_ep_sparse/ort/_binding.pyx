"""Runs a compiled program with ONNX Runtime's inputs, outputs and threads, for regions of the provider and for custom operators.

`kernel_run` and `kernel_release` touch plain C memory only. `kernel_fill` runs once, at session creation.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc

from ._abi cimport (
    FAIL,
    GET_TENSOR_DATA,
    GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE,
    GET_TENSOR_MUTABLE_DATA,
    INVALID_ARGUMENT,
    KERNEL_CONTEXT_GET_INPUT,
    KERNEL_CONTEXT_GET_OUTPUT,
    KERNEL_CONTEXT_PARALLEL_FOR,
    Api,
    Status,
    failed,
    get_object_t,
    kernel_input_t,
    kernel_output_t,
    parallel_for_t,
    tensor_t,
)
from ..runtime._program cimport Host, Program, program_release, program_run
from ..runtime._structs cimport Recording
from ._runs cimport Stop, reason_to_stop
from ._status cimport c_copy

cdef extern from *:
    void* alloca "__builtin_alloca"(size_t size) nogil


cdef struct Call:
    # One compute(): the context of the program's Host.
    void* context
    const Api* api
    const Kernel* kernel
    const Stop* stop
    Status failure


cdef int kernel_fill(Kernel* kernel, Program program, list inputs, list outputs, str name) except -1:
    # Found by name, because ONNX Runtime leaves constants out of a fused node's inputs and orders the rest by first use.
    read = places(program.input_names, inputs)
    written = places(program.output_names, outputs)
    places(outputs, program.output_names)
    kernel.input_count = len(read)
    kernel.inputs = c_places(read)
    kernel.outputs = c_places(written)
    kernel.name = c_copy(name)
    kernel.program = program.detach()
    return 0


cdef void kernel_release(Kernel* kernel) noexcept nogil:
    if kernel.program != NULL:
        program_release(kernel.program)
    free(kernel.inputs)
    free(kernel.outputs)
    free(kernel.name)


def places(wanted, offered):
    """Return the position of each of `wanted` in `offered`."""
    position = {name: i for i, name in enumerate(offered)}
    lacking = [name for name in wanted if name not in position]
    if lacking:
        raise RuntimeError(f"the node and its program differ: no {lacking[0]!r} in {list(offered)}")
    return [position[name] for name in wanted]


cdef size_t* c_places(list found) except NULL:
    cdef size_t* out = <size_t*>malloc((len(found) + 1) * sizeof(size_t))
    if out == NULL:
        raise MemoryError
    for i, place in enumerate(found):
        out[i] = place
    return out


cdef int run_parallel(void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, void* user) noexcept nogil:
    cdef Call* call = <Call*>context
    # 0 batches: each index goes to the next free thread.
    call.failure = (<parallel_for_t>call.api.slots[KERNEL_CONTEXT_PARALLEL_FOR])(call.context, body, total, 0, user)
    return call.failure != NULL


cdef float* run_output(void* context, size_t index, const int64_t* dims, size_t rank) noexcept nogil:
    cdef Call* call = <Call*>context
    cdef void* value = NULL
    cdef void* data = NULL
    cdef const Api* api = call.api
    call.failure = (<kernel_output_t>api.slots[KERNEL_CONTEXT_GET_OUTPUT])(call.context, call.kernel.outputs[index], dims, rank, &value)
    if call.failure == NULL:
        call.failure = (<get_object_t>api.slots[GET_TENSOR_MUTABLE_DATA])(value, <const void**>&data)
    return <float*>data if call.failure == NULL else NULL


cdef const char* run_stop(void* context) noexcept nogil:
    return reason_to_stop((<const Call*>context).stop)


cdef Status kernel_run(const Api* api, const Kernel* kernel, void* context, const Stop* stop, Recording* recording) noexcept nogil:
    cdef size_t count = kernel.input_count, i
    cdef const float** data = <const float**>alloca((count + 1) * sizeof(void*))
    cdef const int64_t** dims = <const int64_t**>alloca((count + 1) * sizeof(void*))
    cdef size_t* ranks = <size_t*>alloca((count + 1) * sizeof(size_t))
    cdef Call call
    cdef Host host
    cdef Status status
    cdef const void* value
    cdef int type, expected
    cdef char[512] reason
    cdef char[768] message
    for i in range(count):
        value = NULL
        status = (<kernel_input_t>api.slots[KERNEL_CONTEXT_GET_INPUT])(context, kernel.inputs[i], &value)
        if status == NULL:
            status = (<tensor_t>api.slots[GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE])(value, &type, &dims[i], &ranks[i])
        if status == NULL:
            status = (<get_object_t>api.slots[GET_TENSOR_DATA])(value, <const void**>&data[i])
        if status != NULL:
            return status
        expected = kernel.program.onnx_type[kernel.program.inputs[i]]
        if type != expected:
            snprintf(message, sizeof(message), "SparseExecutionProvider: %s: input %zu has element type %d, %d is expected", kernel.name, i,
                     type, expected)
            return failed(api, INVALID_ARGUMENT, message)
    call.context = context
    call.api = api
    call.kernel = kernel
    call.stop = stop
    call.failure = NULL
    host.context = &call
    host.parallel_for = run_parallel
    host.output = run_output
    host.stop = NULL
    if stop != NULL:
        host.stop = run_stop
    host.recording = recording
    reason[0] = 0
    if program_run(kernel.program, &host, data, dims, ranks, reason, sizeof(reason)) == 0:
        return NULL
    if call.failure != NULL:
        return call.failure
    # Not EP_FAIL: with that code, onnxruntime's Python class retries on the CPU provider without a message.
    snprintf(message, sizeof(message), "SparseExecutionProvider: %s: %s", kernel.name, reason)
    return failed(api, FAIL, message)
