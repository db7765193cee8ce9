# cython: boundscheck=False, wraparound=False, cdivision=True
"""Requests and answers that are plain, read as the bytes that they are. See ``_cache_plain.py``.

One pass over the JSON checks it, and writes it as ``canonical`` does: keys sorted, without spaces,
escapes resolved. What is rare is left to the parser: keys twice or with escapes, numbers that would
be written in another way, texts that are not Unicode, and whatever is no JSON.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy

from hashlib import sha256 as _sha256

from asgi_llm.middleware._cache_request cimport CacheRequest

__all__ = ["READS_BYTES", "digest", "peek_answer", "read_bytes"]

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* length) except NULL


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* SHA-256 by the processor's own instructions, where it has them: hashlib has them too, but
       takes as long again to make an object. */
    #if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
    #include <cpuid.h>
    #include <immintrin.h>

    static int asgi_llm_has_sha(void) {
        unsigned int a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3)) return 0;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
        return (b >> 29) & 1;
    }

    static const uint32_t asgi_llm_sha_k[64] __attribute__((aligned(16))) = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};

    __attribute__((target("sha,sse4.1,ssse3"), noinline))
    static void asgi_llm_sha(const unsigned char *data, size_t length, unsigned char *out) {
        const __m128i turn = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
        /* A, B, E, F and C, D, G, H of the start. */
        __m128i abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
        __m128i cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
        unsigned char tail[128] __attribute__((aligned(16)));
        size_t blocks = length / 64, rest = length % 64, ends = rest < 56 ? 1 : 2, i;
        uint64_t bits = (uint64_t)length * 8;
        memset(tail, 0, sizeof tail);
        memcpy(tail, data + blocks * 64, rest);
        tail[rest] = 0x80;
        for (i = 0; i < 8; i++) tail[ends * 64 - 1 - i] = (unsigned char)(bits >> (8 * i));
        for (;;) {
            if (blocks == 0) {
                if (ends == 0) break;
                blocks = ends;
                ends = 0;
                data = tail;
            }
            __m128i abef0 = abef, cdgh0 = cdgh;
            __m128i m0 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data), turn);
            __m128i m1 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + 1), turn);
            __m128i m2 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + 2), turn);
            __m128i m3 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + 3), turn);
            for (i = 0; i < 16; i++) {
                __m128i k = _mm_add_epi32(
                    m0, _mm_load_si128((const __m128i *)(asgi_llm_sha_k + 4 * i)));
                cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
                abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
                k = _mm_add_epi32(_mm_sha256msg1_epu32(m0, m1), _mm_alignr_epi8(m3, m2, 4));
                m0 = m1;
                m1 = m2;
                m2 = m3;
                m3 = _mm_sha256msg2_epu32(k, m3);
            }
            abef = _mm_add_epi32(abef, abef0);
            cdgh = _mm_add_epi32(cdgh, cdgh0);
            data += 64;
            blocks--;
        }
        {
            __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
            __m128i dcba = _mm_blend_epi16(feba, dchg, 0xF0);
            __m128i hgfe = _mm_alignr_epi8(dchg, feba, 8);
            _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(dcba, turn));
            _mm_storeu_si128((__m128i *)out + 1, _mm_shuffle_epi8(hgfe, turn));
        }
    }
    #else
    static int asgi_llm_has_sha(void) { return 0; }
    static void asgi_llm_sha(const unsigned char *data, size_t length, unsigned char *out) {}
    #endif

    /* The first byte of a text that is not simply a character of it: quotes, backslashes, control
       characters, and all that is not ASCII. */
    static const unsigned char *asgi_llm_odd(const unsigned char *at, const unsigned char *end) {
    #if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
        while (end - at >= 16) {
            __m128i part = _mm_loadu_si128((const __m128i *)at);
            /* As signed numbers those from 0x80 on are below 0x20, too. */
            int found = _mm_movemask_epi8(_mm_or_si128(
                _mm_or_si128(_mm_cmpeq_epi8(part, _mm_set1_epi8(0x22)),
                             _mm_cmpeq_epi8(part, _mm_set1_epi8(0x5C))),
                _mm_cmplt_epi8(part, _mm_set1_epi8(0x20))));
            if (found) return at + __builtin_ctz((unsigned int)found);
            at += 16;
        }
    #else
        while (end - at >= 8) {
            const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
            uint64_t word, quote, back;
            memcpy(&word, at, 8);
            quote = word ^ (ones * 0x22);
            back = word ^ (ones * 0x5C);
            if ((((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote)
                 | ((back - ones) & ~back) | word) & high) break;
            at += 8;
        }
    #endif
        while (at < end && *at >= 0x20 && *at != 0x22 && *at != 0x5C && *at < 0x80) at++;
        return at;
    }
    """
    bint asgi_llm_has_sha() noexcept nogil
    const unsigned char* _odd "asgi_llm_odd"(
        const unsigned char* at, const unsigned char* end
    ) noexcept nogil
    void asgi_llm_sha(const unsigned char* data, size_t length, unsigned char* out) noexcept nogil


READS_BYTES = True

cdef bint _HAS_SHA = asgi_llm_has_sha()


cpdef bytes digest(bytes data):
    return digest_of(<const byte*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef bytes digest_of(const byte* data, Py_ssize_t length):
    cdef bytes made
    if _HAS_SHA:
        made = PyBytes_FromStringAndSize(NULL, 32)
        asgi_llm_sha(data, length, <byte*> PyBytes_AS_STRING(made))
        return made
    return _sha256(PyBytes_FromStringAndSize(<const char*> data, length)).digest()


# ------------------------------------------------------------------------------------ JSON

cdef struct Member:
    # Of an object: the text of its key, and where it is written as a whole.
    const byte* key
    Py_ssize_t key_length
    byte* start
    Py_ssize_t length


cdef struct Reader:
    const byte* at
    const byte* end
    # Where the next byte is written; NULL: nothing is. There is room for twice what is read.
    byte* out
    Member* members
    int count
    int depth


cdef enum:
    MOST_BYTES = 256 * 1024
    MOST_MEMBERS = 192
    MOST_SORTED = 64
    MOST_DEPTH = 48
    ROOM = 6144


cdef inline const byte* _spaces(const byte* at, const byte* end) noexcept nogil:
    while at < end and (at[0] == 32 or at[0] == 10 or at[0] == 13 or at[0] == 9):
        at += 1
    return at


cdef int _sequence(const byte* at, const byte* end) noexcept nogil:
    """How long a character is that is not ASCII; 0: it is none in UTF-8."""
    cdef byte first = at[0]
    cdef Py_ssize_t left = end - at
    if first < 0xC2 or left < 2 or (at[1] & 0xC0) != 0x80:
        return 0
    if first < 0xE0:
        return 2
    if left < 3 or (at[2] & 0xC0) != 0x80:
        return 0
    if first < 0xF0:
        if (first == 0xE0 and at[1] < 0xA0) or (first == 0xED and at[1] >= 0xA0):
            return 0
        return 3
    if first > 0xF4 or left < 4 or (at[3] & 0xC0) != 0x80:
        return 0
    if (first == 0xF0 and at[1] < 0x90) or (first == 0xF4 and at[1] >= 0x90):
        return 0
    return 4


cdef int _hex(const byte* at, const byte* end) noexcept nogil:
    """The number of four hexadecimal digits; -1: they are not that."""
    cdef int value = 0, place
    cdef byte digit
    if end - at < 4:
        return -1
    for place in range(4):
        digit = at[place]
        if 48 <= digit <= 57:
            value = value * 16 + digit - 48
        elif 97 <= (digit | 32) <= 102:
            value = value * 16 + (digit | 32) - 87
        else:
            return -1
    return value


cdef bint _escaped(Reader* reader) noexcept nogil:
    """Read ``\\uXXXX``, from its digits on, and write what it means."""
    cdef int code = _hex(reader.at, reader.end), second
    cdef byte* out = reader.out
    cdef byte short_form = 0
    if code < 0:
        return False
    reader.at += 4
    if 0xD800 <= code < 0xE000:
        if code >= 0xDC00 or reader.end - reader.at < 6:
            return False
        if reader.at[0] != 0x5C or reader.at[1] != 117:
            return False
        second = _hex(reader.at + 2, reader.end)
        if not 0xDC00 <= second < 0xE000:
            return False
        reader.at += 6
        code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
    if out == NULL:
        return True
    if code < 0x20 or code == 0x22 or code == 0x5C:
        if code == 8:
            short_form = 98
        elif code == 9:
            short_form = 116
        elif code == 10:
            short_form = 110
        elif code == 12:
            short_form = 102
        elif code == 13:
            short_form = 114
        elif code >= 0x20:
            short_form = <byte> code
        out[0] = 0x5C
        if short_form:
            out[1] = short_form
            out += 2
        else:
            out[1] = 117
            out[2] = out[3] = 48
            out[4] = 48 + (code >> 4)
            out[5] = (code & 15) + (48 if (code & 15) < 10 else 87)
            out += 6
    elif code < 0x80:
        out[0] = <byte> code
        out += 1
    elif code < 0x800:
        out[0] = 0xC0 | (code >> 6)
        out[1] = 0x80 | (code & 63)
        out += 2
    elif code < 0x10000:
        out[0] = 0xE0 | (code >> 12)
        out[1] = 0x80 | ((code >> 6) & 63)
        out[2] = 0x80 | (code & 63)
        out += 3
    else:
        out[0] = 0xF0 | (code >> 18)
        out[1] = 0x80 | ((code >> 12) & 63)
        out[2] = 0x80 | ((code >> 6) & 63)
        out[3] = 0x80 | (code & 63)
        out += 4
    reader.out = out
    return True


cdef void _write(Reader* reader, const byte* start, const byte* end) noexcept nogil:
    if reader.out != NULL:
        memcpy(reader.out, start, end - start)
        reader.out += end - start


cdef bint _text(Reader* reader) noexcept nogil:
    """Read a text, from its first quote on, and write it."""
    cdef const byte* start = reader.at
    cdef const byte* at = start + 1
    cdef const byte* end = reader.end
    cdef byte found
    cdef int length
    while True:
        at = _odd(at, end)
        if at >= end:
            return False
        found = at[0]
        if found == 0x22:
            at += 1
            _write(reader, start, at)
            reader.at = at
            return True
        if found >= 0x80:
            length = _sequence(at, end)
            if not length:
                return False
            at += length
        elif found == 0x5C and end - at >= 2:
            found = at[1]
            if (
                found == 110 or found == 0x22 or found == 0x5C or found == 116 or found == 114
                or found == 98 or found == 102
            ):
                at += 2
            elif found == 47:
                _write(reader, start, at)
                start = at + 1
                at += 2
            elif found == 117:
                _write(reader, start, at)
                reader.at = at + 2
                if not _escaped(reader):
                    return False
                start = at = reader.at
            else:
                return False
        else:
            return False


cdef bint _number(Reader* reader) noexcept nogil:
    """Read a number, and write it where that is as it is."""
    cdef const byte* start = reader.at
    cdef const byte* at = start
    cdef const byte* end = reader.end
    cdef const byte* digits
    cdef const byte* fraction
    cdef Py_ssize_t whole
    if at[0] == 45:
        at += 1
    digits = at
    while at < end and 48 <= at[0] <= 57:
        at += 1
    whole = at - digits
    if whole == 0 or whole > 18 or (digits[0] == 48 and whole > 1):
        return False
    if at < end and at[0] == 46:
        at += 1
        fraction = at
        while at < end and 48 <= at[0] <= 57:
            at += 1
        if at == fraction or at - fraction > 18:
            return False
        if reader.out != NULL:
            if whole + (at - fraction) > 15:
                return False
            if (at - 1)[0] == 48 and at - fraction > 1:
                return False
            if digits[0] == 48 and at - fraction > 3 and memcmp(fraction, b"000", 3) == 0:
                return False
    elif start[0] == 45 and digits[0] == 48:
        return False
    if at < end and (at[0] | 32) == 101:
        return False
    _write(reader, start, at)
    reader.at = at
    return True


cdef inline bint _literal(Reader* reader, const char* word, int length) noexcept nogil:
    if reader.end - reader.at < length or memcmp(reader.at, word, length) != 0:
        return False
    _write(reader, reader.at, reader.at + length)
    reader.at += length
    return True


cdef bint _value(Reader* reader) noexcept nogil:
    """Read a value, from its first byte on, and write it."""
    cdef byte first
    if reader.at >= reader.end:
        return False
    first = reader.at[0]
    if first == 0x22:
        return _text(reader)
    if first == 123:
        return _object(reader)
    if first == 91:
        return _array(reader)
    if first == 116:
        return _literal(reader, b"true", 4)
    if first == 102:
        return _literal(reader, b"false", 5)
    if first == 110:
        return _literal(reader, b"null", 4)
    return _number(reader)


cdef bint _array(Reader* reader) noexcept nogil:
    if reader.depth >= MOST_DEPTH:
        return False
    reader.depth += 1
    _write(reader, reader.at, reader.at + 1)
    reader.at = _spaces(reader.at + 1, reader.end)
    if reader.at < reader.end and reader.at[0] == 93:
        _write(reader, reader.at, reader.at + 1)
    else:
        while True:
            if not _value(reader):
                return False
            reader.at = _spaces(reader.at, reader.end)
            if reader.at >= reader.end:
                return False
            _write(reader, reader.at, reader.at + 1)
            if reader.at[0] == 93:
                break
            if reader.at[0] != 44:
                return False
            reader.at = _spaces(reader.at + 1, reader.end)
    reader.at += 1
    reader.depth -= 1
    return True


cdef bint _key(Reader* reader, const byte** key, Py_ssize_t* length) noexcept nogil:
    """Read a key and its colon, and the spaces around that."""
    cdef const byte* start
    if reader.at >= reader.end or reader.at[0] != 0x22:
        return False
    start = reader.at + 1
    reader.at = _odd(start, reader.end)
    while reader.at < reader.end and reader.at[0] >= 0x80:
        if not _sequence(reader.at, reader.end):
            return False
        reader.at = _odd(reader.at + _sequence(reader.at, reader.end), reader.end)
    if reader.at >= reader.end or reader.at[0] != 0x22:
        return False
    key[0] = start
    length[0] = reader.at - start
    reader.at = _spaces(reader.at + 1, reader.end)
    if reader.at >= reader.end or reader.at[0] != 58:
        return False
    reader.at = _spaces(reader.at + 1, reader.end)
    return True


cdef int _more(Reader* reader) noexcept nogil:
    """After a member: 1: another follows, 0: the object is over, -1: neither."""
    cdef byte found
    reader.at = _spaces(reader.at, reader.end)
    if reader.at >= reader.end:
        return -1
    found = reader.at[0]
    reader.at += 1
    if found == 44:
        reader.at = _spaces(reader.at, reader.end)
        return 1
    return 0 if found == 125 else -1


cdef bint _object(Reader* reader) noexcept nogil:
    cdef int first = reader.count, more
    cdef const byte* key
    cdef Py_ssize_t length
    cdef byte* begun = reader.out
    if reader.depth >= MOST_DEPTH:
        return False
    reader.depth += 1
    _write(reader, reader.at, reader.at + 1)
    reader.at = _spaces(reader.at + 1, reader.end)
    if reader.at < reader.end and reader.at[0] == 125:
        _write(reader, reader.at, reader.at + 1)
        reader.at += 1
    else:
        more = 1
        while more == 1:
            if not _key(reader, &key, &length) or not _member(reader, key, length):
                return False
            more = _more(reader)
        if more < 0 or (begun != NULL and not _order(reader, begun, first)):
            return False
    reader.depth -= 1
    return True


cdef bint _member(Reader* reader, const byte* key, Py_ssize_t length) noexcept nogil:
    """Write a key, read its value and write that, and a comma."""
    cdef Member* member
    if reader.out == NULL:
        return _value(reader)
    if reader.count >= MOST_MEMBERS:
        return False
    member = &reader.members[reader.count]
    reader.count += 1
    member.key = key
    member.key_length = length
    member.start = reader.out
    # With its quotes.
    memcpy(reader.out, key - 1, length + 2)
    reader.out += length + 3
    (reader.out - 1)[0] = 58
    if not _value(reader):
        return False
    reader.out[0] = 44
    reader.out += 1
    member.length = reader.out - member.start
    return True


cdef int _compare(Member* one, Member* other) noexcept nogil:
    cdef Py_ssize_t length = min(one.key_length, other.key_length)
    cdef int order = memcmp(one.key, other.key, length)
    if order:
        return order
    if one.key_length == other.key_length:
        return 0
    return -1 if one.key_length < other.key_length else 1


cdef bint _order(Reader* reader, byte* begun, int first) noexcept nogil:
    """Put the members of an object in the order of their keys, and write its end."""
    cdef Member* members = reader.members
    cdef Member moved
    cdef int place, to, order
    cdef bint is_sorted = True
    cdef byte* start = begun + 1
    cdef Py_ssize_t length = reader.out - start
    if reader.count - first > MOST_SORTED:
        return False
    for place in range(first + 1, reader.count):
        order = _compare(&members[place - 1], &members[place])
        if order == 0:
            return False
        if order > 0:
            is_sorted = False
            moved = members[place]
            to = place
            while to > first:
                order = _compare(&members[to - 1], &moved)
                if order == 0:
                    return False
                if order < 0:
                    break
                members[to] = members[to - 1]
                to -= 1
            members[to] = moved
    if not is_sorted:
        memcpy(reader.out, start, length)
        for place in range(first, reader.count):
            memcpy(start, members[place].start + length, members[place].length)
            start += members[place].length
    reader.count = first
    # In the place of the last comma.
    (reader.out - 1)[0] = 125
    return True


# -------------------------------------------------------------------------------- requests

cdef struct Fields:
    const byte* model
    Py_ssize_t model_length
    bint streams
    bint tells_usage
    bint deterministic


cdef bint _document(Reader* reader, Fields* fields) noexcept nogil:
    """Read a request, and write what ``canonical`` gives of it."""
    cdef const byte* key
    cdef const byte* value
    cdef Py_ssize_t length
    cdef int more = 1, seen = 0
    cdef byte* begun = reader.out
    cdef byte* out
    reader.at = _spaces(reader.at, reader.end)
    if reader.at >= reader.end or reader.at[0] != 123:
        return False
    reader.depth = 1
    _write(reader, reader.at, reader.at + 1)
    reader.at = _spaces(reader.at + 1, reader.end)
    while more == 1:
        if not _key(reader, &key, &length):
            return False
        value = reader.at
        out = reader.out
        if length == 5 and memcmp(key, b"model", 5) == 0:
            if not _member(reader, key, length):
                return False
            length = reader.at - value - 2
            # Read as it is: with no escapes.
            if value[0] != 0x22 or (
                reader.out - out - 9 != length + 2
            ) or memcmp(out + 8, value, length + 2) != 0 or _odd(value + 1, reader.at - 1) != (
                reader.at - 1
            ):
                return False
            fields.model = value + 1
            fields.model_length = length
        elif length == 6 and memcmp(key, b"stream", 6) == 0:
            if seen & 1:
                return False
            seen |= 1
            if value >= reader.end:
                return False
            if value[0] == 116:
                fields.streams = True
            elif value[0] != 102 and value[0] != 110:
                return False
            reader.out = NULL
            if not _value(reader):
                return False
            reader.out = out
        elif length == 14 and memcmp(key, b"stream_options", 14) == 0:
            if seen & 2:
                return False
            seen |= 2
            if not _options(reader, fields):
                return False
        elif (length == 4 and memcmp(key, b"user", 4) == 0) or (
            length == 8 and memcmp(key, b"metadata", 8) == 0
        ) or (length == 17 and memcmp(key, b"safety_identifier", 17) == 0) or (
            length == 16 and memcmp(key, b"prompt_cache_key", 16) == 0
        ):
            reader.out = NULL
            if not _value(reader):
                return False
            reader.out = out
        elif length == 8 and memcmp(key, b"asgi_llm", 8) == 0:
            return False
        else:
            if not _member(reader, key, length):
                return False
            if length == 11 and memcmp(key, b"temperature", 11) == 0:
                if _is_zero(value, reader.at):
                    fields.deterministic = True
            elif length == 4 and memcmp(key, b"seed", 4) == 0:
                if _is_integer(value, reader.at):
                    fields.deterministic = True
        more = _more(reader)
    if more < 0 or fields.model == NULL or not _order(reader, begun, 0):
        return False
    return _spaces(reader.at, reader.end) == reader.end


cdef bint _options(Reader* reader, Fields* fields) noexcept nogil:
    """Read ``stream_options`` of which nothing counts."""
    cdef const byte* key
    cdef Py_ssize_t length
    cdef int more = 1, seen = 0
    cdef byte* out = reader.out
    if reader.at >= reader.end or reader.at[0] != 123:
        return _literal_alone(reader, out)
    reader.at = _spaces(reader.at + 1, reader.end)
    reader.out = NULL
    while more == 1:
        if not _key(reader, &key, &length):
            return False
        if length == 13 and memcmp(key, b"include_usage", 13) == 0:
            if seen:
                return False
            seen = 1
            fields.tells_usage = reader.at < reader.end and reader.at[0] == 116
        elif length != 19 or memcmp(key, b"include_obfuscation", 19) != 0:
            return False
        if not _value(reader):
            return False
        more = _more(reader)
    reader.out = out
    return more == 0


cdef bint _literal_alone(Reader* reader, byte* out) noexcept nogil:
    cdef bint is_null
    reader.out = NULL
    is_null = _literal(reader, b"null", 4)
    reader.out = out
    return is_null


cdef bint _is_zero(const byte* at, const byte* end) noexcept nogil:
    """Whether a number that was written is 0."""
    if at[0] == 45:
        at += 1
    return (end - at == 1 and at[0] == 48) or (end - at == 3 and memcmp(at, b"0.0", 3) == 0)


cdef bint _is_integer(const byte* at, const byte* end) noexcept nogil:
    if at[0] != 45 and not 48 <= at[0] <= 57:
        return False
    at += 1
    while at < end:
        if not 48 <= at[0] <= 57:
            return False
        at += 1
    return True


cdef byte* _put(byte* out, byte fixed, int most, byte wider, const char* data, Py_ssize_t length) noexcept nogil:
    """Write texts and bytes as MessagePack has them."""
    if length < most:
        out[0] = fixed | length
        out += 1
    elif length < 256:
        out[0] = wider
        out[1] = <byte> length
        out += 2
    else:
        out[0] = wider + 1
        out[1] = <byte> (length >> 8)
        out[2] = <byte> (length & 255)
        out += 3
    memcpy(out, data, length)
    return out + length


cdef dict _NO_DOCUMENT = {}
cdef str _last_model = ""


cdef str _named(const byte* name, Py_ssize_t length):
    """The text of a model's name: the same object as long as it is the same."""
    global _last_model
    cdef Py_ssize_t last_length
    cdef const char* last = PyUnicode_AsUTF8AndSize(_last_model, &last_length)
    if last_length != length or memcmp(last, name, length) != 0:
        _last_model = PyUnicode_DecodeUTF8(<const char*> name, length, NULL)
    return _last_model


cpdef CacheRequest read_bytes(
    data, route, operation, query, partition, controls, namespace, deployment, bint deterministic
):
    cdef byte room[ROOM]
    cdef Member members[MOST_MEMBERS]
    cdef Reader reader
    cdef Fields fields
    cdef byte* start = room
    cdef byte* out
    cdef const char* of_partition
    cdef const char* of_namespace
    cdef const char* of_route
    cdef const char* of_deployment
    cdef Py_ssize_t l_partition, l_namespace, l_route, l_query, l_deployment, length, needed
    cdef CacheRequest request
    if type(data) is not bytes or type(query) is not bytes or type(partition) is not str:
        return None
    length = PyBytes_GET_SIZE(data)
    of_partition = PyUnicode_AsUTF8AndSize(partition, &l_partition)
    of_namespace = PyUnicode_AsUTF8AndSize(namespace, &l_namespace)
    of_route = PyUnicode_AsUTF8AndSize(route, &l_route)
    of_deployment = PyUnicode_AsUTF8AndSize(deployment, &l_deployment)
    l_query = PyBytes_GET_SIZE(query)
    needed = l_partition + l_namespace + l_route + l_query + l_deployment
    if length > MOST_BYTES or needed > 65535:
        return None
    needed += 2 * length + 64
    if needed > ROOM:
        start = <byte*> PyMem_Malloc(needed)
        if start == NULL:
            raise MemoryError
    try:
        memcpy(start, b"\x97\xb0asgi-llm cache 1\xa5exact", 24)
        out = _put(start + 24, 0xA0, 32, 0xD9, of_partition, l_partition)
        out = _put(out, 0xA0, 32, 0xD9, of_namespace, l_namespace)
        out = _put(out, 0xA0, 32, 0xD9, of_route, l_route)
        out = _put(out, 0, 0, 0xC4, PyBytes_AS_STRING(query), l_query)
        out = _put(out, 0xA0, 32, 0xD9, of_deployment, l_deployment)
        reader.at = <const byte*> PyBytes_AS_STRING(data)
        reader.end = reader.at + length
        reader.out = out
        reader.members = members
        reader.count = 0
        fields.model = NULL
        fields.model_length = 0
        fields.streams = False
        fields.tells_usage = False
        fields.deterministic = False
        if not _document(&reader, &fields) or (deterministic and not fields.deterministic):
            return None
        request = CacheRequest.__new__(CacheRequest)
        request.operation = operation
        request.route = route
        request.query = query
        request.document = _NO_DOCUMENT
        request.model = _named(fields.model, fields.model_length)
        request.streams = fields.streams
        request.tells_usage = fields.tells_usage or not fields.streams
        request.partition = partition
        request.controls = controls
        request.deployment = deployment
        request.key = digest_of(start, reader.out - start)
        return request
    finally:
        if start != room:
            PyMem_Free(start)


# --------------------------------------------------------------------------------- answers

cdef bint _choice(Reader* reader) noexcept nogil:
    """Read a choice that ended by itself."""
    cdef const byte* key
    cdef const byte* value
    cdef Py_ssize_t length
    cdef int more = 1
    cdef bint ends_well = False
    if reader.at >= reader.end or reader.at[0] != 123:
        return False
    reader.at = _spaces(reader.at + 1, reader.end)
    while more == 1:
        if not _key(reader, &key, &length):
            return False
        value = reader.at
        if length == 7 and memcmp(key, b"message", 7) == 0:
            if not _message(reader):
                return False
        elif length == 5 and (memcmp(key, b"delta", 5) == 0):
            return False
        else:
            if not _value(reader):
                return False
            if length == 13 and memcmp(key, b"finish_reason", 13) == 0:
                if ends_well:
                    return False
                length = reader.at - value
                ends_well = (
                    (length == 6 and memcmp(value, b'"stop"', 6) == 0)
                    or (length == 12 and memcmp(value, b'"tool_calls"', 12) == 0)
                    or (length == 15 and memcmp(value, b'"function_call"', 15) == 0)
                )
                if not ends_well:
                    return False
            elif length == 5 and memcmp(key, b"index", 5) == 0:
                if not _is_integer(value, reader.at):
                    return False
        more = _more(reader)
    return more == 0 and ends_well


cdef bint _message(Reader* reader) noexcept nogil:
    """Read a message without a recording."""
    cdef const byte* key
    cdef Py_ssize_t length
    cdef int more = 1
    if reader.at >= reader.end or reader.at[0] != 123:
        return False
    reader.at = _spaces(reader.at + 1, reader.end)
    while more == 1:
        if not _key(reader, &key, &length):
            return False
        if length == 5 and memcmp(key, b"audio", 5) == 0:
            if not _literal(reader, b"null", 4):
                return False
        elif not _value(reader):
            return False
        more = _more(reader)
    return more == 0


cdef bint _choices(Reader* reader) noexcept nogil:
    if reader.at >= reader.end or reader.at[0] != 91:
        return False
    reader.at = _spaces(reader.at + 1, reader.end)
    while True:
        if not _choice(reader):
            return False
        reader.at = _spaces(reader.at, reader.end)
        if reader.at >= reader.end:
            return False
        if reader.at[0] == 93:
            reader.at += 1
            return True
        if reader.at[0] != 44:
            return False
        reader.at = _spaces(reader.at + 1, reader.end)


cdef int _answer(Reader* reader) noexcept nogil:
    cdef const byte* key
    cdef Py_ssize_t length
    cdef int more = 1, seen = 0, tells_usage = 0
    reader.at = _spaces(reader.at, reader.end)
    if reader.at >= reader.end or reader.at[0] != 123:
        return -1
    reader.at = _spaces(reader.at + 1, reader.end)
    while more == 1:
        if not _key(reader, &key, &length):
            return -1
        if length == 7 and memcmp(key, b"choices", 7) == 0:
            if seen & 1 or not _choices(reader):
                return -1
            seen |= 1
        elif length == 5 and memcmp(key, b"usage", 5) == 0:
            if seen & 2 or reader.at >= reader.end:
                return -1
            seen |= 2
            if reader.at[0] == 123:
                tells_usage = 1
            elif reader.at[0] != 110:
                return -1
            if not _value(reader):
                return -1
        elif length == 5 and memcmp(key, b"error", 5) == 0:
            if not _literal(reader, b"null", 4):
                return -1
        elif not _value(reader):
            return -1
        more = _more(reader)
    if more < 0 or not seen & 1 or _spaces(reader.at, reader.end) != reader.end:
        return -1
    return tells_usage


cpdef int peek_answer(body) except -2:
    cdef Reader reader
    if type(body) is not bytes:
        return -1
    reader.at = <const byte*> PyBytes_AS_STRING(body)
    reader.end = reader.at + PyBytes_GET_SIZE(body)
    reader.out = NULL
    reader.members = NULL
    reader.count = 0
    reader.depth = 4
    return _answer(&reader)
