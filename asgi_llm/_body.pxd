cimport cython

from asgi_llm._first_step cimport Begun, first_step
from asgi_llm.state cimport State


cdef class BufferedBody:
    cdef public object data
    cdef object _receive
    cdef bint _given

    cpdef object take(self)


cdef class ArrivingBody:
    cdef object _arriving


cpdef object take_body(object receive, Py_ssize_t max_bytes)
cpdef object check_and_take(object scope, object receive, Py_ssize_t max_bytes)
@cython.locals(body=BufferedBody)
cdef object _buffered(object receive, Py_ssize_t max_bytes)
cdef object _first_message(object receive, Py_ssize_t max_bytes)
@cython.locals(digits=Py_ssize_t)
cpdef object check_length(object scope, object max_bytes)
