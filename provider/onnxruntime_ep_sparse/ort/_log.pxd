from ._abi cimport Api


# ONNX Runtime's OrtLoggingLevel
cdef enum:
    VERBOSE = 0
    INFO = 1
    WARNING = 2


cdef bint is_shown(const Api* api, const void* logger, int severity) except -1
cdef object say(const Api* api, const void* logger, int severity, str text)
