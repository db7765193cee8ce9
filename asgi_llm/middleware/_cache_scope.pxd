cdef class Partitioner:
    cdef object _fields
    cdef object _find
    cdef object _headers
    cdef bint _shared
    cdef object _without

    cpdef object partition(self, scope, principal)
