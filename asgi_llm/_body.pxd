cdef class BufferedBody:
    cdef public object data
    cdef object _receive
    cdef bint _given


cdef class ArrivingBody:
    cdef object _arriving


cpdef object take_body(object receive, object max_bytes)
