cimport cython
from asgi_llm._asgi cimport route_path
from asgi_llm._body cimport ArrivingBody, take_body
from asgi_llm.middleware._cost_admission cimport Admission
from asgi_llm.middleware._cost_answer cimport CostedAnswer
from asgi_llm.middleware._cost_driving cimport drive
from asgi_llm.state cimport State, enter


@cython.final
cdef class Gate:
    cdef frozenset _paths
    cdef object _max_body_bytes
    cdef Py_ssize_t _sure_digits
    cdef Admission _admission
    cdef object _unusual
    cdef object _refuse

    @cython.locals(fields=dict, state=State, headers=dict, answer=CostedAnswer)
    cpdef object take_in(self, app, scope, receive, send)
