"""What C is made from in place of ``_first_step.py``: Python's own coroutines need none around."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    PySendResult PyIter_Send(object iterator, object value, PyObject** result) except PYGEN_ERROR
    bint PyCoro_CheckExact(object value)


cdef class Begun:
    def __init__(self, coroutine, waits_for):
        self.coroutine = coroutine
        self.waits_for = waits_for


async def _whole(awaitable):
    return await awaitable


cpdef object first_step(object awaitable):
    cdef PyObject* result = NULL
    cdef PySendResult came
    cdef object given
    coroutine = awaitable if PyCoro_CheckExact(awaitable) else _whole(awaitable)
    came = PyIter_Send(coroutine, None, &result)
    given = <object> result
    Py_DECREF(given)
    return given if came == PYGEN_RETURN else Begun(coroutine, given)
