cimport cython
from asgi_llm.middleware._cost_kinds cimport Kind
from asgi_llm.middleware._cost_quick cimport has_any, small_int, with_margin
from asgi_llm.wire.tokens cimport estimate_messages


cdef class WorstCase:
    cdef object _pricer
    cdef object _counter
    cdef double _margin
    cdef long long _default_output
    cdef object _max_output
    cdef object _cap
    cdef bint _clamps
    cdef bint _enforce
    cdef bint _is_plain
    cdef public object refusals

    cpdef long long count_plain(self, headers, Kind kind, dict document)
    @cython.locals(output="long long", reserved="long long")
    cpdef object amount_of(self, Kind kind, dict document, long long tokens, double seconds)
