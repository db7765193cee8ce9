cimport cython

from asgi_llm._sending cimport send_both
from asgi_llm.middleware._guard_content cimport content_of
from asgi_llm.middleware._guard_panel cimport Panel
from asgi_llm.middleware._guard_quick cimport PanelLook
from asgi_llm.middleware._guard_shared cimport Guarded, Settings
from asgi_llm.middleware._guard_stream cimport GuardedStream

cdef bytes _JSON
cdef Py_ssize_t _MEDIA_LENGTH, _CODING_LENGTH


@cython.locals(answer=GuardedAnswer)
cpdef GuardedAnswer to_answer(Guarded guarded, object send)


@cython.final
@cython.freelist(64)
cdef class GuardedAnswer:
    cdef Guarded _guarded
    cdef object _send, _gate, _parts
    cdef GuardedStream _stream
    cdef public tuple held
    cdef bint _is_whole, _may_retry, _refused
    cdef Py_ssize_t _size
    cdef public bint wants_retry

    cdef object _set_up(self, Guarded guarded, object send)
    @cython.locals(stream=GuardedStream, held=tuple)
    cdef object _take_now(self, dict message)
    @cython.locals(length=Py_ssize_t, is_coded=bint, guarded=Guarded, panel=Panel, known=bytes)
    cdef object _start(self, dict message)
    @cython.locals(guarded=Guarded, look=PanelLook, content=bytes)
    cdef bint _is_clean(self, object data) except -1
    cdef object _told(self, object message)
