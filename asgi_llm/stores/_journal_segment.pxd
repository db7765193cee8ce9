cimport cython
from asgi_llm.stores._journal_short cimport RecordBuffer, ShortCall
from asgi_llm.stores._journal_sync cimport GroupSync


cdef long long _intent_bytes
cdef long long _outcome_bytes


@cython.final
cdef class Segment:
    cdef bint _always
    cdef RecordBuffer _bytes
    cdef long long _capacity
    cdef int _file
    cdef GroupSync _group
    cdef object _map
    cdef bytearray _record
    cdef dict _shared
    cdef long long _span_end
    cdef readonly long long number
    cdef readonly long long offset

    cpdef bint has_room(self, long long needed) except -1
    cpdef put(self, bytes record)
    @cython.locals(
        offset="long long", end="long long", place="long long",
        head_at="long long", ending_at="long long",
    )
    cpdef bint put_intent(
        self, ShortCall call, bytes head, bytes ending, long long keep
    ) except -1
    @cython.locals(
        offset="long long", end="long long", place="long long",
        head_at="long long", ending_at="long long",
    )
    cpdef bint put_outcome(
        self, ShortCall call, bytes head, bytes ending, double written
    ) except -1
    cpdef bint share(self, bytes head, bytes ending, long long needed) except -1
    cdef bint _write_made(self, Py_ssize_t length) except -1
    cdef _write(self, bytes record)
    cdef _unmap(self)
