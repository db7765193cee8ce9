cimport cython

from asgi_llm.middleware._guard_events cimport GuardedEvents
from asgi_llm.middleware._guard_frame cimport Frame
from asgi_llm.middleware._guard_guarding cimport Guarding
from asgi_llm.middleware._guard_lane cimport Lane



@cython.final
cdef class GuardedStream(GuardedEvents):
    cdef object _reader
    cdef list _run
    cdef Py_ssize_t _known, _frames_left, _room
    cdef str _said
    cdef Frame _frame
    cdef Lane _growing
    cdef bytes _tail

    @cython.locals(frame=Frame, length=Py_ssize_t, lane=Lane, text=str)
    cpdef object swallow(self, object chunk)
    cdef object _grow(self, Lane lane, object chunk, str text)
    @cython.locals(lane=Lane)
    cdef object _make_room(self)
    @cython.locals(
        guarding=Guarding, run=list, text=str, limit=Py_ssize_t, cut=Py_ssize_t,
        passed=Py_ssize_t, number=Py_ssize_t, length=Py_ssize_t, size=Py_ssize_t,
        waiting=Py_ssize_t,
    )
    cdef object _pass_run(self, Lane lane, Frame frame)
