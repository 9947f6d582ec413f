"""Loops over elements, and their cut into items: what steps that walk through whole tensors share."""

from libc.stdint cimport int64_t, uint8_t

from ._structs cimport MAX_RANK, ceil_div

cdef enum:
    ACTIVATE_CHUNK = 16384    # elements of an item, about


# Elements that steps move, by their size: 8-bit integers of either type, floats and int32, or int64.
ctypedef fused Element:
    uint8_t
    float
    int64_t


# Loops over a tensor, innermost last, with the strides of two sides; `runs` counts the turns of the innermost loop.
cdef struct Loops:
    int n
    int64_t extent[MAX_RANK]
    int64_t a_stride[MAX_RANK]
    int64_t b_stride[MAX_RANK]
    int64_t inner
    int64_t runs


cdef inline int64_t runs_per_item(int64_t inner) noexcept nogil:
    return ACTIVATE_CHUNK // inner if inner < ACTIVATE_CHUNK else 1


cdef inline int64_t items_of_runs(int64_t runs, int64_t inner) noexcept nogil:
    """Items of about ACTIVATE_CHUNK elements that runs of `inner` elements make."""
    return (runs + runs_per_item(inner) - 1) // runs_per_item(inner) if runs and inner else 0


cdef inline int64_t even_items(int64_t runs, int64_t inner, int64_t workers) noexcept nogil:
    """Items of at most about ACTIVATE_CHUNK elements, with which the workers end together where there are enough runs."""
    return min(runs, ceil_div(items_of_runs(runs, inner), workers) * workers)


cdef inline int64_t item_begin(int64_t index, int64_t items, int64_t runs, int64_t multiple) noexcept nogil:
    """Return the first run of an item of even_items, rounded down to a multiple; for `items`, the end of the last one."""
    return runs if index == items else index * runs // items // multiple * multiple


cdef inline void run_places(const Loops* loops, int64_t run, int64_t* a, int64_t* b) noexcept nogil:
    """Find how far from the first element a run of the innermost loop begins on either side."""
    cdef int64_t i
    cdef int loop
    a[0] = b[0] = 0
    for loop in range(loops.n - 2, -1, -1):
        i = run % loops.extent[loop]
        run //= loops.extent[loop]
        a[0] += i * loops.a_stride[loop]
        b[0] += i * loops.b_stride[loop]


cdef inline int64_t cut_run(const Loops* loops, int64_t place, int64_t end, int64_t* a, int64_t* b) noexcept nogil:
    """Find where the element at `place` stands on either side; return how many follow in its run of the innermost loop, before `end`."""
    cdef int64_t inside = place % loops.inner
    run_places(loops, place // loops.inner, a, b)
    a[0] += inside * loops.a_stride[loops.n - 1]
    b[0] += inside * loops.b_stride[loops.n - 1]
    return min(loops.inner - inside, end - place)
