"""Arithmetic of integers, as ONNX Runtime's CPU provider has it: what numbers of plans and steps share."""

from libc.stdint cimport int64_t, uint64_t

from ._enums cimport *


cdef void compute_integers(int op, int64_t* y, const int64_t* a, int64_t a_step, const int64_t* b, int64_t b_step,
                           int64_t n) noexcept nogil:
    # the compiler makes a loop of vectors for each of these cases
    if a_step == 1 and b_step == 1:
        compute(op, y, a, 1, b, 1, n)
    elif a_step == 1 and b_step == 0:
        compute(op, y, a, 1, b, 0, n)
    elif a_step == 0 and b_step == 1:
        compute(op, y, a, 0, b, 1, n)
    else:
        compute(op, y, a, a_step, b, b_step, n)


cdef inline void compute(int op, int64_t* y, const int64_t* a, int64_t a_step, const int64_t* b, int64_t b_step, int64_t n) noexcept nogil:
    cdef int64_t i
    if op == NUMBER_CAST:
        for i in range(n):
            y[i] = a[i * a_step]
    elif op == NUMBER_NEG:
        for i in range(n):
            y[i] = <int64_t>(0 - <uint64_t>a[i * a_step])
    elif op == NUMBER_ABS:
        for i in range(n):
            y[i] = <int64_t>(0 - <uint64_t>a[i * a_step]) if a[i * a_step] < 0 else a[i * a_step]
    elif op == NUMBER_NOT:
        for i in range(n):
            y[i] = a[i * a_step] == 0
    elif op == NUMBER_ADD:
        for i in range(n):
            y[i] = <int64_t>(<uint64_t>a[i * a_step] + <uint64_t>b[i * b_step])
    elif op == NUMBER_SUB:
        for i in range(n):
            y[i] = <int64_t>(<uint64_t>a[i * a_step] - <uint64_t>b[i * b_step])
    elif op == NUMBER_MUL:
        for i in range(n):
            y[i] = <int64_t>(<uint64_t>a[i * a_step] * <uint64_t>b[i * b_step])
    elif op == NUMBER_DIV:
        for i in range(n):
            y[i] = quotient(a[i * a_step], b[i * b_step])
    elif op == NUMBER_MOD:
        for i in range(n):
            y[i] = rest(a[i * a_step], b[i * b_step])
    elif op == NUMBER_MIN:
        for i in range(n):
            y[i] = min(a[i * a_step], b[i * b_step])
    elif op == NUMBER_MAX:
        for i in range(n):
            y[i] = max(a[i * a_step], b[i * b_step])
    elif op == NUMBER_EQUAL:
        for i in range(n):
            y[i] = a[i * a_step] == b[i * b_step]
    elif op == NUMBER_LESS:
        for i in range(n):
            y[i] = a[i * a_step] < b[i * b_step]
    elif op == NUMBER_LESS_EQUAL:
        for i in range(n):
            y[i] = a[i * a_step] <= b[i * b_step]
    elif op == NUMBER_AND:
        for i in range(n):
            y[i] = a[i * a_step] and b[i * b_step]
    else:
        for i in range(n):
            y[i] = a[i * a_step] or b[i * b_step]


cdef inline int64_t quotient(int64_t a, int64_t b) noexcept nogil:
    """Return a / b, cut towards 0; 0 for a divisor of 0, which only a damaged program has."""
    return <int64_t>(0 - <uint64_t>a) if b == -1 else (a // b if b else 0)


cdef inline int64_t rest(int64_t a, int64_t b) noexcept nogil:
    """Return the rest with the sign of the divisor, as ONNX's Mod has it."""
    cdef int64_t left = 0 if b == -1 else a - quotient(a, b) * b
    return left + b if left and (left < 0) != (b < 0) else left
