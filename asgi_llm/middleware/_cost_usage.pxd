from asgi_llm.middleware._cost_quick cimport tells_tier


cdef class AnswerMeter:
    cdef public list parts
    cdef public Py_ssize_t room
    cdef bint _is_stream
    cdef bint _is_json
    cdef Py_ssize_t _dropped
    cdef bytes _usage
    cdef object _tier
    cdef Py_ssize_t _tier_at

    cpdef object drop(self)
    cpdef bytes only(self)


cpdef bint has_usage_event(chunk)
