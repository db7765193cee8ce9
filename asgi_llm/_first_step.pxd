cimport cython


@cython.final
cdef class Begun:
    cdef readonly object coroutine
    cdef readonly object waits_for


cpdef object first_step(object awaitable)
