cimport cython

from asgi_llm.transports._response cimport Http1Response


cdef class Parsing:
    cdef Http1Response _response
    cdef list _parts
    cdef public object on_body
    cdef list _headers
    cdef bint _is_head
    cdef bint _started
    cdef bint _complete
    cdef bint _interim
    cdef bint _keep
    cdef object _malformed
    cdef Py_ssize_t _head_bytes
    cdef Py_ssize_t _count
    cdef object _parser

    cdef bint _head_fits(self, Http1Response response, Py_ssize_t max_bytes) except -1
    cdef _refuse(self, why)
