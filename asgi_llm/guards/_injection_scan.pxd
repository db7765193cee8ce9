cimport cython
from asgi_llm.guards._injection_reader cimport Room, WordReader

cdef int _SHIFT, _WIDTH, _STEM, _COLUMNS, _NEVER, _LATEST, _KEPT_ROOM
cdef unsigned long long _ALL, _ODD


@cython.final
cdef class WordScan:
    cdef WordReader _reader
    cdef int _quote, _bits
    cdef long long _now, _memory, _reach, _first_pair, _first_group
    cdef unsigned long long _slots
    cdef Py_ssize_t _longest, _most_touched
    cdef double _bias_of_jailbreak, _bias_of_injection, _bias_of_guided
    cdef double[::1] _touched, _shares, _less
    cdef long long[::1] _spans, _keys
    cdef int[::1] _rows
    cdef Room _room

    cpdef double highest(self, bytes data) except? -1e301
    @cython.locals(room=Room, count=Py_ssize_t, highest=double)
    cpdef double highest_of_part(
        self, bytes data, Py_ssize_t start, Py_ssize_t stop
    ) except? -1e301
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
