"""Texts as the bytes that are looked at, where these are plain ASCII."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

__all__ = ["ascii_of", "is_ascii", "join_two"]


cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


cpdef bytes ascii_of(str text, Py_ssize_t most):
    """The bytes of a text; None: it has more than ``most``, or is not ASCII."""
    if text is None:
        raise TypeError("text must be a str")
    if PyUnicode_GET_LENGTH(text) > most or not PyUnicode_IS_COMPACT_ASCII(text):
        return None
    return PyBytes_FromStringAndSize(<char*>PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))


cpdef bytes join_two(str first, str last, Py_ssize_t near, Py_ssize_t most):
    """Two texts, and between them what stands across their border, each in lines of its own."""
    cdef const char* one
    cdef const char* two
    cdef const char* found
    cdef char* out
    cdef Py_ssize_t of_one, of_two, cut, until
    cdef bytes data
    if first is None or last is None:
        raise TypeError("a text must be a str")
    if not (PyUnicode_IS_COMPACT_ASCII(first) and PyUnicode_IS_COMPACT_ASCII(last)):
        return None
    one, of_one = <const char*>PyUnicode_DATA(first), PyUnicode_GET_LENGTH(first)
    two, of_two = <const char*>PyUnicode_DATA(last), PyUnicode_GET_LENGTH(last)
    cut, until = 0, of_two
    if of_two > near:
        found = <const char*>memchr(two + near, 32, of_two - near)
        if found != NULL and found > two:
            until = found - two
    if of_one > near:
        cut = of_one - near - 1 if near else 0
        while cut > 0 and one[cut] != 32:
            cut -= 1
    if of_one + of_one - cut + until + of_two + 2 > most:
        return None
    data = PyBytes_FromStringAndSize(NULL, of_one + of_one - cut + until + of_two + 2)
    out = PyBytes_AS_STRING(data)
    memcpy(out, one, of_one)
    out += of_one
    out[0] = 10
    memcpy(out + 1, one + cut, of_one - cut)
    out += 1 + of_one - cut
    memcpy(out, two, until)
    out += until
    out[0] = 10
    memcpy(out + 1, two, of_two)
    return data


cpdef bint is_ascii(bytes data) except -1:
    """Whether all of a text is ASCII."""
    cdef const char* at
    cdef const char* end
    cdef unsigned long long eight
    if data is None:
        raise TypeError("data must be bytes")
    at = PyBytes_AS_STRING(data)
    end = at + PyBytes_GET_SIZE(data)
    while end - at >= 8:
        memcpy(&eight, at, 8)
        if eight & 0x8080808080808080ULL:
            return False
        at += 8
    while at < end:
        if at[0] & 0x80:
            return False
        at += 1
    return True
