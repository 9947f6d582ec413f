"""Python exceptions as statuses of ONNX Runtime, and text in plain C memory."""

from libc.stddef cimport size_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from ._abi cimport FAIL, INVALID_ARGUMENT, NOT_IMPLEMENTED, Api, Status, failed

import os
import sys

from ._graph_reader import OrtError
from ..options import EP_NAME

cdef extern from "Python.h":
    int PyThreadState_SetAsyncExc(unsigned long thread, object exception) except -1
    unsigned long PyThread_get_thread_ident() nogil


LONGEST_MESSAGE = 2000
"""Characters of a message. Names in a model may have a million."""
_specs = {}


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
        message = f"{EP_NAME}: {where}{reason_of(error)}".encode("utf-8", "replace")
        if not isinstance(error, Exception):  # last: any Python code after it would be interrupted
            PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), again(error))
        return failed(api, code, message)
    except BaseException:
        return failed(api, code, "SparseExecutionProvider: an error without a printable message")


cdef object again(error):
    """Return a class whose exceptions equal `error`. PyThreadState_SetAsyncExc takes a class, not an exception."""
    kind = type(error)
    return type(kind.__name__, (kind,), {"__init__": lambda self: kind.__init__(self, *error.args), "__module__": kind.__module__})


cdef str reason_of(error):
    """Return the message of an exception, or its place if it has none. Unexpected exceptions show their type and a known cause as well.

    Of a message with a long name, the middle is left out.
    """
    text = str(error)
    if not text or not isinstance(error, (ValueError, NotImplementedError, OrtError)):
        text = f"{type(error).__name__}: {text or place_of(error)}"
        if any(name in sys.modules and sys.modules[name].__spec__ is not spec for name, spec in _specs.items()):
            text += "; modules of the package were reloaded while it was in use, which only a new process can do"
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


cdef str place_of(error):
    """Return the file and the line where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"line {trace.tb_lineno} of {os.path.basename(trace.tb_frame.f_code.co_filename)}" if trace is not None else "without a message"


cdef void remember_modules():
    """Keep what tells later whether modules of the package have been reloaded: a reload gives a module another `__spec__`."""
    package = __name__.partition(".")[0]
    _specs.update({name: module.__spec__ for name, module in sys.modules.items() if name.partition(".")[0] == package})


cdef char* c_copy(str text) except NULL:
    """Return a copy of `text` in UTF-8, which the caller frees."""
    data = text.encode("utf-8", "replace")
    cdef size_t size = len(data) + 1
    cdef char* copy = <char*>malloc(size)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const char*>data, size)
    return copy
