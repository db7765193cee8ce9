cimport cython


@cython.final
cdef class Frame:
    cdef readonly bytes head, tail
    cdef readonly Py_ssize_t length

    @cython.locals(known=bytes)
    cpdef Py_ssize_t room(self, object chunk) except -2
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t, data=bytes, text=str, known=bytes)
    cpdef str content(self, list chunks)
