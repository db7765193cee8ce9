# cython: boundscheck=False, wraparound=False, cdivision=True
"""Plain headers and what a request says of itself, without an object for each of them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy

from asgi_llm.middleware._cache_plain cimport byte, digest, digest_of
from asgi_llm.state cimport State

__all__ = [
    "are_plain_headers",
    "client_id_of",
    "credentials_of",
    "decimal",
    "lengths_of",
    "values_of",
]


cpdef bint are_plain_headers(State state, Py_ssize_t max_body_bytes) except -1:
    cdef bint is_json = False
    cdef tuple pair
    cdef bytes name, value
    cdef Py_ssize_t length, place
    cdef const char* text
    cdef long long announced
    cdef object headers = state._headers
    if type(headers) is not list:
        return False
    for item in <list> headers:
        if type(item) is not tuple:
            return False
        pair = <tuple> item
        if len(pair) != 2 or type(pair[0]) is not bytes or type(pair[1]) is not bytes:
            return False
        name = <bytes> pair[0]
        length = PyBytes_GET_SIZE(name)
        if length < 11 or length > 17:
            continue
        text = PyBytes_AS_STRING(name)
        if length == 12:
            if memcmp(text, b"content-type", 12) == 0:
                value = <bytes> pair[1]
                is_json = PyBytes_GET_SIZE(value) == 16 and (
                    memcmp(PyBytes_AS_STRING(value), b"application/json", 16) == 0
                )
        elif length == 14:
            if memcmp(text, b"content-length", 14) == 0:
                value = <bytes> pair[1]
                length = PyBytes_GET_SIZE(value)
                text = PyBytes_AS_STRING(value)
                if length == 0 or length > 18:
                    return False
                announced = 0
                for place in range(length):
                    if not 48 <= text[place] <= 57:
                        return False
                    announced = announced * 10 + (text[place] - 48)
                if announced > max_body_bytes:
                    return False
        elif (
            (length == 17 and memcmp(text, b"transfer-encoding", 17) == 0)
            or (length == 16 and memcmp(text, b"content-encoding", 16) == 0)
            or (length == 13 and memcmp(text, b"cache-control", 13) == 0)
            or (length == 11 and memcmp(text, b"x-cache-ttl", 11) == 0)
            or (length == 17 and memcmp(text, b"x-cache-namespace", 17) == 0)
        ):
            return False
    return is_json


cpdef dict values_of(State state):
    return state._values if state._deferred is None else <dict> state.values


cdef Py_ssize_t _digits(long long number, char* out) noexcept nogil:
    """Write a number of at least 0; how many digits it has."""
    cdef char reversed_digits[20]
    cdef Py_ssize_t length = 0, place
    while True:
        reversed_digits[length] = <char> (48 + number % 10)
        length += 1
        number //= 10
        if number == 0:
            break
    for place in range(length):
        out[place] = reversed_digits[length - 1 - place]
    return length


cpdef bytes decimal(long long number):
    cdef char out[20]
    if number < 0:
        raise ValueError("it is below 0")
    return PyBytes_FromStringAndSize(out, _digits(number, out))


cpdef object client_id_of(State state):
    cdef tuple pair
    cdef object headers = state._headers
    if type(headers) is not list:
        return state.client_request_id
    for item in <list> headers:
        if type(item) is not tuple:
            return state.client_request_id
        pair = <tuple> item
        if len(pair) != 2 or type(pair[0]) is not bytes:
            return state.client_request_id
        if PyBytes_GET_SIZE(pair[0]) == 12 and (
            memcmp(PyBytes_AS_STRING(pair[0]), b"x-request-id", 12) == 0
        ):
            return state.client_request_id
    return None


def lengths_of(names):
    return sum({1 << len(name) for name in names if len(name) < 63})


cpdef object credentials_of(headers, names, unsigned long long lengths):
    cdef byte room[1024]
    cdef byte* out = room
    cdef byte* end = room + sizeof(room)
    cdef bytes name, value
    cdef Py_ssize_t of_name, of_value
    for pair in headers:
        name, value = pair
        of_name = PyBytes_GET_SIZE(name)
        if (of_name < 63 and not (lengths >> of_name) & 1) or name not in names:
            continue
        of_value = PyBytes_GET_SIZE(value)
        if end - out < of_name + of_value + 48:
            return _long_credentials(headers, names)
        out += _digits(of_name, <char*> out)
        out[0] = 58
        out += 1
        memcpy(out, PyBytes_AS_STRING(name), of_name)
        out += of_name
        out += _digits(of_value, <char*> out)
        out[0] = 58
        out += 1
        memcpy(out, PyBytes_AS_STRING(value), of_value)
        out += of_value
    return digest_of(room, out - room).hex() if out != room else None


cdef object _long_credentials(headers, names):
    told = [
        b"%d:%b%d:%b" % (len(name), name, len(value), value)
        for name, value in headers
        if name in names
    ]
    return digest(b"".join(told)).hex()
