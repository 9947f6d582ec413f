"""Python exceptions as statuses, text in C memory. See ort/_status.pyx."""

from ._abi cimport Api, Status


cdef Status status_of(const Api* api, error, str where) noexcept
cdef str reason_of(error)
cdef void remember_modules()
cdef char* c_copy(str text) except NULL
