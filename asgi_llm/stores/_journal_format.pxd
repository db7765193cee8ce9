cpdef bytes pack_ids(object row, object request)

cpdef bytes pack_short_intent(
    long long back_to_head,
    long long back_to_ending,
    object at,
    bint streamed,
    object tokens_in,
    bytes ids,
)

cpdef bytes pack_short_outcome(
    long long back_to_head,
    long long back_to_ending,
    object at,
    bint streamed,
    object tokens_in,
    object tokens_out,
    object latency_seconds,
    object first_seconds,
    object written,
    bytes ids,
)

cdef class _Parser:
    cdef int _file
    cdef dict _shared
    cdef long long _shared_bytes

    cpdef object parse(self, bytes window, Py_ssize_t index, long long base)
    cdef object _short(self, int kind, bytes checked, long long start, long long end)
    cdef bytes _find(self, long long place)
    cdef object _note(self, long long place, bytes data)
