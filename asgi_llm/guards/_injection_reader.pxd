cimport cython

cdef int _SETS, _WAYS, _KNOWN, _TO_SET, _BITS
cdef int _SPACE, _SINGLE, _DOT, _COLON
cdef int _A_DOT, _A_SINGLE, _AN_END, _A_DOUBLE, _A_QUESTION
cdef unsigned long long _ALL, _ODD, _OTHER_ODD
cdef bytes _CODES


@cython.final
cdef class Room:
    cdef int[::1] words
    cdef long long[::1] sums


@cython.final
cdef class WordReader:
    cdef object _resolve
    cdef int _quote, _sentence, _question
    cdef unsigned long long[::1] _known

    @cython.locals(
        text="const unsigned char*", codes="const unsigned char*",
        count=Py_ssize_t, shift=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t,
        at=Py_ssize_t, low="unsigned long long", high="unsigned long long",
        code="unsigned long long", letters="unsigned long long",
        following=int, mark=int, slot=Py_ssize_t,
    )
    cdef Py_ssize_t read(
        self, bytes data, Py_ssize_t start, Py_ssize_t stop, Room room
    ) except -1
    @cython.locals(following=int)
    cdef bint _is_mark(
        self, const unsigned char* text, Py_ssize_t start, Py_ssize_t at, Py_ssize_t stop
    ) noexcept
    @cython.locals(
        mixed="unsigned long long", first=Py_ssize_t, behind=Py_ssize_t, slot=Py_ssize_t, info=int,
        place=Py_ssize_t,
    )
    cdef int _find(
        self, unsigned long long low, unsigned long long high, bytes data, Py_ssize_t begin,
        Py_ssize_t end, Py_ssize_t bits
    ) except -1
    cdef int _resolve_in(self, bytes data, Py_ssize_t begin, Py_ssize_t end) except -1
