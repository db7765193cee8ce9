cimport cython


@cython.final
cdef class _Account:
    cdef public object start
    cdef public long long end
    cdef public object spent
    cdef public object reserved
    cdef public dict holds
    cdef public double next_lapse
    cdef public object parts

    cpdef object advance(self, object rule, object now)
    cpdef object add(self, object amount)


cdef class MemoryBudgets:
    cdef object __weakref__
    cdef object _clock
    cdef object _max_entries
    cdef long long _latest
    cdef dict _accounts

    @cython.locals(account=_Account, now="long long", deadline=double, held=Py_ssize_t)
    cpdef bint hold_at_once(
        self, object demands, object amount, object lease, double lease_seconds=*
    ) except -1
    @cython.locals(account=_Account, now="long long", uses=list)
    cpdef object settle_at_once(self, object demands, object lease, object actual, bint tells=*)
    @cython.locals(account=_Account)
    cdef object _take_back(self, object demands, object lease)
    @cython.locals(seconds=double, now="long long")
    cdef long long _now(self) except -1
    cdef _Account _known(self, object demand, object now)
    @cython.locals(account=_Account)
    cdef _Account _account(self, object demand, long long now)
    cdef object _make_room(self, long long now)
