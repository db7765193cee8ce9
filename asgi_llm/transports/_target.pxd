cimport cython


@cython.final
cdef class HeadEncoder:
    cdef set _names
    cdef dict _blocks

    @cython.locals(known=tuple)
    cpdef bytes encode(self, bytes prefix, headers, bytes framing)
    cdef bytes _block(self, headers)
    cdef _check_name(self, name)
