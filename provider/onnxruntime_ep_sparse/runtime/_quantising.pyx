"""From the plain data of a step on bytes to C, and to calls of the kernels: zero points, scales, bounds."""

import numpy as np

from libc.stdint cimport int32_t

from onnxruntime_ep_sparse_kernels._byte_enums cimport *
from onnxruntime_ep_sparse_kernels.table_bytes cimport set_results

from ._from_python cimport memory_of
from ._structs cimport TYPE_FLOAT32, TYPE_INT32, TYPE_INT8
from ._weight_store cimport shared_drop


cdef int fill_quantising(Quantising* quantising, spec) except -1:
    quantising.is_signed = spec.signed
    quantising.zero_x = spec.zero_x
    quantising.bias = <int32_t*>memory_of(spec.bias__m, np.float32)
    quantising.scale = <float*>memory_of(spec.scale__m, np.float32)
    quantising.most_scale = np.max(spec.scale__m, initial=0)
    quantising.zero_y = spec.zero_y
    quantising.low = spec.low
    quantising.high = spec.high
    quantising.divisor = spec.divisor
    return 0


cdef void release_quantising(Quantising* quantising) noexcept nogil:
    shared_drop(quantising.bias)
    shared_drop(quantising.scale)


cdef void set_quantising(BytesCall* call, const Quantising* quantising, int type_y) noexcept nogil:
    call.out = OUT_SUMS if type_y == TYPE_INT32 else OUT_FLOATS if type_y == TYPE_FLOAT32 else OUT_BYTES
    set_results(call, type_y == TYPE_INT8, quantising.zero_y, quantising.low, quantising.high, quantising.divisor, quantising.most_scale)
