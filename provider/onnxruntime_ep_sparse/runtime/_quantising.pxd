"""How steps on bytes read x, and how their sums become results: `ByteProduct` in `program/kinds/byte_product.py` says what is computed."""

from libc.stdint cimport int32_t, int64_t

from onnxruntime_ep_sparse_kernels.table_bytes cimport BytesCall

from ._structs cimport ceil_div

cdef struct Quantising:
    bint is_signed           # x
    int32_t zero_x
    int32_t* bias
    float* scale
    float most_scale
    int32_t zero_y
    int32_t low              # bounds of y
    int32_t high
    float divisor            # of y

cdef int fill_quantising(Quantising* quantising, spec) except -1
cdef void release_quantising(Quantising* quantising) noexcept nogil
# Set what of a call does not depend on its rows: the form of the results, their zero point, bounds and divisor.
cdef void set_quantising(BytesCall* call, const Quantising* quantising, int type_y) noexcept nogil


cdef inline int64_t whole_lines(int64_t bytes_) noexcept nogil:
    """Return so many bytes and a cache line as bytes of whole lines."""
    return ceil_div(bytes_, 64) * 64 + 64
