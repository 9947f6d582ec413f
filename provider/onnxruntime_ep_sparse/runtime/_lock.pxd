"""Python's portable mutex, and one of them for each module that has something for the whole process. None of it needs the GIL
(cpython.pythread declares that PyThread_free_lock does)."""

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    int WAIT_LOCK

cdef extern from *:
    """
    #include "pythread.h"
    #if !defined(_WIN32)
    #include <pthread.h>
    #endif
    static PyThread_type_lock sparse_process_lock;
    static void sparse_lock(void) { PyThread_acquire_lock(sparse_process_lock, WAIT_LOCK); }
    static void sparse_unlock(void) { PyThread_release_lock(sparse_process_lock); }
    /* The forking thread holds it during a fork: otherwise the child could wait for a thread that it does not have. */
    static int sparse_make_lock(void) {
        sparse_process_lock = PyThread_allocate_lock();
        if (!sparse_process_lock) return 1;
    #if !defined(_WIN32)
        return pthread_atfork(sparse_lock, sparse_unlock, sparse_unlock);
    #else
        return 0;
    #endif
    }
    """
    int make_process_lock "sparse_make_lock"() nogil
    void process_lock "sparse_lock"() nogil
    void process_unlock "sparse_unlock"() nogil
