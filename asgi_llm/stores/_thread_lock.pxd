cimport cython


@cython.final
cdef class ThreadLock:
    cdef bint _taken
    cdef bint _bolted
    cdef Py_ssize_t _waiting
    cdef object _acquire
    cdef object _release

    cpdef acquire(self)
    cpdef release(self)
    cdef _wait(self)
