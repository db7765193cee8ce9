cdef class BufferedBody:
    cdef public object data
    cdef object _receive
    cdef bint _given
