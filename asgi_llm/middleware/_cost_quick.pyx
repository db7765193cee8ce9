# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_INCREF
from cpython.set cimport PySet_Contains
from libc.math cimport fabs, rint
from libc.string cimport memchr, memcmp

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
    # What is looked for has this letter at its sixth place, and few others in an answer have it.
    cdef const char *at = begin
    cdef const char *name
    cdef bint is_told = False
    while True:
        at = <const char *>memchr(at, c"v", end - at)
        if at == NULL:
            return end > begin
        name = at - 5
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
    if chunk.rfind(b"[]") >= 0:
        return -1
    return max(<Py_ssize_t>0, <Py_ssize_t>chunk.find(b'"choices":[{'))


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


cpdef list with_header(object headers, bytes name, bytes value):
    cdef list old, new
    cdef object one
    cdef Py_ssize_t size, at
    if type(headers) is not list:
        return [*headers, (name, value)]
    old = headers
    size = PyList_GET_SIZE(old)
    new = PyList_New(size + 1)
    for at in range(size):
        one = <object>PyList_GET_ITEM(old, at)
        Py_INCREF(one)
        PyList_SET_ITEM(new, at, one)
    one = (name, value)
    Py_INCREF(one)
    PyList_SET_ITEM(new, size, one)
    return new


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


cpdef long long to_microseconds(double seconds) except? -1:
    cdef double rounded = rint(seconds * 1000000)
    if not fabs(rounded) < 9e18:
        raise OverflowError("no time that there is")
    return <long long>rounded
