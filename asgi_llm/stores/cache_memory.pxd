cimport cython


@cython.final
@cython.no_gc
cdef class KeptAnswer:
    cdef object _answer
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


cdef class MemoryCache:
    cdef double _max_bytes
    cdef double _most_of_one
    cdef object _clock
    cdef object _kept
    cdef long long _bytes
    cdef double _checked_until
    cdef double _now
    cdef long long _hits
    cdef long long _misses
    cdef long long _writes
    cdef long long _evictions

    @cython.locals(kept=KeptAnswer)
    cpdef object look(self, key)

    @cython.locals(kept=KeptAnswer, now=cython.double)
    cpdef KeptAnswer find(self, key)

    cpdef double age(self, KeptAnswer kept) except? -1

    cpdef object put(self, key, answer, double age_seconds=*, double keep_seconds=*)

    @cython.locals(now=cython.double)
    cpdef object keep(self, key, KeptAnswer kept, double age_seconds=*, double keep_seconds=*)

    @cython.locals(kept=KeptAnswer)
    cdef object _drop(self, key)

    @cython.locals(kept=KeptAnswer)
    cdef object _drop_oldest(self, double now)

    cdef object _make_room(self)
