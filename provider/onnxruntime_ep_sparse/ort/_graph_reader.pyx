"""Copies an `OrtGraph`, which ONNX Runtime shows during `GetCapability` and `Compile`, into a `graph.ir.Graph`.

Names, shapes and attributes are copied at once. Constants are loaded on demand, as views of ONNX Runtime's memory.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from ._abi cimport (
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_INT,
    ATTRIBUTE_INTS,
    ATTRIBUTE_STRING,
    ATTRIBUTE_STRINGS,
    ATTRIBUTE_TENSOR,
    CAST_TYPE_INFO_TO_TENSOR_INFO,
    GET_DIMENSIONS,
    GET_DIMENSIONS_COUNT,
    GET_ERROR_CODE,
    GET_ERROR_MESSAGE,
    GET_KEY_VALUE_PAIRS,
    GET_SYMBOLIC_DIMENSIONS,
    GET_TENSOR_DATA,
    GET_TENSOR_ELEMENT_TYPE,
    GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE,
    GET_VALUE_INFO_NAME,
    GET_VALUE_INFO_TYPE_INFO,
    GRAPH_GET_INPUTS,
    GRAPH_GET_MODEL_PATH,
    GRAPH_GET_NAME,
    GRAPH_GET_NODES,
    GRAPH_GET_NUM_INPUTS,
    GRAPH_GET_NUM_NODES,
    GRAPH_GET_NUM_OUTPUTS,
    GRAPH_GET_OUTPUTS,
    GRAPH_GET_PARENT_NODE,
    NODE_GET_ATTRIBUTES,
    NODE_GET_DOMAIN,
    NODE_GET_EP_NAME,
    NODE_GET_IMPLICIT_INPUTS,
    NODE_GET_INPUTS,
    NODE_GET_NAME,
    NODE_GET_NUM_ATTRIBUTES,
    NODE_GET_NUM_IMPLICIT_INPUTS,
    NODE_GET_NUM_INPUTS,
    NODE_GET_NUM_OUTPUTS,
    NODE_GET_OPERATOR_TYPE,
    NODE_GET_OUTPUTS,
    NODE_GET_SINCE_VERSION,
    OP_ATTR_GET_NAME,
    OP_ATTR_GET_TENSOR_ATTRIBUTE_AS_ORT_VALUE,
    OP_ATTR_GET_TYPE,
    READ_OP_ATTR,
    RELEASE_KEY_VALUE_PAIRS,
    RELEASE_STATUS,
    RELEASE_VALUE,
    TENSOR_TYPE_AND_SHAPE_HAS_SHAPE,
    VALUE_INFO_GET_INITIALIZER_VALUE,
    VALUE_INFO_IS_CONSTANT_INITIALIZER,
    VALUE_INFO_IS_OPTIONAL_GRAPH_INPUT,
    Api,
    Status,
    flag,
    get_count_t,
    get_dimensions_t,
    get_error_code_t,
    get_error_message_t,
    get_flag_t,
    get_number_t,
    get_object_t,
    get_objects_t,
    get_pairs_t,
    get_symbolic_dimensions_t,
    get_text_t,
    has_t,
    read_attribute_t,
    release_t,
    tensor_t,
)

from collections import Counter
from itertools import chain
from math import prod

import numpy as np

from ..ops.marks import marked
from ..ops.table import with_implied_shapes
from ..passes.decompress import plain
from ..passes.widen import widened
from ..graph.ir import CONTEXT_DATA, Graph, Node, Value, printable

# ONNXTensorElementDataType -> numpy, for the types that numpy has, and the bits of bfloat16.
DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16,
    11: np.float64, 12: np.uint32, 13: np.uint64, 16: np.uint16,
}


class OrtError(RuntimeError):
    """A call into ONNX Runtime failed: its message, and its error code in `code`."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


cdef object raised(const Api* api, Status status):
    """Raise an OrtError if the status is an error, and free the status."""
    if status == NULL:
        return None
    message = (<get_error_message_t>api.slots[GET_ERROR_MESSAGE])(status).decode("utf-8", "replace")
    code = (<get_error_code_t>api.slots[GET_ERROR_CODE])(status)
    (<release_t>api.slots[RELEASE_STATUS])(status)
    raise OrtError(message, code)


cdef str decoded(const char* text):
    """Return text by which tensors, dimensions and files are told apart: other bytes give another str, also where they are not UTF-8."""
    return "" if text == NULL else text.decode("utf-8", "surrogateescape")


cdef bytes encoded(str text):
    """Return the bytes of which `decoded` made `text`."""
    return text.encode("utf-8", "surrogateescape")


cdef str text_of(const Api* api, const void* object, int slot):
    cdef const char* out = NULL
    raised(api, (<get_text_t>api.slots[slot])(object, &out))
    return decoded(out)


cdef int number_of(const Api* api, const void* object, int slot) except? -1:
    cdef int out = 0
    raised(api, (<get_number_t>api.slots[slot])(object, &out))
    return out


cdef list objects_of(const Api* api, const void* object, int count_slot, int slot):
    """Return the addresses of an object's parts, with 0 for missing optional ones."""
    cdef size_t count = 0, i
    cdef const void** out
    raised(api, (<get_count_t>api.slots[count_slot])(object, &count))
    if count == 0:
        return []
    out = <const void**>malloc(count * sizeof(void*))
    if out == NULL:
        raise MemoryError
    try:
        raised(api, (<get_objects_t>api.slots[slot])(object, out, count))
        return [<size_t>out[i] for i in range(count)]
    finally:
        free(out)


cdef str name_of(const Api* api, size_t value):
    return text_of(api, <const void*>value, GET_VALUE_INFO_NAME) if value else ""


cdef dict names_of_values(const Api* api, pointers):
    """Return a name for each of these addresses of values, 0 included, that no other has.

    ONNX Runtime's names end at the first NUL here. Where values share what is before it, or nothing is there, a NUL and a number follow.
    """
    texts = {pointer: name_of(api, pointer) for pointer in pointers}
    shared = Counter(texts.values())
    for number, (pointer, text) in enumerate(texts.items()):
        if pointer and (shared[text] > 1 or not text):
            texts[pointer] = f"{text}\0{number}"
    return texts


cdef list names(const Api* api, const void* node, bint outputs):
    """Return the names of a node's inputs or outputs, in order."""
    if outputs:
        return [name_of(api, value) for value in objects_of(api, node, NODE_GET_NUM_OUTPUTS, NODE_GET_OUTPUTS)]
    return [name_of(api, value) for value in objects_of(api, node, NODE_GET_NUM_INPUTS, NODE_GET_INPUTS)]


cdef dict session_entries(const Api* api, const void* object, int slot):
    """Return all configuration entries of a session, from its options or from the `OrtKernelInfo` of one of its kernels."""
    cdef const void* pairs = NULL
    cdef const char* const* keys = NULL
    cdef const char* const* values = NULL
    cdef size_t count = 0, i
    raised(api, (<get_object_t>api.slots[slot])(object, &pairs))
    try:
        (<get_pairs_t>api.slots[GET_KEY_VALUE_PAIRS])(pairs, &keys, &values, &count)
        return {decoded(keys[i]): decoded(values[i]) for i in range(count)}
    finally:
        (<release_t>api.slots[RELEASE_KEY_VALUE_PAIRS])(<void*>pairs)


cdef object attribute(const Api* api, const void* attribute):
    """Return the value of an attribute: int, float, str or a tuple of one of these; the number in a tensor of one.

    None for other kinds: larger tensors, graphs and so on.
    """
    cdef int kind = 0
    cdef size_t size = 0, i
    cdef Status status
    cdef char* data
    raised(api, (<get_number_t>api.slots[OP_ATTR_GET_TYPE])(attribute, &kind))
    if kind == ATTRIBUTE_TENSOR:
        return number_in_tensor(api, attribute)
    if kind not in (ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_FLOAT, ATTRIBUTE_FLOATS, ATTRIBUTE_STRING, ATTRIBUTE_STRINGS):
        return None
    # Reading into an empty buffer fails and sets the size, or succeeds for an empty list.
    status = (<read_attribute_t>api.slots[READ_OP_ATTR])(attribute, kind, NULL, 0, &size)
    if status != NULL:
        (<release_t>api.slots[RELEASE_STATUS])(status)
    data = <char*>malloc(size + 1)
    if data == NULL:
        raise MemoryError
    try:
        if size:
            raised(api, (<read_attribute_t>api.slots[READ_OP_ATTR])(attribute, kind, data, size, &size))
        if kind == ATTRIBUTE_INT:
            return (<int64_t*>data)[0]
        if kind == ATTRIBUTE_FLOAT:
            return (<float*>data)[0]
        if kind == ATTRIBUTE_INTS:
            return tuple([(<int64_t*>data)[i] for i in range(size // sizeof(int64_t))])
        if kind == ATTRIBUTE_FLOATS:
            return tuple([(<float*>data)[i] for i in range(size // sizeof(float))])
        if kind == ATTRIBUTE_STRINGS:
            # each ends with a null
            return tuple([text.decode("utf-8", "replace") for text in data[:size].removesuffix(b"\0").split(b"\0")]) if size else ()
        return data[:size].rstrip(b"\0").decode("utf-8", "replace")
    finally:
        free(data)


cdef object number_in_tensor(const Api* api, const void* attribute):
    """Return the only element of a tensor that is an attribute, as int or float; None if it has more, or is of another kind."""
    cdef const void* tensor = NULL
    raised(api, (<get_object_t>api.slots[OP_ATTR_GET_TENSOR_ATTRIBUTE_AS_ORT_VALUE])(attribute, &tensor))
    try:
        array = array_of(api, tensor, "an attribute")
        number = array.reshape(-1)[0].item() if array.size == 1 else None
        return number if isinstance(number, (int, float)) else None
    except TypeError:  # an element type that numpy lacks
        return None
    finally:
        (<release_t>api.slots[RELEASE_VALUE])(<void*>tensor)


cdef dict attributes_of(const Api* api, const void* node):
    """Return all attributes of a node but that of a compiled region, which may be large: see Source.bytes_attribute."""
    found = {}
    for pointer in objects_of(api, node, NODE_GET_NUM_ATTRIBUTES, NODE_GET_ATTRIBUTES):
        name = text_of(api, <const void*><size_t>pointer, OP_ATTR_GET_NAME)
        if name != CONTEXT_DATA:
            found[name] = attribute(api, <const void*><size_t>pointer)
    return found


cdef object value_of(const Api* api, size_t pointer, str name):
    cdef const void* info = NULL
    raised(api, (<get_object_t>api.slots[GET_VALUE_INFO_TYPE_INFO])(<const void*>pointer, &info))
    return typed_value(api, info, name)


cdef object typed_value(const Api* api, const void* info, str name):
    """Return a `Value` with the type in an `OrtTypeInfo`, which may be NULL."""
    cdef const void* tensor = NULL
    cdef int dtype = 0
    if info != NULL:
        raised(api, (<get_object_t>api.slots[CAST_TYPE_INFO_TO_TENSOR_INFO])(info, &tensor))
    if tensor == NULL:
        return Value(name, 0, None)
    raised(api, (<get_number_t>api.slots[GET_TENSOR_ELEMENT_TYPE])(tensor, &dtype))
    known = (<has_t>api.slots[TENSOR_TYPE_AND_SHAPE_HAS_SHAPE])(tensor)
    return Value(name, dtype, dimensions(api, tensor) if known else None)


cdef tuple dimensions(const Api* api, const void* tensor):
    """Return the shape in an `OrtTensorTypeAndShapeInfo`."""
    cdef const char** symbols
    cdef int64_t* dims
    cdef size_t rank = 0, i
    raised(api, (<get_count_t>api.slots[GET_DIMENSIONS_COUNT])(tensor, &rank))
    if rank == 0:
        return ()
    dims = <int64_t*>malloc(rank * sizeof(int64_t))
    symbols = <const char**>malloc(rank * sizeof(char*))
    try:
        if dims == NULL or symbols == NULL:
            raise MemoryError
        raised(api, (<get_dimensions_t>api.slots[GET_DIMENSIONS])(tensor, dims, rank))
        raised(api, (<get_symbolic_dimensions_t>api.slots[GET_SYMBOLIC_DIMENSIONS])(tensor, symbols, rank))
        return tuple([dims[i] if dims[i] >= 0 else decoded(symbols[i]) or None for i in range(rank)])
    finally:
        free(dims)
        free(symbols)


cdef bint flag_of(const Api* api, size_t value, int slot) except -1:
    """Return what ONNX Runtime says about a value by a yes or no."""
    cdef flag out = 0
    raised(api, (<get_flag_t>api.slots[slot])(<const void*>value, &out))
    return out != 0


cdef object tensor_view(const Api* api, size_t value, str name):
    """Return a read-only view of an initializer's data."""
    cdef const void* tensor = NULL
    raised(api, (<get_object_t>api.slots[VALUE_INFO_GET_INITIALIZER_VALUE])(<const void*>value, &tensor))
    if tensor == NULL:
        raise KeyError(f"{name!r} is not an initializer")
    return array_of(api, tensor, name)


cdef object array_of(const Api* api, const void* tensor, str name):
    """Return a read-only view of the data of an `OrtValue`."""
    cdef const void* data = NULL
    cdef const int64_t* dims = NULL
    cdef size_t rank = 0, i
    cdef int dtype = 0
    raised(api, (<tensor_t>api.slots[GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE])(tensor, &dtype, &dims, &rank))
    if dtype not in DTYPES:
        raise TypeError(f"initializer {name!r} has ONNX element type {dtype}, which numpy lacks")
    shape = tuple([dims[i] for i in range(rank)])
    if 0 in shape:
        return np.empty(shape, DTYPES[dtype])
    raised(api, (<get_object_t>api.slots[GET_TENSOR_DATA])(tensor, &data))
    size = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    return np.frombuffer(PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ), DTYPES[dtype]).reshape(shape)


cdef class Source:
    """Copies an `OrtGraph` into `graph` and serves its constants until `close()`."""

    def __cinit__(self):
        self.constants = {}
        self.node_pointers = []

    cdef void close(self):
        """End access to constants, at the end of the call that shows the graph; `load` then raises."""
        self.constants = None
        self.node_pointers = None
        self.graph = self.shown = None

    cdef const void* node(self, size_t index):
        """Return the `OrtNode` of `graph.nodes[index]`."""
        return <const void*><size_t>self.node_pointers[index]

    cdef str model_path(self, const void* ort_graph):
        """Return the path of the graph's model, or "" if it has none."""
        return text_of(self.api, ort_graph, GRAPH_GET_MODEL_PATH)

    cdef object bytes_attribute(self, size_t index, str name):
        """Return the bytes of a string attribute of `graph.nodes[index]`, which may be many; an empty array without that attribute."""
        cdef const void* node = self.node(index)
        cdef const void* attribute
        cdef size_t size = 0
        cdef Status status
        cdef unsigned char[::1] room
        for pointer in objects_of(self.api, node, NODE_GET_NUM_ATTRIBUTES, NODE_GET_ATTRIBUTES):
            attribute = <const void*><size_t>pointer
            if text_of(self.api, attribute, OP_ATTR_GET_NAME) != name:
                continue
            size = 0
            status = (<read_attribute_t>self.api.slots[READ_OP_ATTR])(attribute, ATTRIBUTE_STRING, NULL, 0, &size)
            if status != NULL:  # reading into an empty buffer, as above
                (<release_t>self.api.slots[RELEASE_STATUS])(status)
            data = np.empty(size, np.uint8)
            if size:
                room = data
                raised(self.api, (<read_attribute_t>self.api.slots[READ_OP_ATTR])(attribute, ATTRIBUTE_STRING, &room[0], size, &size))
            return data
        return np.empty(0, np.uint8)

    def load(self, name):
        """Return the data of constant `name`. OrtError if ONNX Runtime cannot load it; RuntimeError after `close()`."""
        if self.constants is None:
            raise RuntimeError(f"constant {name!r}: the ONNX Runtime call that showed this graph is over")
        return tensor_view(self.api, self.constants[name], name)


cdef Source read(const Api* api, const void* ort_graph, dict known, dict ranks):
    """Copy one graph, nested or not. `known` holds compressed weights that are decoded already, as in `decompress.plain`.

    `ranks` are those that the whole graph has implied, by the names of values: a region does not hold the nodes that imply them.

    Values that cannot be told apart by what ONNX Runtime says are in neither `values` nor `constant_names` of the graph: only their names
    stand at the nodes.
    """
    cdef Source source = Source()
    cdef const void* parent = NULL
    cdef const void* node
    source.api = api
    inputs = objects_of(api, ort_graph, GRAPH_GET_NUM_INPUTS, GRAPH_GET_INPUTS)
    outputs = objects_of(api, ort_graph, GRAPH_GET_NUM_OUTPUTS, GRAPH_GET_OUTPUTS)
    source.node_pointers = objects_of(api, ort_graph, GRAPH_GET_NUM_NODES, GRAPH_GET_NODES)
    operands = []
    for pointer in source.node_pointers:
        node = <const void*><size_t>pointer
        operands.append((
            objects_of(api, node, NODE_GET_NUM_INPUTS, NODE_GET_INPUTS),
            objects_of(api, node, NODE_GET_NUM_OUTPUTS, NODE_GET_OUTPUTS),
            objects_of(api, node, NODE_GET_NUM_IMPLICIT_INPUTS, NODE_GET_IMPLICIT_INPUTS),
        ))
    named = names_of_values(api, dict.fromkeys(chain(inputs, *chain.from_iterable(operands), outputs)))
    values, defaults = {}, set()
    for pointer, name in named.items():
        if name and "\0" not in name:
            values[name] = value_of(api, pointer, name)
            if flag_of(api, pointer, VALUE_INFO_IS_CONSTANT_INITIALIZER):
                source.constants[name] = pointer
            elif flag_of(api, pointer, VALUE_INFO_IS_OPTIONAL_GRAPH_INPUT):
                defaults.add(name)
    nodes = []
    for index, pointer in enumerate(source.node_pointers):
        node = <const void*><size_t>pointer
        read, made, implicit = [tuple([named[value] for value in group]) for group in operands[index]]
        nodes.append(Node(
            index=index,
            name=printable(text_of(api, node, NODE_GET_NAME)),
            op_type=printable(text_of(api, node, NODE_GET_OPERATOR_TYPE)),
            domain=printable(text_of(api, node, NODE_GET_DOMAIN)),
            since_version=number_of(api, node, NODE_GET_SINCE_VERSION),
            inputs=read,
            outputs=made,
            attributes=attributes_of(api, node),
            ep_name=text_of(api, node, NODE_GET_EP_NAME),
            implicit_inputs=implicit,
        ))
    leaving = tuple([named[value] for value in outputs])
    raised(api, (<get_object_t>api.slots[GRAPH_GET_PARENT_NODE])(ort_graph, &parent))
    source.shown = Graph(
        nodes=tuple(nodes),
        values=values,
        constant_names=frozenset(source.constants),
        load=source.load,
        inputs=tuple([named[value] for value in inputs if named[value] not in source.constants]),
        outputs=leaving,
        is_subgraph=parent != NULL,
        defaults=frozenset(defaults),
    )
    source.graph = marked(with_implied_shapes(widened(plain(source.shown, known)), ranks))
    # Bodies of one If have the same parent and may have the same name; their outputs differ in all models seen.
    inside = text_of(api, parent, NODE_GET_NAME) if parent != NULL else ""
    source.key = "/".join([inside, text_of(api, ort_graph, GRAPH_GET_NAME), *leaving])
    return source
