cimport cython


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class _Kept:
    cdef readonly object answer
    cdef readonly double made_at
    cdef readonly double gone_at
    cdef long long size


cdef int _ENTRY_BYTES
cdef int _PAIR_BYTES
cdef int _WIDE


cpdef long long answer_size(answer) except -1


@cython.locals(letters=cython.longlong, total=cython.longlong)
cpdef long long entry_size(
    body, headers, scope, model, namespace, written_by, provider, response_model
) except -1


cdef class MemoryCache:
    cdef object _max_bytes
    cdef object _most_of_one
    cdef object _clock
    cdef object _kept
    cdef long long _bytes
    cdef double _checked_until
    cdef long long _hits
    cdef long long _misses
    cdef long long _writes
    cdef long long _evictions

    @cython.locals(kept=_Kept, now=cython.double)
    cpdef object look(self, key)

    @cython.locals(
        made_at=cython.double, now=cython.double, gone_at=cython.double,
        keeps=cython.double, kept=_Kept,
    )
    cpdef object put(self, key, answer, double age_seconds=*, double keep_seconds=*, long long size=*)

    @cython.locals(kept=_Kept)
    cdef object _drop(self, key)

    @cython.locals(kept=_Kept)
    cdef object _drop_oldest(self, double now)

    cdef object _make_room(self)
