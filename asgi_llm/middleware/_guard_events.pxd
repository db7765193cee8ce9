cimport cython

from asgi_llm.middleware._guard_guarding cimport Guarding


cdef class GuardedEvents:
    cdef Guarding _guarding
    cdef object _noted, _queue, _template
    cdef bint _passes, _strict
    cdef dict _lanes, _contents, _choices, _odd, _gone, _sounds
    cdef list _out, _whole
    cdef Py_ssize_t _waiting, _max_held, _sound_size
