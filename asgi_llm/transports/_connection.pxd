cimport cython

from asgi_llm.transports._look cimport SocketLook
from asgi_llm.transports._parsing cimport Parsing
from asgi_llm.transports._response cimport Http1Response


@cython.final
cdef class Connection(Parsing):
    cdef object _drained
    cdef double _first_byte
    cdef Py_ssize_t _high_water
    cdef double _idle
    cdef bint _is_tls
    cdef SocketLook _look
    cdef object _loop
    cdef Py_ssize_t _max_header_bytes
    cdef object _pool
    cdef Py_ssize_t _seen_bytes
    cdef double _since
    cdef double _soonest
    cdef object _timeouts
    cdef object _timer
    cdef double _timer_at
    cdef double _total
    cdef double _total_at
    cdef object _transport
    cdef bint _uploaded
    cdef bint _write_paused
    cdef public bint closed
    cdef public bint has_place
    cdef public double idle_since
    cdef public bint paused

    @cython.locals(response=Http1Response, now=cython.double, due=cython.double)
    cpdef begin(self, bint is_head, timeouts, double total_at, bint uploaded)
    cdef _take_timeouts(self, timeouts)
    cpdef write(self, data, more=*)
    @cython.locals(now=cython.double)
    cpdef watch(self)
    cpdef resume(self)
    @cython.locals(response=Http1Response)
    cpdef fail(self, error)
    cpdef close(self)
    cpdef bint is_usable(self)
    cpdef bint has_news(self)
    cdef _take(self, Http1Response response)
    cdef _finish(self, Http1Response response)
    cdef bint _is_sent(self) except -1
    @cython.locals(response=Http1Response)
    cdef _over(self, exc)
    cdef _wake_writer(self)
    cdef _wait_from_now(self, double seconds)
    cdef _arm(self, double due)
