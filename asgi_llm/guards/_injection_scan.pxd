cimport cython

cdef int _SHIFT, _WIDTH, _STEM, _SETS, _WAYS, _TO_SET, _BITS, _COLUMNS, _NEVER, _LATEST, _KEPT_ROOM
cdef int _SPACE, _NEWLINE, _EXCLAMATION, _DOUBLE, _SINGLE, _DOT, _COLON, _QUESTION
cdef unsigned long long _ALL, _ODD, _OTHER_ODD
cdef bytes _CODES


@cython.final
cdef class WordScan:
    cdef object _resolve
    cdef int _quote, _sentence, _question, _bits
    cdef long long _now, _memory, _reach, _first_pair, _first_group
    cdef double _bias_of_jailbreak, _bias_of_injection, _bias_of_guided, _doubling, _most, _short
    cdef double[::1] _touched, _shares
    cdef long long[::1] _spans, _keys, _sums
    cdef unsigned long long[::1] _lows, _highs
    cdef int[::1] _rows, _infos
    cdef int[::1] _room

    @cython.locals(
        room="int[::1]", sums="long long[::1]", count=Py_ssize_t, highest=double
    )
    cpdef double highest(self, bytes data) except? -1e301
    @cython.locals(
        text="const unsigned char*", codes="const unsigned char*",
        length=Py_ssize_t, count=Py_ssize_t, shift=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t,
        at=Py_ssize_t, low="unsigned long long", high="unsigned long long",
        code="unsigned long long", letters="unsigned long long",
        char=int, following=int, mark=int,
    )
    cdef Py_ssize_t _read(self, bytes data, int[::1] room) except -1
    @cython.locals(following=int)
    cdef bint _is_mark(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t length) noexcept
    @cython.locals(
        mixed="unsigned long long", first=Py_ssize_t, slot=Py_ssize_t, info=int,
    )
    cdef int _find(
        self, unsigned long long low, unsigned long long high, bytes data, Py_ssize_t begin,
        Py_ssize_t end, Py_ssize_t bits
    ) except -1
    cdef int _resolve_in(self, bytes data, Py_ssize_t begin, Py_ssize_t end) except -1
    @cython.locals(
        rows="int[::1]", keys="long long[::1]",
        memory="long long", reach="long long", bits=int, slots="unsigned long long",
        now="long long", of_groups="long long", quote=int, is_quoted=bint, before="long long",
        jailbreak="long long", injection="long long", guided="long long",
        one="long long", two="long long", three="long long", four="long long",
        at_one="long long", at_two="long long", at_three="long long", at_four="long long",
        number=Py_ssize_t, info=int, stem="long long", group="long long", row="long long",
        key="long long", slot="unsigned long long", turn=int, other="long long",
    )
    cdef double _judge(self, int[::1] room, long long[::1] sums, Py_ssize_t count) except? -1e301
    @cython.locals(
        less=double, touched=Py_ssize_t, of_jailbreak=double,
        of_injection=double, of_guided=double, highest=double, number=Py_ssize_t,
        span=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, share=double, margin=double,
    )
    cdef double _highest(self, long long[::1] sums, Py_ssize_t count) except? -1e301
