"""The compressed operators for ONNX Runtime. See ort/_custom_ops.pyx."""

from ._abi cimport Api, Status


# Makes the operators known to the sessions of these OrtSessionOptions.
cdef Status add_custom_ops(const Api* api, void* session_options) noexcept nogil
