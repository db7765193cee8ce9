cimport cython


# It holds nothing that could hold it.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ShortCall:
    cdef public object id
    cdef public object request_id
    cdef public object at
    cdef public bint streamed
    cdef public object tokens_in
    cdef public object tokens_out
    cdef public object latency_seconds
    cdef public object first_seconds
    cdef public long long segment
    cdef public long long offset
    cdef public long long room


cpdef ShortCall new_call(object id, object request_id, object at, bint streamed, object tokens_in)


@cython.final
cdef class RecordBuffer:
    cdef Py_buffer _view
    cdef unsigned char* _start
    cdef Py_ssize_t _size

    cpdef bint put_intent(
        self, Py_ssize_t place, long long back_to_head, long long back_to_ending, ShortCall call
    ) except -1
    cpdef bint put_outcome(
        self,
        Py_ssize_t place,
        long long back_to_head,
        long long back_to_ending,
        ShortCall call,
        double written,
    ) except -1
    cpdef release(self)
