cimport cython

from asgi_llm.middleware._cache_answer cimport AnswerHead
from asgi_llm.middleware._cache_request cimport CacheRequest
from asgi_llm.stores._kept_answer cimport KeptAnswer


cdef class Flight:
    cdef readonly object loop
    cdef readonly CacheRequest request
    cdef readonly list parts
    cdef public object failures
    cdef readonly Py_ssize_t followers
    cdef readonly Py_ssize_t joined
    cdef readonly AnswerHead head
    cdef object _answer
    cdef KeptAnswer _kept
    cdef readonly double age_seconds
    cdef readonly bint over
    cdef public bint looking
    cdef readonly bint too_long
    cdef readonly bint whole
    cdef Py_ssize_t _dropped
    cdef bint _given
    cdef Py_ssize_t _size
    cdef Py_ssize_t _visible
    cdef list _waiting

    cdef object _set_out(self, CacheRequest request)
    cpdef object feed(self, chunk, max_bytes)
    cpdef object body(self)
    cpdef object finish(self, answer, double age_seconds=*)
    cpdef object finish_with(self, KeptAnswer kept)
    cdef object _show_all(self)
    cdef object _drop(self, max_bytes)
    cdef object _wake(self)


@cython.final
cdef class Flights:
    cdef dict _under_way

    @cython.locals(flight=Flight)
    cpdef Flight find(self, key)

    cpdef object begin(self, key, Flight flight)
    cpdef object end(self, key, Flight flight)


cdef class Departure:
    cdef object _left
