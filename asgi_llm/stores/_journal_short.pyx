"""Short records of the journal, as ``_journal_short.py`` has them."""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void* PyUnicode_DATA(object text)

cdef extern from *:
    """
    #if PY_BIG_ENDIAN
    #define little4 __builtin_bswap32
    #define little8 __builtin_bswap64
    #else
    #define little4(value) (value)
    #define little8(value) (value)
    #endif
    """
    uint32_t little4(uint32_t value) noexcept
    uint64_t little8(uint64_t value) noexcept

cdef enum:
    _INTENT = 5
    _OUTCOME = 6
    _IS_STREAMED = 1
    _TELLS_FIRST = 2
    _ID_BYTES = 36
    _INTENT_BYTES = 104
    _OUTCOME_BYTES = 132

MARKER = b"\xff\xfeLR"
SHORT_INTENT = _INTENT
SHORT_OUTCOME = _OUTCOME
STREAMED = _IS_STREAMED
HAS_FIRST = _TELLS_FIRST
ID_LENGTH = _ID_BYTES
SHORT_INTENT_BYTES = _INTENT_BYTES
SHORT_OUTCOME_BYTES = _OUTCOME_BYTES


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ShortCall:
    def __init__(self, id, request_id, at, bint streamed, tokens_in):
        _fill(self, id, request_id, at, streamed, tokens_in)


cdef inline void _fill(ShortCall call, id, request_id, at, bint streamed, tokens_in) noexcept:
    call.id = id
    call.request_id = request_id
    call.at = at
    call.streamed = streamed
    call.tokens_in = tokens_in
    call.tokens_out = 0
    call.segment = call.offset = call.room = 0


cpdef ShortCall new_call(object id, object request_id, object at, bint streamed, object tokens_in):
    cdef ShortCall call = ShortCall.__new__(ShortCall)
    _fill(call, id, request_id, at, streamed, tokens_in)
    return call


# Four bytes in one step. Twice as many would take twice as much of the fastest cache from others.
cdef uint32_t _TABLE[4][256]


cdef void _make_table() noexcept:
    cdef uint32_t value
    cdef int index, step
    for index in range(256):
        value = index
        for step in range(8):
            value = (value >> 1) ^ (0xEDB88320 & (0 - (value & 1)))
        _TABLE[0][index] = value
    for step in range(1, 4):
        for index in range(256):
            value = _TABLE[step - 1][index]
            _TABLE[step][index] = (value >> 8) ^ _TABLE[0][value & 0xFF]


_make_table()


cdef uint32_t _crc32(const unsigned char* data, const unsigned char* end) noexcept:
    """The CRC-32 of zlib, of a multiple of four bytes."""
    cdef uint32_t value = 0
    value = ~value
    while data < end:
        value ^= _get4(data)
        value = (
            _TABLE[3][value & 0xFF]
            ^ _TABLE[2][(value >> 8) & 0xFF]
            ^ _TABLE[1][(value >> 16) & 0xFF]
            ^ _TABLE[0][value >> 24]
        )
        data += 4
    return ~value


cdef inline uint32_t _get4(const unsigned char* data) noexcept:
    cdef uint32_t value
    memcpy(&value, data, 4)
    return little4(value)


cdef inline void _put4(unsigned char* target, uint32_t value) noexcept:
    value = little4(value)
    memcpy(target, &value, 4)


cdef inline void _put8(unsigned char* target, uint64_t value) noexcept:
    value = little8(value)
    memcpy(target, &value, 8)


cdef inline void _put_double(unsigned char* target, double value) noexcept:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    _put8(target, bits)


cdef inline bint _is_id(object text) noexcept:
    return (
        PyUnicode_CheckExact(text)
        and PyUnicode_IS_COMPACT_ASCII(text)
        and PyUnicode_GET_LENGTH(text) == _ID_BYTES
    )


cdef inline long long _count(object number) except? -1:
    """A number of 32 bits; -1 for what is none."""
    cdef int overflow = 0
    cdef long long value
    if not PyLong_Check(number):
        return -1
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return value if not overflow and not value >> 32 else -1


cdef bint _begin(
    unsigned char* target,
    int kind,
    long long back_to_head,
    long long back_to_ending,
    ShortCall call,
) except -1:
    """Write what all short records begin with; False, and nothing, where none holds it."""
    cdef int overflow = 0
    cdef long long at, tokens_in
    if not PyLong_Check(call.at) or not (_is_id(call.id) and _is_id(call.request_id)):
        return False
    at = PyLong_AsLongLongAndOverflow(call.at, &overflow)
    tokens_in = _count(call.tokens_in)
    if overflow or tokens_in < 0 or (back_to_head | back_to_ending) >> 32:
        return False
    target[0] = 0xFF
    target[1] = 0xFE
    target[2] = 0x4C
    target[3] = 0x52
    target[8] = kind
    target[9] = _IS_STREAMED if call.streamed else 0
    target[10] = 0
    target[11] = 0
    _put4(target + 12, <uint32_t>back_to_head)
    _put4(target + 16, <uint32_t>back_to_ending)
    _put8(target + 20, <uint64_t>at)
    _put4(target + 28, <uint32_t>tokens_in)
    return True


cdef int _end(unsigned char* target, int size, ShortCall call) except -1:
    """Write what all of them end with, and the CRC of it all."""
    cdef unsigned char* end = target + size
    memcpy(end - 2 * _ID_BYTES, PyUnicode_DATA(call.id), _ID_BYTES)
    memcpy(end - _ID_BYTES, PyUnicode_DATA(call.request_id), _ID_BYTES)
    _put4(target + 4, _crc32(target + 8, end))
    return 0


@cython.final
cdef class RecordBuffer:
    def __cinit__(self, target):
        PyObject_GetBuffer(target, &self._view, PyBUF_WRITABLE)
        self._start = <unsigned char*>self._view.buf
        self._size = self._view.len

    def __dealloc__(self):
        if self._start != NULL:
            PyBuffer_Release(&self._view)

    cpdef bint put_intent(
        self, Py_ssize_t place, long long back_to_head, long long back_to_ending, ShortCall call
    ) except -1:
        cdef unsigned char* target = self._start + place
        if place < 0 or place > self._size - _INTENT_BYTES:
            raise ValueError("there is no room")
        if not _begin(target, _INTENT, back_to_head, back_to_ending, call):
            return False
        _end(target, _INTENT_BYTES, call)
        return True

    cpdef bint put_outcome(
        self,
        Py_ssize_t place,
        long long back_to_head,
        long long back_to_ending,
        ShortCall call,
        double written,
    ) except -1:
        cdef unsigned char* target = self._start + place
        cdef long long tokens_out
        cdef double latency, first = 0.0
        cdef int flags = 0
        if place < 0 or place > self._size - _OUTCOME_BYTES:
            raise ValueError("there is no room")
        tokens_out = _count(call.tokens_out)
        if tokens_out < 0 or not PyFloat_CheckExact(call.latency_seconds):
            return False
        latency = PyFloat_AS_DOUBLE(call.latency_seconds)
        if call.first_seconds is not None:
            if not PyFloat_CheckExact(call.first_seconds):
                return False
            first = PyFloat_AS_DOUBLE(call.first_seconds)
            flags = _TELLS_FIRST
        if not _begin(target, _OUTCOME, back_to_head, back_to_ending, call):
            return False
        target[9] = target[9] | flags
        _put4(target + 32, <uint32_t>tokens_out)
        _put_double(target + 36, latency)
        _put_double(target + 44, first)
        _put_double(target + 52, written)
        _end(target, _OUTCOME_BYTES, call)
        return True

    cpdef release(self):
        if self._start != NULL:
            self._start = NULL
            self._size = 0
            PyBuffer_Release(&self._view)
