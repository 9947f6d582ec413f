"""Files that are mapped into memory and read where they lie, so that all processes of a host have one copy of their pages.

A file is mapped once in a process, however many sessions use it. It stays mapped as long as anything reads it: a `MappedFile` in Python, or
a program in C that has kept a part of it. Plain C with a lock that is never freed, because programs are released without Python.

The mapped bytes change when a process writes to the file, and a read beyond the end of a truncated file is fatal (SIGBUS).
So replace such a file by renaming another one to its name, as `files.py` does: the mapping then keeps the old file.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from ._lock cimport *

import os
import stat

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* address, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void* address, size_t size)
    int PROT_READ
    int MAP_SHARED
    void* MAP_FAILED

cdef extern from "errno.h" nogil:
    int errno
    int EINVAL
    int ENOMEM


cdef struct Mapping:
    Mapping* next
    const char* data
    size_t size
    uint64_t device    # with the inode and the size: which file. It cannot become another one while it is mapped.
    uint64_t inode
    long references


cdef Mapping* mappings = NULL

if make_process_lock():
    raise MemoryError("no memory for a lock of mapped files")


cdef Mapping* mapping_at(const void* data, size_t size) noexcept nogil:
    """Return the mapping in which these bytes lie, or NULL. The caller holds the lock."""
    cdef Mapping* mapping = mappings
    cdef const char* begin = <const char*>data
    while mapping != NULL and not (begin >= mapping.data and begin + size <= mapping.data + mapping.size):
        mapping = mapping.next
    return mapping


cdef bint mapping_keep(const void* data, size_t size) noexcept nogil:
    cdef Mapping* mapping
    process_lock()
    mapping = mapping_at(data, size)
    if mapping != NULL:
        mapping.references += 1
    process_unlock()
    return mapping != NULL


cdef bint mapping_drop(const void* data) noexcept nogil:
    cdef Mapping* mapping
    cdef bint last = False
    process_lock()
    mapping = mapping_at(data, 1)
    if mapping != NULL:
        last = drop(mapping)
    process_unlock()
    if last:
        unmap(mapping)
    return mapping != NULL


cdef bint drop(Mapping* mapping) noexcept nogil:
    """Take a reference away, and take the mapping out of the list if that was the last; then return 1. The caller holds the lock."""
    cdef Mapping** link = &mappings
    mapping.references -= 1
    if mapping.references:
        return False
    while link[0] != mapping:
        link = &link[0].next
    link[0] = mapping.next
    return True


cdef void unmap(Mapping* mapping) noexcept nogil:
    munmap(<void*>mapping.data, mapping.size)
    free(mapping)


cdef Mapping* mapped(int descriptor, size_t size, uint64_t device, uint64_t inode, int* error) noexcept nogil:
    """Return the mapping of a file, with one reference more. NULL and an errno in `error` if there cannot be one."""
    cdef Mapping* made = <Mapping*>calloc(1, sizeof(Mapping))
    cdef Mapping* found
    cdef void* data
    global mappings
    error[0] = ENOMEM
    if made == NULL:
        return NULL
    process_lock()
    found = mappings
    while found != NULL and (found.device != device or found.inode != inode or found.size != size):
        found = found.next
    if found == NULL:
        data = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0)
        error[0] = errno
        if data != MAP_FAILED:
            found = made
            made = NULL
            found.data = <const char*>data
            found.size = size
            found.device = device
            found.inode = inode
            found.next = mappings
            mappings = found
    if found != NULL:
        found.references += 1
    process_unlock()
    free(made)
    return found


cdef class MappedFile:
    """The bytes of an ordinary file, read-only, by the buffer protocol."""

    cdef Mapping* mapping

    def __init__(self, path):
        """Map the file at `path`. OSError if that is not possible, or if it is not an ordinary file."""
        cdef uint64_t device, inode
        cdef size_t size
        cdef int error = 0, descriptor
        if self.mapping != NULL:
            raise RuntimeError("this MappedFile has a file already")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(EINVAL, "it is not an ordinary file")
            device, inode, size = status.st_dev, status.st_ino, status.st_size
            if not size:  # it has no page that could be mapped
                return
            with nogil:
                self.mapping = mapped(descriptor, size, device, inode, &error)
            if self.mapping == NULL:
                raise OSError(error, os.strerror(error))
        finally:
            os.close(descriptor)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef void* data = <void*>self.mapping.data if self.mapping != NULL else <void*>b""
        PyBuffer_FillInfo(buffer, self, data, self.mapping.size if self.mapping != NULL else 0, 1, flags)

    def __dealloc__(self):
        if self.mapping != NULL:
            mapping_drop(self.mapping.data)


def held():
    """Return how many files are mapped in this process, and their bytes."""
    cdef Mapping* mapping
    cdef size_t count = 0, size = 0
    process_lock()
    mapping = mappings
    while mapping != NULL:
        count += 1
        size += mapping.size
        mapping = mapping.next
    process_unlock()
    return count, size
