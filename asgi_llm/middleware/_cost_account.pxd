cimport cython
from asgi_llm.middleware._cost_bill cimport TextBill, make_bill
from asgi_llm.middleware._cost_books cimport Books
from asgi_llm.middleware._cost_kinds cimport Kind, Place
from asgi_llm.middleware._cost_quick cimport is_standard, is_text_alone, monotonic
from asgi_llm.middleware._cost_rows cimport Asked
from asgi_llm.middleware._cost_usage cimport AnswerMeter
from asgi_llm.state cimport State


cdef class Meterage:
    cdef public Books books
    cdef public object clock
    cdef public object counter
    cdef public object drain_seconds
    cdef public object pricer
    cdef public bint tells
    cdef public bint has_own_clock


cdef class AnswerAccount(Asked):
    cdef double _begun
    cdef str _cost_text
    cdef bint _ended
    cdef object _first
    cdef dict _held
    cdef bint _hides
    cdef bint _is_json
    cdef bint _is_stream
    cdef object _lease
    cdef object _left
    cdef AnswerMeter _meter
    cdef Meterage _meterage
    cdef object _over
    cdef Py_ssize_t _room
    cdef object _send
    cdef State _state
    cdef object _status
    cdef bint _told

    cdef bint _end_at_once(self, outcome) except -1
    @cython.locals(meterage=Meterage, state=State, books=Books)
    cdef bint _end_usual(self, chunk) except -1
    @cython.locals(meter=AnswerMeter, state=State)
    cdef bint _end_stream(self, outcome) except -1
    @cython.locals(
        meterage=Meterage, state=State, kind=Kind, place=Place, bill=TextBill, now=double
    )
    cdef bint _close_text(self, usage) except -1
    cdef AnswerMeter _keeper(self)
    cdef object _note_over(self)
    cdef object _hit(self)
