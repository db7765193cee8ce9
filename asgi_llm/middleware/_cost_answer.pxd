cimport cython
from asgi_llm.middleware._cost_account cimport AnswerAccount
from asgi_llm.middleware._cost_usage cimport AnswerMeter


cdef class CostedAnswer(AnswerAccount):
    cdef bint _done
    cdef list _parts
    cdef bytes _tail
    cdef bint _watches

    cpdef bint is_over(self)
    cpdef object receiving(self, receive)
    @cython.locals(meter=AnswerMeter)
    cdef object _keep(self, chunk)
    @cython.locals(size=Py_ssize_t)
    cdef object _start(self, message)
    cdef object _told_start(self)


cdef class _Sent:
    pass
