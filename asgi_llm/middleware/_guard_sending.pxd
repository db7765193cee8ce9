cimport cython


@cython.final
cdef class _Nothing:
    pass
