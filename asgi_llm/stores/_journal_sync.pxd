cdef class GroupSync:
    cdef object _interval_seconds
    cdef object _lock
    cdef object _work
    cdef object _stop
    cdef object _folder
    cdef int _current
    cdef list _retired
    cdef bint _is_refused
    cdef public bint is_due
    cdef public long long failures
    cdef object _thread

    cpdef bint wrote(self)
    cdef object _wake(self)
    cdef object _sync(self)
    cdef object _note(self, object error)
