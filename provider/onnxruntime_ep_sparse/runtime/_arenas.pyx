"""Memory of activations and scratch, which is used during runs only: all programs of the process take it from one pool.

Ten sessions that run one after the other have one arena together. An arena goes with the program that had it last.

A run that no waiting arena is large enough for takes the place of the largest: so there are never more arenas than runs were active at the
same time. Arenas are mappings of their own and go back to the system as a whole. From malloc they left holes: in a ResNet-50 whose batch
grew from 1 to 25 arenas of 16 MB held 118 MB, 305 MB without ONNX Runtime's own arena.

The pages that a large run has touched are kept for the next EPOCH runs of the process, at most for twice as many: so one image of 4K does
not stay for as long as the process lives, and sizes that take turns cost nothing. The arenas of a burst of callers go in the same way.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc

from ._lock cimport *
from ._structs cimport RELAXED, fetch_add

cdef extern from *:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #define SPARSE_HUGE ((size_t)2 << 20)
    /* Memory for activations, zero or not, aligned to a huge page if it has one: tiles touch a page a channel, so huge pages save most TLB
       misses. No part of it is resident before it is touched. */
    #if defined(_WIN32)
    static void *sparse_map(size_t bytes) { return _aligned_malloc(bytes, 64); }
    static void sparse_unmap(void *memory, size_t bytes) { (void)bytes; _aligned_free(memory); }
    static void sparse_drop_pages(char *memory, size_t begin, size_t end) { (void)memory; (void)begin; (void)end; }
    #else
    #include <sys/mman.h>
    static void sparse_unmap(void *memory, size_t bytes) { munmap(memory, bytes); }
    static void *sparse_map(size_t bytes) {
        const size_t more = bytes >= SPARSE_HUGE ? SPARSE_HUGE : 0;
        char *memory = (char *)mmap(NULL, bytes + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        size_t before;
        if (memory == (char *)MAP_FAILED) return NULL;
        if (!more) return memory;
        before = (SPARSE_HUGE - (uintptr_t)memory % SPARSE_HUGE) % SPARSE_HUGE;
        if (before) sparse_unmap(memory, before);
        if (more > before) sparse_unmap(memory + before + bytes, more - before);
    #if defined(MADV_HUGEPAGE)
        madvise(memory + before, bytes, MADV_HUGEPAGE);
    #endif
        return memory + before;
    }
    /* Gives pages back to the system; what they held is lost. */
    static void sparse_drop_pages(char *memory, size_t begin, size_t end) {
    #if defined(__linux__)
        madvise(memory + begin, end - begin, MADV_DONTNEED);
    #else
        madvise(memory + begin, end - begin, MADV_FREE);
    #endif
    }
    #endif
    """
    void* sparse_map(size_t bytes) nogil
    void sparse_unmap(void* memory, size_t bytes) nogil
    void sparse_drop_pages(char* memory, size_t begin, size_t end) nogil
    size_t HUGE_PAGE "SPARSE_HUGE"

cdef enum:
    MAX_ARENAS = 64    # that wait; so many runs at once find one each
    EPOCH = 256        # runs
    PAGE = 64 * 1024   # a multiple of every system's page but the huge one


EPOCH_RUNS = EPOCH

cdef int64_t returned = 0
cdef Arena* waiting = NULL
cdef int n_waiting = 0
cdef int64_t swept = 0    # the epoch in which arenas without use were looked for last

if make_process_lock():
    raise MemoryError("no memory for a lock of arenas")


cdef Arena* arena_take(const void* user, int64_t floats) noexcept nogil:
    """Return the user's own arena, else the smallest that is large enough, else a new one that replaces the largest that waits."""
    cdef Arena* arena = NULL
    cdef Arena* outgrown = NULL
    cdef Arena** link
    cdef Arena** best = NULL
    cdef Arena** largest = NULL
    process_lock()
    link = &waiting
    while link[0] != NULL:
        if link[0].floats >= floats and (best == NULL or better(link[0], best[0], user)):
            best = link
        if largest == NULL or link[0].floats > largest[0].floats:
            largest = link
        link = &link[0].next
    if best != NULL:
        arena = taken_out(best)
    elif largest != NULL:
        outgrown = taken_out(largest)
    process_unlock()
    arena_free(outgrown)
    if arena == NULL:
        arena = arena_new(floats)
    if arena != NULL:
        arena.user = user
        arena.recent = max(arena.recent, floats)
        arena.touched = max(arena.touched, floats)
    return arena


cdef inline bint better(const Arena* a, const Arena* b, const void* user) noexcept nogil:
    if (a.user == user) != (b.user == user):
        return a.user == user
    return a.floats < b.floats


cdef Arena* arena_new(int64_t floats) noexcept nogil:
    """Return an arena, a quarter larger than needed at most: sizes that grow by one seldom need another. Untouched pages cost nothing."""
    cdef Arena* arena = <Arena*>malloc(sizeof(Arena))
    cdef size_t bytes = floats * sizeof(float), step = PAGE
    if arena == NULL:
        return NULL
    while step * 8 <= bytes:
        step *= 2
    arena.bytes = (bytes + step - 1) // step * step
    arena.data = <float*>sparse_map(arena.bytes)
    if arena.data == NULL:
        free(arena)
        return NULL
    arena.floats = arena.bytes // sizeof(float)
    arena.touched = arena.recent = 0
    arena.epoch = returned // EPOCH
    return arena


cdef void arena_free(Arena* arena) noexcept nogil:
    if arena != NULL:
        sparse_unmap(arena.data, arena.bytes)
        free(arena)


cdef void all_freed(Arena* gone) noexcept nogil:
    cdef Arena* arena
    while gone != NULL:
        arena = gone
        gone = arena.next
        arena_free(arena)


cdef void epoch_ended(Arena* arena, int64_t epoch) noexcept nogil:
    """Pages beyond what the runs of the epoch have needed go back to the system."""
    cdef size_t needed = arena.recent * sizeof(float), end = arena.touched * sizeof(float)
    needed = (needed + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
    if needed < end:
        sparse_drop_pages(<char*>arena.data, needed, (end + PAGE - 1) // PAGE * PAGE)
        arena.touched = needed // sizeof(float)
    arena.recent = 0
    arena.epoch = epoch


cdef Arena* taken_out(Arena** link) noexcept nogil:
    """Remove an arena from its list and return it. The caller holds the lock."""
    global n_waiting
    cdef Arena* arena = link[0]
    link[0] = arena.next
    n_waiting -= 1
    return arena


cdef void arena_return(Arena* arena) noexcept nogil:
    """Back into the pool. When it is full, the smallest arena goes; at the end of an epoch those go that the one before has not used."""
    global waiting, n_waiting, swept
    cdef int64_t epoch = fetch_add(&returned, 1, RELAXED) // EPOCH
    cdef Arena** link
    cdef Arena** smallest
    cdef Arena* gone = NULL
    if arena.epoch != epoch:
        epoch_ended(arena, epoch)
    process_lock()
    arena.next = waiting
    waiting = arena
    n_waiting += 1
    if n_waiting > MAX_ARENAS:
        smallest = link = &waiting
        while link[0] != NULL:
            if link[0].floats < smallest[0].floats:
                smallest = link
            link = &link[0].next
        gone = taken_out(smallest)
        gone.next = NULL
    link = &waiting
    while swept < epoch and link[0] != NULL:
        if link[0].epoch < epoch - 1:
            put_before(&gone, taken_out(link))
        else:
            link = &link[0].next
    swept = max(swept, epoch)
    process_unlock()
    all_freed(gone)


cdef inline void put_before(Arena** first, Arena* arena) noexcept nogil:
    arena.next = first[0]
    first[0] = arena


cdef void arenas_forget(const void* user) noexcept nogil:
    cdef Arena* gone = NULL
    cdef Arena** link
    process_lock()
    link = &waiting
    while link[0] != NULL:
        if link[0].user == user:
            put_before(&gone, taken_out(link))
        else:
            link = &link[0].next
    process_unlock()
    all_freed(gone)


def held():
    """Return how many arenas wait for a run, and how many bytes of them runs have used since these pages came from the system."""
    cdef int64_t floats = 0
    cdef int count
    cdef Arena* arena
    process_lock()
    count = n_waiting
    arena = waiting
    while arena != NULL:
        floats += arena.touched
        arena = arena.next
    process_unlock()
    return count, floats * sizeof(float)


cdef class Loan:
    """An arena of at least `floats` for the user of that number, for tests: `address` and `floats` say which, `give_back` returns it."""
    cdef Arena* arena
    cdef readonly uintptr_t address
    cdef readonly int64_t floats

    def __cinit__(self, uintptr_t user, int64_t floats):
        self.arena = arena_take(<const void*>user, floats)
        if self.arena == NULL:
            raise MemoryError(f"no memory for {floats} floats")
        self.address = <uintptr_t>self.arena.data
        self.floats = self.arena.floats

    def give_back(self):
        """Return the arena to the pool; a second time does nothing."""
        if self.arena != NULL:
            arena_return(self.arena)
            self.arena = NULL

    def __dealloc__(self):
        self.give_back()


def forget(uintptr_t user):
    """Free what the user of that number had last, for tests."""
    arenas_forget(<const void*>user)
