"""Arithmetic of integers, as ONNX Runtime's CPU provider has it: what numbers of plans and steps share."""

from libc.stdint cimport INT64_MIN, int32_t, int64_t

from ._enums cimport TYPE_INT32, TYPE_INT64

# Computes `op`, a NumberOp, of n integers or truths from a, and b where it has two operands; their places are so many elements apart. No
# divisor is 0. Integers wrap around.
cdef void compute_integers(int op, int64_t* y, const int64_t* a, int64_t a_step, const int64_t* b, int64_t b_step,
                           int64_t n) noexcept nogil


cdef inline int64_t narrowed(int type, int64_t integer) noexcept nogil:
    """Return an integer as one of this type."""
    return <int64_t><int32_t>integer if type == TYPE_INT32 else integer


cdef inline int64_t cut_float(float x, int type) noexcept nogil:
    """Return a float cut to an integer of this type; those beyond it as x86 CPUs do."""
    cdef int64_t integer
    if x >= -9223372036854775808.0 and x < 9223372036854775808.0:
        integer = <int64_t>x
        return -2147483648 if type == TYPE_INT32 and not -2147483648 <= integer <= 2147483647 else integer
    return INT64_MIN if type == TYPE_INT64 else -2147483648
