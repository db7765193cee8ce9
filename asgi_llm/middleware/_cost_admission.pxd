cimport cython
from asgi_llm._body cimport BufferedBody
from asgi_llm.middleware._cost_account cimport Meterage
from asgi_llm.middleware._cost_answer cimport CostedAnswer, make_answer
from asgi_llm.middleware._cost_books cimport Books
from asgi_llm.middleware._cost_kinds cimport Kind, Kinds
from asgi_llm.middleware._cost_quick cimport wall
from asgi_llm.middleware._cost_worst cimport WorstCase
from asgi_llm.state cimport State
from asgi_llm.stores.budgets_memory cimport MemoryBudgets


cdef class Admission:
    cdef Kinds _kinds
    cdef WorstCase _worst
    cdef object _calls
    cdef MemoryBudgets _memory
    cdef Books _books
    cdef Meterage _meterage
    cdef bint _enforce
    cdef bint _deny
    cdef bint _has_own_clock
    cdef object _refusal_status
    cdef object _wall_clock
    cdef public object refusals

    cpdef CostedAnswer admit_at_once(self, scope, receive, send, State state, path, data)
    @cython.locals(
        kind=Kind,
        tokens="long long",
        seconds=double,
        told=bint,
        memory=MemoryBudgets,
        body=BufferedBody,
        answer=CostedAnswer,
    )
    cdef CostedAnswer _admit_known(self, receive, send, State state, path, data, dict document)
