cimport cython
from asgi_llm._body cimport BufferedBody
from asgi_llm.middleware._cost_account cimport AnswerAccount
from asgi_llm.middleware._cost_usage cimport AnswerMeter


cdef class CostedAnswer(AnswerAccount):
    cdef Py_ssize_t _choices_at
    cdef bint _done
    cdef list _parts
    cdef bytes _tail
    cdef bint _watches
    cdef readonly object receive

    cpdef bint is_over(self)
    cpdef object take(self, BufferedBody body)
    cdef bint _passes(self, dict message) except -1
    @cython.locals(room=Py_ssize_t, at=Py_ssize_t)
    cdef bint _takes(self, bytes chunk) except -1
    @cython.locals(meter=AnswerMeter)
    cdef object _keep(self, chunk)
    @cython.locals(size=Py_ssize_t)
    cdef object _start(self, message)
    cdef object _told_start(self)


cdef class _Sent:
    pass
