"""Amounts in pico-USD, as ``_pico.py`` has them."""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.string cimport memcpy

cdef extern from "Python.h":
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)
    void* PyUnicode_DATA(object text)

cdef enum:
    _PLACES = 12


cdef inline long long _factor(object number) except? -1:
    """What may be multiplied by another such, twice, and added up; -1 for what may not."""
    cdef int overflow = 0
    cdef long long value
    if not PyLong_CheckExact(number):
        return -1
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return value if not overflow and not value >> 31 else -1


cpdef object price_pico(tuple rates, object tokens_in, object tokens_out):
    cdef long long rate_in = _factor(rates[0]), rate_out = _factor(rates[1])
    cdef long long count_in = _factor(tokens_in), count_out = _factor(tokens_out)
    if (rate_in | rate_out | count_in | count_out) < 0:
        return rates[0] * tokens_in + rates[1] * tokens_out
    return rate_in * count_in + rate_out * count_out


cpdef str format_pico(object amount):
    cdef int overflow = 0, places = 0, digit
    cdef bint begun = False
    cdef unsigned long long left
    cdef long long value = PyLong_AsLongLongAndOverflow(amount, &overflow)
    cdef char made[24]
    cdef char* end = made + sizeof(made)
    cdef char* start = end
    cdef str text
    if overflow or value < 0:
        return _format_long(str(amount))
    left = value
    while left or places <= _PLACES:
        if places == _PLACES and begun:
            start -= 1
            start[0] = c'.'
        digit = left % 10
        left = left // 10
        if digit or begun or places >= _PLACES:
            begun = True
            start -= 1
            start[0] = c'0' + digit
        places += 1
    text = PyUnicode_New(end - start, 127)
    memcpy(PyUnicode_DATA(text), start, end - start)
    return text


cdef str _format_long(str digits):
    """Of an amount above all numbers of C, which has places before the point and behind it."""
    text = f"{digits[:-_PLACES]}.{digits[-_PLACES:]}".rstrip("0")
    return text if text[-1] != "." else text[:-1]
