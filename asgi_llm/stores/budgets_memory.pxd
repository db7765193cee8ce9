cimport cython
from asgi_llm.stores._clock cimport read_clock


cdef int _SMALL_BITS


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class _Hold:
    cdef public long long amount
    cdef public object more
    cdef public long long start
    cdef public double deadline


@cython.final
cdef class _Account:
    cdef public long long start
    cdef public long long end
    cdef public long long spent
    cdef public long long reserved
    cdef public object more
    cdef public object more_reserved
    cdef public long long room
    cdef public dict holds
    cdef public double next_lapse
    cdef public object parts
    cdef public object demand
    cdef public object rule
    cdef public object limit

    cpdef heed(self, object demand)
    cdef _measure(self)
    cdef _fold(self)
    cpdef total(self)
    cpdef total_reserved(self)
    cpdef bint has_room(self, object amount) except -1
    @cython.locals(hold=_Hold, small="long long", has_room=bint)
    cpdef bint keep(self, object lease, object amount, double deadline, bint force=*) except -1
    cpdef free(self, _Hold hold)
    @cython.locals(hold=_Hold, small="long long")
    cpdef settle(self, object lease, object actual)
    cpdef object add(self, object amount)
    cpdef object advance(self, object rule, object now)
    @cython.locals(hold=_Hold)
    cpdef bint is_over(self, long long now) except -1


cdef class MemoryBudgets:
    cdef object __weakref__
    cdef object _clock
    cdef object _max_entries
    cdef long long _latest
    cdef dict _accounts

    @cython.locals(
        account=_Account, now="long long", deadline=double, held=Py_ssize_t, every=tuple
    )
    cpdef bint hold_at_once(
        self, object demands, object amount, object lease, double lease_seconds=*
    ) except -1
    @cython.locals(account=_Account, now="long long", accounts=list)
    cpdef object settle_at_once(self, object demands, object lease, object actual, bint tells=*)
    @cython.locals(account=_Account)
    cdef object _take_back(self, object demands, object lease)
    @cython.locals(seconds=double, now="long long")
    cdef long long _now(self) except -1
    cdef _Account _known(self, object demand, object now)
    @cython.locals(account=_Account)
    cdef _Account _find(self, object demand, long long now)
    @cython.locals(account=_Account)
    cdef _Account _account(self, object demand, long long now, object demands)
    @cython.locals(account=_Account)
    cdef object _make_room(self, long long now, object demands)
