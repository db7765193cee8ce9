cimport cython
from asgi_llm._body cimport BufferedBody
from asgi_llm.middleware._cost_account cimport Meterage
from asgi_llm.middleware._cost_answer cimport CostedAnswer
from asgi_llm.middleware._cost_kinds cimport Kind, Kinds
from asgi_llm.middleware._cost_worst cimport WorstCase
from asgi_llm.state cimport State


cdef class Admission:
    cdef Kinds _kinds
    cdef WorstCase _worst
    cdef object _calls
    cdef object _memory
    cdef object _books
    cdef Meterage _meterage
    cdef bint _enforce
    cdef bint _deny
    cdef object _refusal_status
    cdef object _wall_clock
    cdef public object refusals

    @cython.locals(answer=CostedAnswer)
    cpdef CostedAnswer admit_at_once(self, scope, receive, send, State state, path, data)
    @cython.locals(kind=Kind, tokens="long long", seconds=double, streamed=bint, told=bint)
    cdef CostedAnswer _admit_known(self, send, State state, path, dict document)
