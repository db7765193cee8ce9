cimport cython

from asgi_llm.stores._kept_answer cimport KeptAnswer, answer_size, keep_answer
from asgi_llm.stores._recent cimport RecentTable


cdef class MemoryCache:
    cdef double _max_bytes
    cdef double _most_of_one
    cdef object _clock
    cdef RecentTable _kept
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
