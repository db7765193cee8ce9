cimport cython

cdef int _SHIFT, _WIDTH, _STEM, _SETS, _WAYS, _TO_SET, _KNOWN, _BITS, _COLUMNS, _NEVER, _LATEST
cdef int _KEPT_ROOM, _SPACE, _SINGLE, _DOT, _COLON
cdef int _A_DOT, _A_SINGLE, _AN_END, _A_DOUBLE, _A_QUESTION
cdef unsigned long long _ALL, _ODD, _OTHER_ODD
cdef bytes _CODES


@cython.final
cdef class Room:
    cdef int[::1] words
    cdef long long[::1] sums


@cython.final
cdef class WordScan:
    cdef object _resolve
    cdef int _quote, _sentence, _question, _bits
    cdef long long _now, _memory, _reach, _first_pair, _first_group
    cdef unsigned long long _slots
    cdef Py_ssize_t _longest, _most_touched
    cdef double _bias_of_jailbreak, _bias_of_injection, _bias_of_guided
    cdef double[::1] _touched, _shares, _less
    cdef long long[::1] _spans, _keys
    cdef unsigned long long[::1] _known
    cdef int[::1] _rows
    cdef Room _room

    cpdef double highest(self, bytes data) except? -1e301
    @cython.locals(room=Room, count=Py_ssize_t, highest=double)
    cpdef double highest_of_part(
        self, bytes data, Py_ssize_t start, Py_ssize_t stop
    ) except? -1e301
    @cython.locals(
        text="const unsigned char*", codes="const unsigned char*",
        count=Py_ssize_t, shift=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t,
        at=Py_ssize_t, low="unsigned long long", high="unsigned long long",
        code="unsigned long long", letters="unsigned long long",
        following=int, mark=int, slot=Py_ssize_t,
    )
    cdef Py_ssize_t _read(
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
    @cython.locals(
        memory="long long", reach="long long", bits=int, slots="unsigned long long",
        now="long long", of_groups="long long", quote=int, is_quoted=bint, before="long long",
        jailbreak="long long", injection="long long", guided="long long",
        one="long long", two="long long", three="long long", four="long long",
        at_one="long long", at_two="long long", at_three="long long", at_four="long long",
        number=Py_ssize_t, info=int, stem="long long", group="long long", row="long long",
        key="long long", slot="unsigned long long", turn=int, other="long long",
    )
    cdef double _judge(self, Room room, Py_ssize_t count) except? -1e301
    @cython.locals(
        less=double, touched=Py_ssize_t, of_jailbreak=double,
        of_injection=double, of_guided=double, highest=double, number=Py_ssize_t,
        span=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, share=double, margin=double,
    )
    cdef double _highest(self, Room room, Py_ssize_t count) except? -1e301


@cython.final
cdef class Ceiling:
    cdef WordScan _scan
    cdef double _least

    cpdef bint is_above(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1
