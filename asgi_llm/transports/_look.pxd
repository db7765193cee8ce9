cimport cython


@cython.final
cdef class SocketLook:
    cdef int _fileno

    cpdef bint has_come(self) noexcept
    cpdef bint takes_more(self) noexcept
