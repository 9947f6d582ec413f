"""Memory that is written once and then read by all programs of the process that need the same bytes: weights and what is made of them.

Blocks are found by a hash and compared byte by byte, so that it need not be a good one; the last program that drops a block frees it.
Plain C with a lock that is never freed, because programs are released without Python, also while the interpreter shuts down.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from ._lock cimport *
from ._mapped_files cimport mapping_drop

cdef enum:
    HEAD = 64         # bytes before the data: a cache line
    BUCKETS = 4096    # at first: BERT-base has 1,000 blocks


cdef struct Block:
    Block* next       # in its bucket
    uint64_t hash
    size_t size
    long references   # 0: not settled


cdef Block** table = <Block**>calloc(BUCKETS, sizeof(Block*))
cdef size_t buckets = BUCKETS
cdef long blocks = 0
cdef size_t held_bytes = 0

if table == NULL or make_process_lock():
    raise MemoryError("no memory for a table of shared memory and its lock")


cdef inline Block* block_of(void* data) noexcept nogil:
    return <Block*>(<char*>data - HEAD)


cdef inline void* data_of(Block* block) noexcept nogil:
    return <char*>block + HEAD


cdef uint64_t hash_of(const char* data, size_t size) noexcept nogil:
    """Return a hash of a block, 8 bytes at a time; bytes beyond its end count as zeros."""
    cdef uint64_t h = size, word
    cdef size_t i
    for i in range(0, size, 8):
        memcpy(&word, data + i, 8)
        h = (h ^ word) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 32
    return h


cdef void* shared_new(size_t size) noexcept nogil:
    cdef Block* block = <Block*>calloc(HEAD + size + 8, 1)
    if block == NULL:
        return NULL
    block.size = size
    return data_of(block)


cdef void* shared_settled(void* data) noexcept nogil:
    cdef Block* mine = block_of(data)
    cdef Block* found
    global blocks, held_bytes
    mine.hash = hash_of(<char*>data, mine.size)
    process_lock()
    found = table[mine.hash % buckets]
    while found != NULL and (found.hash != mine.hash or found.size != mine.size or memcmp(data_of(found), data, mine.size)):
        found = found.next
    if found == NULL:
        found = mine
        mine.next = table[mine.hash % buckets]
        table[mine.hash % buckets] = mine
        blocks += 1
        if blocks > <long>buckets:
            widen()
        held_bytes += mine.size
    found.references += 1
    process_unlock()
    if found != mine:
        free(mine)
    return data_of(found)


cdef void widen() noexcept nogil:
    """Twice as many buckets, so that a look-up compares few blocks however many there are. The caller holds the lock.

    Without memory the table stays as it is.
    """
    global table, buckets
    cdef Block** wider = <Block**>calloc(2 * buckets, sizeof(Block*))
    cdef Block* block
    cdef size_t i
    if wider == NULL:
        return
    for i in range(buckets):
        while table[i] != NULL:
            block = table[i]
            table[i] = block.next
            block.next = wider[block.hash % (2 * buckets)]
            wider[block.hash % (2 * buckets)] = block
    free(table)
    table = wider
    buckets *= 2


cdef void shared_drop(void* data) noexcept nogil:
    cdef Block* block
    cdef Block** link
    cdef bint last
    global blocks, held_bytes
    if data == NULL or mapping_drop(data):
        return
    block = block_of(data)
    process_lock()
    block.references -= 1
    last = block.references <= 0
    if block.references == 0:
        link = &table[block.hash % buckets]
        while link[0] != block:
            link = &link[0].next
        link[0] = block.next
        blocks -= 1
        held_bytes -= block.size
    process_unlock()
    if last:
        free(block)


def held():
    """Return how many blocks all programs of the process have together, and their bytes."""
    process_lock()
    found = blocks, held_bytes
    process_unlock()
    return found
