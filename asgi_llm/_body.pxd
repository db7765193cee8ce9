cimport cython


cdef class BufferedBody:
    cdef public object data
    cdef object _receive
    cdef bint _given


cdef class ArrivingBody:
    cdef object _arriving


@cython.final
cdef class _First:
    cdef readonly object message


@cython.locals(first=_First)
cpdef object take_body(object receive, object max_bytes)
