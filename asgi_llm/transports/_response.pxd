cimport cython


@cython.final
cdef class Http1Response:
    cdef object _max_bytes
    cdef public list chunks
    cdef public object connection
    cdef public object error
    cdef public bint framed
    cdef public object headers
    cdef public object length
    cdef public Py_ssize_t size
    cdef public object status
    cdef public object waiter
    cdef public bint whole

    cpdef close(self)
    cpdef bint add(self, bytes chunk, Py_ssize_t high_water_bytes) except -1
    cpdef wake(self)
    cpdef take_error(self)
    cdef _refuse(self, max_bytes)
