cimport cython


@cython.final
cdef class PassThroughStream:
    cdef Py_ssize_t _choices
    cdef bint _done_optional
    cdef bint _finish_reason_optional
    cdef set _finished
    cdef list _held
    cdef Py_ssize_t _max
    cdef list _parts
    cdef Py_ssize_t _passed
    cdef object _provider
    cdef object _secrets
    cdef Py_ssize_t _size
    cdef bytes _tail
    cdef public bint done
    cdef public object error
    cdef public object usage

    cpdef bytes feed(self, bytes chunk)
    cdef bint _is_over(self)
    cdef _keep(self, bytes rest)
    cdef bytes _inspect(self, bytes chunk)
    cdef _look(self, data)
    cdef _fail_over_cap(self)
    cdef bytes _release(self)
    cdef _fail(self, error)


cdef bint _is_plain(bytes chunk) except -1
cdef bint _finishes_nothing(bytes data) except -1
