# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_INCREF
from cpython.set cimport PySet_Contains
from libc.math cimport fabs, rint
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

import os
from time import time_ns

from asgi_llm.types import Usage

SLOTS = 64

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec *into)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef extern from "<structmember.h>":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    PyTypeObject PyMemberDescr_Type
    int T_OBJECT_EX

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow)
    bint PyUnicode_IS_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)

cdef long long _MOST = 2147483647


cdef inline bint _is_default(const char *at, Py_ssize_t left) noexcept:
    if left < 1 or at[0] != c":":
        return False
    at += 1
    left -= 1
    if left > 0 and at[0] == c" ":
        at += 1
        left -= 1
    return (left >= 9 and memcmp(at, b'"default"', 9) == 0) or (
        left >= 4 and memcmp(at, b"null", 4) == 0
    )


cpdef bint is_standard(bytes body):
    cdef const char *begin = PyBytes_AS_STRING(body)
    cdef const char *end = begin + PyBytes_GET_SIZE(body)
    # What is looked for has this letter at its fifth place, and few others in an answer have it.
    cdef const char *at = begin
    cdef const char *name
    cdef bint is_told = False
    while True:
        at = <const char *>memchr(at, c"v", end - at)
        if at == NULL:
            return end > begin
        name = at - 4
        at += 1
        if name < begin or memcmp(name, b'"serv', 5) != 0:
            continue
        if end - name >= 16 and memcmp(name, b'"server_tool_use', 16) == 0:
            return False
        if end - name >= 14 and memcmp(name, b'"service_tier"', 14) == 0:
            if is_told or not _is_default(name + 14, end - name - 14):
                return False
            is_told = True


cpdef bint is_event(bytes chunk):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    return size >= 3 and memcmp(PyBytes_AS_STRING(chunk) + size - 3, b"}\n\n", 3) == 0


cpdef Py_ssize_t find_choices(bytes chunk, Py_ssize_t at):
    cdef const char *begin = PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
    if (
        at + 12 <= size
        and memcmp(begin + at, b'"choices":[{', 12) == 0
        and memchr(begin, c"\n", max(size - 2, 0)) == NULL
    ):
        return at
    # Each event has few brackets.
    cdef const char *end = begin + size
    cdef const char *bracket = begin
    cdef Py_ssize_t found = -1
    while True:
        bracket = <const char *>memchr(bracket, c"[", end - bracket)
        if bracket == NULL:
            return max(found, 0)
        if end - bracket >= 2:
            if bracket[1] == c"]":
                return -1
            if (
                found < 0
                and bracket - begin >= 10
                and memcmp(bracket - 10, b'"choices":[{', 12) == 0
            ):
                found = bracket - 10 - begin
        bracket += 1


cpdef bint tells_tier(bytes data):
    cdef const char *begin = PyBytes_AS_STRING(data)
    cdef const char *end = begin + PyBytes_GET_SIZE(data)
    cdef const char *at = begin
    cdef const char *name
    while True:
        at = <const char *>memchr(at, c"v", end - at)
        if at == NULL:
            return False
        name = at - 4
        at += 1
        if name >= begin and end - name >= 14 and memcmp(name, b'"service_tier"', 14) == 0:
            return True


cpdef bint has_any(dict document, frozenset names):
    cdef PyObject *name = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t at = 0
    while PyDict_Next(document, &at, &name, &value):
        if PySet_Contains(names, <object>name):
            return True
    return False


cpdef long long small_int(object value):
    cdef int overflow = 0
    cdef long long number
    if type(value) is not int:
        return -1
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    return number if overflow == 0 and 0 <= number <= _MOST else -1


cpdef Py_ssize_t slot_of(object asker, str model):
    return ((<Py_ssize_t><void *>asker >> 4) ^ hash(model)) & 63


cpdef list with_header(object headers, bytes name, str value):
    cdef list old, new
    cdef object one
    cdef Py_ssize_t size, at
    if type(headers) is not list or not PyUnicode_IS_ASCII(value):
        return [*headers, (name, value.encode())]
    old = headers
    size = PyList_GET_SIZE(old)
    new = PyList_New(size + 1)
    for at in range(size):
        one = <object>PyList_GET_ITEM(old, at)
        Py_INCREF(one)
        PyList_SET_ITEM(new, at, one)
    one = (
        name,
        PyBytes_FromStringAndSize(<char *>PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value)),
    )
    Py_INCREF(one)
    PyList_SET_ITEM(new, size, one)
    return new


cdef inline bint _is_name(const char *one, const char *name, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    cdef char letter
    for at in range(size):
        letter = one[at]
        if c"A" <= letter <= c"Z":
            letter |= 32
        if letter != name[at]:
            return False
    return True


cpdef object last_header(object headers, bytes name):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    cdef const char *letters = PyBytes_AS_STRING(name)
    cdef PyObject *pair
    cdef PyObject *one
    cdef object found = None
    if type(headers) is list:
        for at in range(PyList_GET_SIZE(<list>headers)):
            pair = PyList_GET_ITEM(<list>headers, at)
            if not PyTuple_CheckExact(<object>pair) or PyTuple_GET_SIZE(<tuple>pair) != 2:
                break
            one = PyTuple_GET_ITEM(<tuple>pair, 0)
            if not PyBytes_CheckExact(<object>one):
                break
            if PyBytes_GET_SIZE(<bytes>one) == size and _is_name(
                PyBytes_AS_STRING(<bytes>one), letters, size
            ):
                found = <object>PyTuple_GET_ITEM(<tuple>pair, 1)
        else:
            return found
    found = None
    for other, value in headers:
        if len(other) == size and (other == name or other.lower() == name):
            found = value
    return found


cdef inline bint _is(object kind, str name, Py_ssize_t size):
    if type(kind) is not str or not PyUnicode_IS_ASCII(kind):
        return kind == name
    return PyUnicode_GET_LENGTH(kind) == size and (
        memcmp(PyUnicode_DATA(kind), PyUnicode_DATA(name), size) == 0
    )


cpdef bint is_start(object kind):
    return _is(kind, "http.response.start", 19)


cpdef bint is_body(object kind):
    return _is(kind, "http.response.body", 18)


# What ``draw_ids`` says of them holds for these too.
cdef Py_ssize_t _RANDOM_BYTES = 10
cdef bytes _random = b""
cdef Py_ssize_t _used = 0
cdef bytes _time = b""


def _forget():
    global _random, _used
    _random = b""
    _used = 0


os.register_at_fork(after_in_child=_forget)


cpdef str row_id():
    global _random, _used, _time
    cdef const unsigned char *source
    cdef char *letters
    cdef Py_ssize_t at
    cdef str made
    if _used + _RANDOM_BYTES > PyBytes_GET_SIZE(_random):
        _time = b"row_%012x" % (time_ns() // 1000000)
        _random = os.urandom(_RANDOM_BYTES * 256)
        _used = 0
    source = <const unsigned char *>PyBytes_AS_STRING(_random) + _used
    _used += _RANDOM_BYTES
    made = PyUnicode_New(36, 127)
    letters = <char *>PyUnicode_DATA(made)
    memcpy(letters, PyBytes_AS_STRING(_time), 16)
    letters += 16
    for at in range(_RANDOM_BYTES):
        letters[2 * at] = b"0123456789abcdef"[source[at] >> 4]
        letters[2 * at + 1] = b"0123456789abcdef"[source[at] & 15]
    return made


cdef PyTypeObject *_usage_type = <PyTypeObject *>Usage
# Where the fields of a usage stand: those of text first. Beyond them there is nothing.
cdef Py_ssize_t _fields[9]
cdef bint _knows_fields = False
cdef object _ZERO = 0


cdef bint _find_fields() except -1:
    cdef Py_ssize_t at = 0
    cdef object member
    cdef PyMemberDef *found
    names = ["input_uncached", "output_text"]
    names += [name for name in Usage.__struct_fields__ if name not in names]
    if len(names) != 9 or names[8] != "estimated":
        return False
    for name in names:
        member = Usage.__dict__.get(name)
        if Py_TYPE(member) != &PyMemberDescr_Type:
            return False
        found = (<PyMemberDescrObject *>member).d_member
        if found.type != T_OBJECT_EX:
            return False
        _fields[at] = found.offset
        at += 1
    return True


_knows_fields = _find_fields()


cdef inline PyObject *_field(PyObject *usage, Py_ssize_t at) noexcept:
    return (<PyObject **>(<char *>usage + _fields[at]))[0]


cpdef bint is_text_alone(object usage):
    cdef PyObject *of = <PyObject *>usage
    cdef PyObject *value
    cdef int at
    if not _knows_fields or Py_TYPE(usage) != _usage_type:
        return (
            usage.input_uncached > 0
            and usage.output_text > 0
            and not (
                usage.input_cached
                or usage.cache_write_5m
                or usage.cache_write_1h
                or usage.audio_in
                or usage.reasoning
                or usage.audio_out
                or usage.estimated
            )
        )
    for at in range(2, 9):
        value = _field(of, at)
        if value != <PyObject *>_ZERO and value != <PyObject *>False and (
            value == NULL or <object>value
        ):
            return False
    for at in range(2):
        value = _field(of, at)
        if value == NULL or not (<object>value > 0):
            return False
    return True


cpdef double monotonic():
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cpdef double wall():
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cpdef long long with_margin(long long tokens, double margin):
    return <long long>(tokens * margin) + 1


cpdef long long to_microseconds(double seconds) except? -1:
    cdef double rounded = rint(seconds * 1000000)
    if not fabs(rounded) < 9e18:
        raise OverflowError("no time that there is")
    return <long long>rounded
