"""The text of an answer of the shape that most have, as the bytes that it came in.

Where an answer is ASCII without escapes and all that is in it is known, it is looked through as it
is. Any other is decoded, which tells what it is.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy, strlen

from sys import byteorder

from asgi_llm.middleware._guard_simple import read_simple_answer
from asgi_llm.middleware._guard_texts import LEAST_LONG_NUMBER, LONGEST_WORD

__all__ = ["content_of"]


cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static __inline int __builtin_ctzll(unsigned long long x) {
        unsigned long at; _BitScanForward64(&at, x); return (int)at;
    }
    #endif
    """
    int __builtin_ctzll(unsigned long long) nogil


cdef bint IS_LITTLE = byteorder == "little"


cdef enum Kind:
    ANSWER, CHOICE, MESSAGE, USAGE, DETAILS
    WORD, NUMBER, TIME, NOTHING, NO_ITEMS, CONTENT, CHOICES

cdef struct Field:
    const char* name
    Py_ssize_t length
    Kind owner
    Kind kind

cdef struct Reading:
    const unsigned char* at
    const unsigned char* end
    const unsigned char* content
    Py_ssize_t length
    bint has_choices, has_message, has_content

cdef Field FIELDS[30]
cdef int COUNT = 0
cdef Py_ssize_t _LONGEST_WORD = LONGEST_WORD
cdef long long _LEAST_LONG = LEAST_LONG_NUMBER

assert 10 * LEAST_LONG_NUMBER <= 10**15


cdef int _add(const char* name, Kind owner, Kind kind) except -1:
    global COUNT
    FIELDS[COUNT].name = name
    FIELDS[COUNT].length = strlen(name)
    FIELDS[COUNT].owner = owner
    FIELDS[COUNT].kind = kind
    COUNT += 1
    return 0


_add(b"id", ANSWER, WORD)
_add(b"object", ANSWER, WORD)
_add(b"created", ANSWER, TIME)
_add(b"model", ANSWER, WORD)
_add(b"choices", ANSWER, CHOICES)
_add(b"usage", ANSWER, USAGE)
_add(b"service_tier", ANSWER, WORD)
_add(b"system_fingerprint", ANSWER, WORD)
_add(b"index", CHOICE, NUMBER)
_add(b"message", CHOICE, MESSAGE)
_add(b"logprobs", CHOICE, NOTHING)
_add(b"finish_reason", CHOICE, WORD)
_add(b"role", MESSAGE, WORD)
_add(b"content", MESSAGE, CONTENT)
_add(b"refusal", MESSAGE, NOTHING)
_add(b"annotations", MESSAGE, NO_ITEMS)
_add(b"prompt_tokens", USAGE, NUMBER)
_add(b"completion_tokens", USAGE, NUMBER)
_add(b"total_tokens", USAGE, NUMBER)
_add(b"prompt_tokens_details", USAGE, DETAILS)
_add(b"completion_tokens_details", USAGE, DETAILS)
_add(b"cached_tokens", DETAILS, NUMBER)
_add(b"audio_tokens", DETAILS, NUMBER)
_add(b"reasoning_tokens", DETAILS, NUMBER)
_add(b"accepted_prediction_tokens", DETAILS, NUMBER)
_add(b"rejected_prediction_tokens", DETAILS, NUMBER)
_add(b"cache_write_tokens", DETAILS, NUMBER)


cdef inline void _skip(Reading* r) noexcept nogil:
    while r.at < r.end and (
        r.at[0] == 32 or r.at[0] == 10 or r.at[0] == 13 or r.at[0] == 9
    ):
        r.at += 1


cdef inline bint _take(Reading* r, unsigned char char) noexcept nogil:
    """Whether this comes next, behind spaces; it is then behind us."""
    _skip(r)
    if r.at == r.end or r.at[0] != char:
        return False
    r.at += 1
    return True


cdef Py_ssize_t _string(Reading* r) noexcept nogil:
    """The length of a string that says what it looks like, which then ends before us; -1: none."""
    cdef const unsigned char* begin
    cdef unsigned char char
    cdef unsigned long long eight, quote, escape, found
    if not _take(r, 34):
        return -1
    begin = r.at
    # Eight at once. Of the bytes with a bit set the lowest one is one of these for sure: what
    # others borrow or carry comes from there.
    while r.end - r.at >= 8:
        memcpy(&eight, r.at, 8)
        quote, escape = eight ^ 0x2222222222222222ULL, eight ^ 0x5C5C5C5C5C5C5C5CULL
        found = 0x8080808080808080ULL & (
            eight
            | (eight - 0x2020202020202020ULL)
            | (eight + 0x0101010101010101ULL)
            | (quote - 0x0101010101010101ULL)
            | (escape - 0x0101010101010101ULL)
        )
        if found:
            # The lowest byte is the first one on all processors but very few; there each is
            # looked at below.
            if not IS_LITTLE:
                break
            r.at += __builtin_ctzll(found) >> 3
            if r.at[0] != 34:
                return -1
            r.at += 1
            return r.at - begin - 1
        r.at += 8
    while r.at < r.end:
        char = r.at[0]
        r.at += 1
        if char == 34:
            return r.at - begin - 1
        if char < 32 or char > 126 or char == 92:
            return -1
    return -1


cdef bint _null(Reading* r) noexcept nogil:
    """Whether there is nothing where a value may stand."""
    _skip(r)
    if r.end - r.at < 4 or memcmp(r.at, b"null", 4) != 0:
        return False
    r.at += 4
    return True


cdef bint _number(Reading* r, long long least, long long limit) noexcept nogil:
    """A whole number from ``least`` on and below ``limit``."""
    cdef const unsigned char* begin
    cdef long long value = 0
    cdef bint is_negative
    _skip(r)
    is_negative = r.at < r.end and r.at[0] == 45
    if is_negative:
        r.at += 1
    begin = r.at
    while r.at < r.end and 48 <= r.at[0] <= 57:
        value = 10 * value + (r.at[0] - 48)
        r.at += 1
        if r.at - begin > 15:
            return False
    if r.at == begin or (begin[0] == 48 and r.at - begin > 1):
        return False
    if r.at < r.end and (r.at[0] == 46 or r.at[0] == 101 or r.at[0] == 69):
        return False
    return least <= (-value if is_negative else value) < limit


cdef bint _value(Reading* r, Kind kind) noexcept nogil:
    """Whether a value of this kind stands here, which is then behind us."""
    cdef Py_ssize_t length
    if kind == CHOICES:
        # Of what is there twice the last one counts, and there is to be one text.
        if r.has_choices:
            return False
        r.has_choices = True
        return _take(r, 91) and _object(r, CHOICE) and _take(r, 93)
    if kind == MESSAGE:
        if r.has_message:
            return False
        r.has_message = True
        return _object(r, MESSAGE)
    if kind == CONTENT:
        if r.has_content:
            return False
        length = _string(r)
        r.content = r.at - 1 - length
        r.length = length
        r.has_content = length >= 0
        return r.has_content
    if _null(r):
        return True
    if kind == WORD:
        length = _string(r)
        return 0 <= length <= _LONGEST_WORD
    if kind == NUMBER:
        return _number(r, 1 - _LEAST_LONG, _LEAST_LONG)
    if kind == TIME:
        return _number(r, 0, 10 * _LEAST_LONG)
    if kind == NO_ITEMS:
        return _take(r, 91) and _take(r, 93)
    return kind != NOTHING and _object(r, kind)


cdef bint _object(Reading* r, Kind owner) noexcept nogil:
    """Whether an object stands here that has known fields alone, which is then behind us."""
    cdef Py_ssize_t length
    cdef const unsigned char* name
    cdef int number
    if not _take(r, 123):
        return False
    if _take(r, 125):
        return True
    while True:
        length = _string(r)
        if length < 0:
            return False
        name = r.at - 1 - length
        for number in range(COUNT):
            if (
                FIELDS[number].length == length
                and FIELDS[number].owner == owner
                and memcmp(FIELDS[number].name, name, length) == 0
            ):
                break
        else:
            return False
        if not (_take(r, 58) and _value(r, FIELDS[number].kind)):
            return False
        if _take(r, 44):
            continue
        return _take(r, 125)


cpdef bytes content_of(object data):
    """The text of what ``read_simple_answer`` reads, as UTF-8; None: it reads nothing."""
    cdef Reading r
    if PyBytes_CheckExact(data):
        r.at = <const unsigned char*>PyBytes_AS_STRING(data)
        r.end = r.at + PyBytes_GET_SIZE(data)
        r.content = NULL
        r.length = 0
        r.has_choices = r.has_message = r.has_content = False
        if _object(&r, ANSWER) and r.has_content:
            _skip(&r)
            if r.at == r.end:
                return (<const char*>r.content)[:r.length]
    text = read_simple_answer(data)
    return None if text is None else text.encode()
