cimport cython


@cython.final
@cython.no_gc
cdef class KeptAnswer:
    cdef object _answer
    # For ``RecentTable``: its neighbours there, which it does not own, and its key.
    cdef void* _older
    cdef void* _newer
    cdef object _key
    cdef readonly bytes body
    cdef readonly object operation
    cdef readonly object scope
    cdef readonly object model
    cdef readonly double fresh_seconds
    cdef readonly double keep_seconds
    cdef readonly bint is_stream
    cdef readonly bint tells_usage
    cdef readonly bint may_be_stored
    cdef readonly tuple headers
    cdef readonly object namespace
    cdef readonly object written_by
    cdef readonly object provider
    cdef readonly object response_model
    cdef readonly object usage
    cdef readonly object report
    cdef readonly object input_tokens
    cdef readonly object output_tokens
    cdef readonly double made_at
    cdef readonly double gone_at
    cdef readonly long long size


@cython.locals(kept=KeptAnswer)
cpdef KeptAnswer keep_answer(answer)


cdef int _ENTRY_BYTES
cdef int _PAIR_BYTES
cdef int _WIDE


cpdef long long answer_size(answer) except -1


@cython.locals(letters=cython.longlong, total=cython.longlong)
cpdef long long entry_size(
    body, headers, scope, model, namespace, written_by, provider, response_model
) except -1
