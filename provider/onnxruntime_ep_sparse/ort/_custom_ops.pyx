"""The compressed operators as custom operators of the CPU: they run the nodes of a compressed model that the provider does not take.

Creating the kernel of a product lowers and packs its node with the code that the provider's regions use. The kernel of a Weight decodes
its weight once, and copies it in every run. Domain and operators are never freed, because sessions call them for as long as they live.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ._abi cimport (
    ADD_CUSTOM_OP_DOMAIN,
    API_VERSION,
    CREATE_CUSTOM_OP_DOMAIN,
    CREATE_TENSOR_TYPE_AND_SHAPE_INFO,
    CUSTOM_OP_DOMAIN_ADD,
    ELEMENT_FLOAT,
    ELEMENT_UINT8,
    GET_TENSOR_ELEMENT_TYPE,
    GET_TENSOR_MUTABLE_DATA,
    INPUT_OPTIONAL,
    INPUT_REQUIRED,
    KERNEL_CONTEXT_GET_OUTPUT,
    KERNEL_INFO_GET_ATTRIBUTE_ARRAY_INT64,
    KERNEL_INFO_GET_ATTRIBUTE_FLOAT,
    KERNEL_INFO_GET_ATTRIBUTE_INT64,
    KERNEL_INFO_GET_ATTRIBUTE_STRING,
    KERNEL_INFO_GET_CONFIG_ENTRIES,
    KERNEL_INFO_GET_CONSTANT_INPUT_TENSOR,
    KERNEL_INFO_GET_INPUT_COUNT,
    KERNEL_INFO_GET_INPUT_NAME,
    KERNEL_INFO_GET_INPUT_TYPE_INFO,
    KERNEL_INFO_GET_NODE_NAME,
    KERNEL_INFO_GET_OUTPUT_NAME,
    RELEASE_STATUS,
    RELEASE_TENSOR_TYPE_AND_SHAPE_INFO,
    RELEASE_TYPE_INFO,
    SET_DIMENSIONS,
    SET_SYMBOLIC_DIMENSIONS,
    SET_TENSOR_ELEMENT_TYPE,
    SHAPE_INFER_CONTEXT_GET_ATTRIBUTE,
    SHAPE_INFER_CONTEXT_GET_INPUT_TYPE_SHAPE,
    SHAPE_INFER_CONTEXT_SET_OUTPUT_TYPE_SHAPE,
    Api,
    OrtCustomOp,
    Status,
    add_to_t,
    constant_input_t,
    copy_indexed_text_t,
    copy_text_t,
    create_domain_t,
    create_object_t,
    float_attribute_t,
    get_count_t,
    get_number_t,
    get_object_t,
    get_part_t,
    int_attribute_t,
    ints_attribute_t,
    kernel_output_t,
    named_attribute_t,
    release_t,
    set_dimensions_t,
    set_number_t,
    set_part_t,
    set_symbolic_dimensions_t,
    text_attribute_t,
)
from ..runtime._enums cimport MAX_RANK
from ._binding cimport Kernel, kernel_fill, kernel_release, kernel_run
from ._status cimport c_copy, status_of
from ._graph_reader cimport array_of, attribute, decoded, dimensions, encoded, raised, session_entries, typed_value

import threading
from dataclasses import replace
from itertools import count as numbers

import numpy as np

from ..ops import table as ops
from .. import options as option_table
from ..formats.schema import WEIGHT, DOMAIN, OPERATORS, VERSION, WEIGHT_SHAPE
from ..formats.weight_codec import decode
from ..graph.ir import Graph, Node, Value
from ..options import isa_of, workers_of
from ..passes.decompress import plain, weight_shape
from ..pipeline import lower_to_spec, program_of
from .custom_op_shapes import output_shape


cdef struct CustomOp:
    OrtCustomOp base  # first: ONNX Runtime holds a pointer to it
    char* name
    size_t inputs
    size_t weight        # the input with the nonzeros, before that with their index
    int type             # of the weight and the result


cdef struct CustomKernel:
    Kernel kernel
    const Api* api


cdef struct WeightKernel:
    const Api* api
    size_t bytes_
    size_t rank
    int64_t[MAX_RANK] dims
    # then the weight


cdef const Api* api
cdef void* domain

# Every unknown dimension gets a name of its own, because ONNX Runtime takes equal names for equal sizes.
_unknown = numbers()
_lock = threading.Lock()


# Properties of an operator


cdef const char* get_name(const void* op) noexcept nogil:
    return (<const CustomOp*>op).name


cdef const char* get_provider(const void* op) noexcept nogil:
    # NULL: the CPU's.
    return NULL


cdef int get_input_type(const void* op, size_t index) noexcept nogil:
    cdef const CustomOp* own = <const CustomOp*>op
    return ELEMENT_UINT8 if index == own.weight + 1 else own.type


cdef size_t get_input_count(const void* op) noexcept nogil:
    return (<const CustomOp*>op).inputs


cdef int get_output_type(const void* op, size_t index) noexcept nogil:
    return (<const CustomOp*>op).type


cdef size_t get_output_count(const void* op) noexcept nogil:
    return 1


cdef int get_input_characteristic(const void* op, size_t index) noexcept nogil:
    return INPUT_OPTIONAL if index == 3 else INPUT_REQUIRED


cdef int get_output_characteristic(const void* op, size_t index) noexcept nogil:
    return INPUT_REQUIRED


cdef int get_memory_type(const void* op, size_t index) noexcept nogil:
    # OrtMemTypeDefault
    return 0


# Shape inference


cdef Status infer_shape(const void* op, void* context) noexcept nogil:
    with gil:
        try:
            infer((<const CustomOp*>op).name.decode(), context)
            return NULL
        except BaseException as error:
            return status_of(api, error, f"{DOMAIN} ")


cdef object infer(str op_type, void* context):
    """Set the output's type and its shape, as far as they follow from the input's."""
    cdef const void* info = NULL
    cdef int type = ELEMENT_FLOAT
    attributes = {key: inferred_attribute(context, key.encode()) for key in OPERATORS[op_type].attributes}
    raised(api, (<get_part_t>api.slots[SHAPE_INFER_CONTEXT_GET_INPUT_TYPE_SHAPE])(context, 0, &info))
    if op_type == WEIGHT:
        # ONNX Runtime asks one of the operators of this name, whatever the type is
        raised(api, (<get_number_t>api.slots[GET_TENSOR_ELEMENT_TYPE])(info, &type))
        set_shape(context, type, weight_shape(bare_node(op_type, attributes, "", ("values", "index"), "Y")))
        return
    node = bare_node(op_type, attributes, "", ("X",), "Y")
    x = dimensions(api, info)
    if not x:
        # An unknown shape looks like that of a scalar. The output's rank follows from the weight's, except for MatMul.
        if op_type == "MatMul":
            return
        x = (None,) * len(weight_shape(node))
    set_shape(context, type, output_shape(node, x))


cdef object inferred_attribute(void* context, bytes name):
    """Return an attribute, or None if the node does not have it."""
    cdef const void* found = NULL
    if absent((<named_attribute_t>api.slots[SHAPE_INFER_CONTEXT_GET_ATTRIBUTE])(context, name, &found)) or found == NULL:
        return None
    return attribute(api, found)


cdef bint absent(Status status) noexcept nogil:
    """Return whether a call that reads an attribute failed, which it does if there is none. Frees the status."""
    if status == NULL:
        return False
    (<release_t>api.slots[RELEASE_STATUS])(status)
    return True


cdef object set_shape(void* context, int type, tuple shape):
    cdef void* info = NULL
    cdef int64_t dims[MAX_RANK]
    cdef const char* names[MAX_RANK]
    if len(shape) > MAX_RANK:
        return  # left to run time, which refuses it
    texts = [b"" if isinstance(size, int) else encoded(size or f"{DOMAIN}.{next(_unknown)}") for size in shape]
    for i, size in enumerate(shape):
        dims[<int>i] = size if isinstance(size, int) else -1
        names[<int>i] = <const char*><bytes>texts[i]
    raised(api, (<create_object_t>api.slots[CREATE_TENSOR_TYPE_AND_SHAPE_INFO])(&info))
    try:
        raised(api, (<set_number_t>api.slots[SET_TENSOR_ELEMENT_TYPE])(info, type))
        raised(api, (<set_dimensions_t>api.slots[SET_DIMENSIONS])(info, dims, len(shape)))
        raised(api, (<set_symbolic_dimensions_t>api.slots[SET_SYMBOLIC_DIMENSIONS])(info, names, len(shape)))
        raised(api, (<set_part_t>api.slots[SHAPE_INFER_CONTEXT_SET_OUTPUT_TYPE_SHAPE])(context, 0, info))
    finally:
        (<release_t>api.slots[RELEASE_TENSOR_TYPE_AND_SHAPE_INFO])(info)


# Kernels


cdef Status create_kernel(const void* op, const Api* table, const void* info, void** out) noexcept nogil:
    out[0] = NULL
    with gil:
        where = ""
        try:
            op_type = (<const CustomOp*>op).name.decode()
            name = text_of(info, KERNEL_INFO_GET_NODE_NAME) or indexed_text_of(info, KERNEL_INFO_GET_OUTPUT_NAME, 0)
            where = f"{name}: "
            out[0] = created(op_type, name, info)
            return NULL
        except BaseException as error:
            return status_of(api, error, where)


cdef CustomKernel* created(str op_type, str name, const void* info) except NULL:
    """Compile the program of one node. ValueError with the reason if the node cannot be run."""
    cdef CustomKernel* kernel
    graph, inputs = graph_of(op_type, name, info)
    reason = ops.can_run(graph, graph.nodes[0])
    if reason is not None:
        raise ValueError(str(reason))
    options = option_table.from_session(session_entries(api, info, KERNEL_INFO_GET_CONFIG_ENTRIES))
    # for any rank: the node's may not be known
    program = program_of(replace(lower_to_spec(graph, isa_of(options), workers_of(options)), ranks=()), options)
    kernel = <CustomKernel*>calloc(1, sizeof(CustomKernel))
    if kernel == NULL:
        raise MemoryError
    try:
        kernel.api = api
        kernel_fill(&kernel.kernel, program, inputs, list(graph.outputs), name)
    except BaseException:
        destroy_kernel(kernel)
        raise
    return kernel


cdef Status compute(void* kernel, void* context) noexcept nogil:
    return kernel_run((<CustomKernel*>kernel).api, &(<CustomKernel*>kernel).kernel, context, NULL, NULL)


cdef void destroy_kernel(void* kernel) noexcept nogil:
    if kernel != NULL:
        kernel_release(&(<CustomKernel*>kernel).kernel)
        free(kernel)


cdef Status create_weight(const void* op, const Api* table, const void* info, void** out) noexcept nogil:
    out[0] = NULL
    with gil:
        where = ""
        try:
            where = f"{DOMAIN} {text_of(info, KERNEL_INFO_GET_NODE_NAME) or indexed_text_of(info, KERNEL_INFO_GET_OUTPUT_NAME, 0)}: "
            out[0] = decoded_weight(info)
            return NULL
        except BaseException as error:
            return status_of(api, error, where)


cdef WeightKernel* decoded_weight(const void* info) except NULL:
    """Decode the weight of a node. ValueError if its tensors are not constant, or damaged."""
    cdef WeightKernel* kernel
    cdef const void* value
    cdef const unsigned char[::1] data
    cdef int is_constant
    cdef size_t i
    tensors = []
    for i in range(2):
        value = NULL
        raised(api, (<constant_input_t>api.slots[KERNEL_INFO_GET_CONSTANT_INPUT_TENSOR])(info, i, &is_constant, &value))
        if not is_constant:
            raise ValueError("its weight is not constant")
        tensors.append(array_of(api, value, ""))
    weight = decode(*tensors)
    written = kernel_attribute(info, WEIGHT_SHAPE.encode(), tuple)
    if written != weight.shape:
        raise ValueError(f"{WEIGHT_SHAPE} is {list(written or ())}, its weight has shape {list(weight.shape)}")
    kernel = <WeightKernel*>malloc(sizeof(WeightKernel) + weight.nbytes)
    if kernel == NULL:
        raise MemoryError
    kernel.api = api
    kernel.bytes_ = weight.nbytes
    kernel.rank = weight.ndim
    for i in range(kernel.rank):
        kernel.dims[i] = weight.shape[i]
    if weight.size:
        data = weight.reshape(-1).view(np.uint8)
        memcpy(kernel + 1, &data[0], kernel.bytes_)
    return kernel


cdef Status copy_weight(void* kernel, void* context) noexcept nogil:
    cdef const WeightKernel* own = <const WeightKernel*>kernel
    cdef void* value = NULL
    cdef void* data = NULL
    cdef Status status = (<kernel_output_t>own.api.slots[KERNEL_CONTEXT_GET_OUTPUT])(context, 0, own.dims, own.rank, &value)
    if status == NULL:
        status = (<get_object_t>own.api.slots[GET_TENSOR_MUTABLE_DATA])(value, <const void**>&data)
    if status == NULL:
        memcpy(data, own + 1, own.bytes_)
    return status


cdef void destroy_weight(void* kernel) noexcept nogil:
    free(kernel)


cdef tuple graph_of(str op_type, str name, const void* info):
    """Return a graph of one node, and the names of its inputs in order: places, because the file's names need not differ."""
    cdef size_t count = 0, i
    cdef const void* value
    cdef int is_constant
    raised(api, (<get_count_t>api.slots[KERNEL_INFO_GET_INPUT_COUNT])(info, &count))
    inputs = [f"input {i}" if is_named(info, i) else "" for i in range(count)]
    values, constants = {}, {}
    for i in range(count):
        input_name = inputs[i]
        if not input_name:
            continue
        values[input_name] = input_value(info, i, input_name)
        value = NULL
        raised(api, (<constant_input_t>api.slots[KERNEL_INFO_GET_CONSTANT_INPUT_TENSOR])(info, i, &is_constant, &value))
        if is_constant:
            constants[input_name] = array_of(api, value, input_name)
    attributes = {key: kernel_attribute(info, key.encode(), kind) for key, kind in OPERATORS[op_type].attributes.items()}
    output = "output"
    node = bare_node(op_type, attributes, name, tuple(inputs), output)
    x = values[inputs[0]]
    if x.shape is None:
        # The program runs for every rank, and treats batches as one where it is told of no more dimensions.
        x = values[inputs[0]] = Value(x.name, x.dtype, (None,) if op_type == "MatMul" else (None,) * len(weight_shape(node)))
    values[output] = Value(output, ELEMENT_FLOAT, output_shape(node, x.shape))
    return plain(Graph(
        nodes=(node,),
        values=values,
        constant_names=frozenset(constants),
        load=constants.__getitem__,
        inputs=tuple([input_name for input_name in dict.fromkeys(inputs) if input_name and input_name not in constants]),
        outputs=(output,),
    )), inputs


cdef object bare_node(str op_type, dict attributes, str name, tuple inputs, str output):
    present = {key: value for key, value in attributes.items() if value is not None}
    return Node(0, name, op_type, DOMAIN, VERSION, inputs, (output,), present)


cdef object input_value(const void* info, size_t index, str name):
    cdef const void* kind = NULL
    raised(api, (<get_part_t>api.slots[KERNEL_INFO_GET_INPUT_TYPE_INFO])(info, index, &kind))
    try:
        return typed_value(api, kind, name)
    finally:
        (<release_t>api.slots[RELEASE_TYPE_INFO])(<void*>kind)


cdef object kernel_attribute(const void* info, bytes name, kind):
    """Return an attribute of this type, or None if the node does not have it."""
    cdef float number = 0
    cdef int64_t integer = 0
    cdef int64_t* integers
    cdef size_t count = 0, i
    cdef const char* key = name
    if kind is float:
        missing = absent((<float_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_FLOAT])(info, key, &number))
        return None if missing else number
    if kind is int:
        missing = absent((<int_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_INT64])(info, key, &integer))
        return None if missing else integer
    # read into no buffer, strings and lists set their size
    if kind is str:
        absent((<text_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_STRING])(info, key, NULL, &count))
        if not count:
            return None
        room = bytearray(count)
        raised(api, (<text_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_STRING])(info, key, <char*>room, &count))
        return decoded(<char*>room)
    absent((<ints_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_ARRAY_INT64])(info, key, NULL, &count))
    room = bytearray(count * sizeof(int64_t))
    integers = <int64_t*><char*>room
    if not count:
        return None
    raised(api, (<ints_attribute_t>api.slots[KERNEL_INFO_GET_ATTRIBUTE_ARRAY_INT64])(info, key, integers, &count))
    return tuple([integers[i] for i in range(count)])


cdef str text_of(const void* info, int slot):
    cdef size_t size = 0
    absent((<copy_text_t>api.slots[slot])(info, NULL, &size))
    room = bytearray(size + 1)
    raised(api, (<copy_text_t>api.slots[slot])(info, <char*>room, &size))
    return decoded(<char*>room)


cdef bint is_named(const void* info, size_t index):
    """Return whether a node has input `index`: missing ones have an empty name, of one NUL."""
    cdef size_t size = 0
    absent((<copy_indexed_text_t>api.slots[KERNEL_INFO_GET_INPUT_NAME])(info, index, NULL, &size))
    return size > 1


cdef str indexed_text_of(const void* info, int slot, size_t index):
    cdef size_t size = 0
    absent((<copy_indexed_text_t>api.slots[slot])(info, index, NULL, &size))
    room = bytearray(size + 1)
    raised(api, (<copy_indexed_text_t>api.slots[slot])(info, index, <char*>room, &size))
    return decoded(<char*>room)


# Registration


cdef Status add_custom_ops(const Api* table, void* session_options) noexcept nogil:
    with gil:
        try:
            with _lock:
                make_domain(table)
            raised(api, (<add_to_t>api.slots[ADD_CUSTOM_OP_DOMAIN])(session_options, domain))
            return NULL
        except BaseException as error:
            return status_of(table, error, "")


cdef object make_domain(const Api* table):
    """Create the domain and its operators in the first call; later calls do nothing."""
    global api, domain
    cdef void* made = NULL
    cdef CustomOp* op
    if domain != NULL:
        return
    api = table
    raised(api, (<create_domain_t>api.slots[CREATE_CUSTOM_OP_DOMAIN])(DOMAIN.encode(), &made))
    for name, row in OPERATORS.items():
        for type in row.types:
            op = custom_op(name, row.inputs, row.weight, type)
            raised(api, (<add_to_t>api.slots[CUSTOM_OP_DOMAIN_ADD])(made, op))
    domain = made


cdef CustomOp* custom_op(str name, size_t inputs, size_t weight, int type) except NULL:
    cdef CustomOp* op = <CustomOp*>calloc(1, sizeof(CustomOp))
    if op == NULL:
        raise MemoryError
    op.name = c_copy(name)
    op.inputs = inputs
    op.weight = weight
    op.type = type
    op.base.version = API_VERSION
    op.base.GetName = get_name
    op.base.GetExecutionProviderType = get_provider
    op.base.GetInputType = get_input_type
    op.base.GetInputTypeCount = get_input_count
    op.base.GetOutputType = get_output_type
    op.base.GetOutputTypeCount = get_output_count
    op.base.GetInputCharacteristic = get_input_characteristic
    op.base.GetOutputCharacteristic = get_output_characteristic
    op.base.GetInputMemoryType = get_memory_type
    op.base.CreateKernelV2 = create_weight if name == WEIGHT else create_kernel
    op.base.KernelComputeV2 = copy_weight if name == WEIGHT else compute
    op.base.KernelDestroy = destroy_weight if name == WEIGHT else destroy_kernel
    op.base.InferOutputShapeFn = infer_shape
    return op
