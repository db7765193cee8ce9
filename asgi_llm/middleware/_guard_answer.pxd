cimport cython

from asgi_llm.middleware._guard_shared cimport Guarded, Settings
from asgi_llm.middleware._guard_stream cimport GuardedStream

cdef bytes _JSON
cdef Py_ssize_t _MEDIA_LENGTH, _CODING_LENGTH


@cython.final
cdef class GuardedAnswer:
    cdef Guarded _guarded
    cdef object _send, _gate, _parts
    cdef GuardedStream _stream
    cdef public tuple held
    cdef bint _is_whole, _may_retry, _refused
    cdef Py_ssize_t _size
    cdef public bint wants_retry

    @cython.locals(length=Py_ssize_t, is_coded=bint, guarded=Guarded)
    cdef object _start(self, object message)
    @cython.locals(guarded=Guarded)
    cdef bint _is_clean(self, object data) except -1
    cdef object _told(self, object message)
