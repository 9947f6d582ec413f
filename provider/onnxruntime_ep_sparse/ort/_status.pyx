"""Python exceptions as statuses of ONNX Runtime, and text in plain C memory."""

from libc.stddef cimport size_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from ._abi cimport FAIL, INVALID_ARGUMENT, NOT_IMPLEMENTED, Api, Status, failed

from ._graph_reader import OrtError
from ..options import EP_NAME

cdef extern from "Python.h":
    int PyThreadState_SetAsyncExc(unsigned long thread, object exception) except -1
    unsigned long PyThread_get_thread_ident() nogil


cdef Status status_of(const Api* api, error, str where) noexcept:
    """Return a status with the message of a Python exception, after `where` it happened. The code follows from the exception's class.

    ONNX Runtime may go on without the provider. KeyboardInterrupt and the like are not meant for it: Python raises them again as soon as
    ONNX Runtime has returned.
    """
    cdef int code = FAIL
    if isinstance(error, ValueError):
        code = INVALID_ARGUMENT
    elif isinstance(error, NotImplementedError):
        code = NOT_IMPLEMENTED
    try:
        if not isinstance(error, Exception):
            PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), again(error))
        return failed(api, code, f"{EP_NAME}: {where}{reason_of(error)}".encode("utf-8", "replace"))
    except BaseException:
        return failed(api, code, "SparseExecutionProvider: an error without a printable message")


cdef object again(error):
    """Return a class whose exceptions equal `error`. PyThreadState_SetAsyncExc takes a class, not an exception."""
    kind = type(error)
    return type(kind.__name__, (kind,), {"__init__": lambda self: kind.__init__(self, *error.args), "__module__": kind.__module__})


cdef str reason_of(error):
    """Return the message of an exception. Unexpected exceptions show their type as well."""
    expected = isinstance(error, (ValueError, NotImplementedError, OrtError)) and str(error)
    return str(error) if expected else f"{type(error).__name__}: {error}"


cdef char* c_copy(str text) except NULL:
    """Return a copy of `text` in UTF-8, which the caller frees."""
    data = text.encode("utf-8", "replace")
    cdef size_t size = len(data) + 1
    cdef char* copy = <char*>malloc(size)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const char*>data, size)
    return copy
