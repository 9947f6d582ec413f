"""The size of a session's thread pool. See ort/_pool.pyx."""

from ._abi cimport Api


cdef int pool_size(const Api* api, const void* session_options) noexcept nogil
