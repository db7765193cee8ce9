cimport cython
from asgi_llm.state cimport State


@cython.final
cdef class Gate:
    cdef frozenset _paths
    cdef object _max_body_bytes
    cdef object _body_timeout
    cdef Py_ssize_t _sure_digits

    cpdef object path_of(self, scope)
    cpdef object read(self, scope, State state, receive)
