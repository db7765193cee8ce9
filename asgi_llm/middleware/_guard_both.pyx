"""Two messages that leave one after the other."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF

__all__ = ["send_both"]


cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object value, PyObject** result) except? PYGEN_ERROR
    bint PyCoro_CheckExact(object)
    ctypedef struct _Slots "PyTypeObject":
        PyObject* (*tp_iternext)(PyObject*) except? NULL



cpdef object send_both(object send, object first, object second):
    """Send two messages; the second one when the first one has gone."""
    cdef _Both both = _Both.__new__(_Both)
    both._send = send
    both._first = first
    both._second = second
    return both


async def _wait(awaitable):
    return await awaitable


cdef object _begin(object awaitable):
    """What steps are taken with."""
    if PyCoro_CheckExact(awaitable):
        return awaitable
    if hasattr(awaitable, "__await__"):
        return awaitable.__await__()
    return _wait(awaitable).__await__()


@cython.final
@cython.freelist(16)
cdef class _Both:
    """What a coroutine of two steps would be."""

    # The message that is sent next, and the one behind it; what waits for the one before.
    cdef object _send, _first, _second, _waiting

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self._step(None)

    def send(self, value):
        return self._step(value)

    cdef object _step(self, object value):
        cdef PyObject* given = self._go(value)
        if given == NULL:
            raise StopIteration
        result = <object>given
        Py_DECREF(result)
        return result

    cdef PyObject* _go(self, object value) except? NULL:
        """What it waits for next; nothing, and no error, where all has gone."""
        cdef PyObject* given
        while True:
            if self._waiting is None:
                message = self._first
                if message is None:
                    return NULL
                self._first, self._second = self._second, None
                self._waiting = _begin(self._send(message))
                value = None
            given = NULL
            if PyIter_Send(self._waiting, value, &given) == PYGEN_NEXT:
                return given
            Py_XDECREF(given)
            self._waiting = None

    cdef void _end(self) noexcept:
        self._waiting = self._first = self._second = None

    def throw(self, kind, value=None, traceback=None):
        waiting = self._waiting
        if waiting is None or not hasattr(waiting, "throw"):
            self._end()
            if value is None:
                value = kind() if isinstance(kind, type) else kind
            raise value
        try:
            if value is None and traceback is None:
                return waiting.throw(kind)
            return waiting.throw(kind, value, traceback)
        except StopIteration:
            # The first one has gone in spite of it.
            self._waiting = None
        except BaseException:
            self._end()
            raise
        return self._step(None)

    def close(self):
        waiting = self._waiting
        self._end()
        if waiting is not None and hasattr(waiting, "close"):
            waiting.close()


cdef PyObject* _next(PyObject* both) except? NULL:
    return (<_Both>both)._go(None)


# To end without an exception is what C alone can do.
(<_Slots*><PyObject*>_Both).tp_iternext = _next
