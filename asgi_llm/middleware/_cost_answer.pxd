cimport cython
from asgi_llm.middleware._cost_account cimport AnswerAccount, Meterage
from asgi_llm.middleware._cost_kinds cimport Kind
from asgi_llm.middleware._cost_quick cimport (
    find_choices,
    is_body,
    is_event,
    is_start,
    last_header,
    monotonic,
    row_id,
    to_microseconds,
    with_header,
)
from asgi_llm._sending cimport hand_on
from asgi_llm.middleware._cost_usage cimport AnswerMeter
from asgi_llm.state cimport State



cdef class CostedAnswer(AnswerAccount):
    cdef Py_ssize_t _choices_at
    cdef bint _done
    cdef list _parts
    cdef bytes _tail
    cdef bint _watches
    cdef readonly object receive

    @cython.locals(fields=dict, held=dict)
    cpdef object send(self, message)
    cpdef bint is_over(self)
    cpdef object reserve(self, lease)
    cpdef object expect_usage(self, bint told, bint hides)
    cdef bint _passes(self, dict message) except -1
    @cython.locals(room=Py_ssize_t, at=Py_ssize_t)
    cdef bint _takes(self, bytes chunk) except -1
    @cython.locals(meter=AnswerMeter)
    cdef object _keep(self, chunk)
    cdef dict _start(self, dict message)
    @cython.locals(message=dict)
    cdef dict _told_start(self)


@cython.locals(one=CostedAnswer)
cpdef CostedAnswer make_answer(
    Meterage meterage,
    object receive,
    object send,
    State state,
    double seconds,
    Kind kind,
    object plan,
    dict document,
    long long tokens,
    bint is_plain,
)
