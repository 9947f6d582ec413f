"""Reads ONNX Runtime's graph objects. See ort/_graph_reader.pyx."""

from ._abi cimport Api, Status


cdef object raised(const Api* api, Status status)
cdef str decoded(const char* text)
cdef bytes encoded(str text)
cdef object attribute(const Api* api, const void* attribute)
cdef tuple dimensions(const Api* api, const void* tensor)
cdef object typed_value(const Api* api, const void* info, str name)
cdef object array_of(const Api* api, const void* tensor, str name)
cdef dict session_entries(const Api* api, const void* object, int slot)
cdef list names(const Api* api, const void* node, bint outputs)


cdef class Source:
    """An `OrtGraph` during the call that shows it. `graph` is its copy; `key` tells it from the session's other graphs.

    `shown` is a copy too, with compressed operators as ONNX Runtime shows them."""
    cdef const Api* api
    cdef dict constants
    cdef list node_pointers
    cdef readonly object graph
    cdef readonly object shown
    cdef readonly str key
    cdef void close(self)
    cdef const void* node(self, size_t index)
    cdef str model_path(self, const void* ort_graph)
    cdef object bytes_attribute(self, size_t index, str name)


cdef Source read(const Api* api, const void* ort_graph, dict known, dict ranks)
