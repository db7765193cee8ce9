# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from types import CoroutineType, GeneratorType

cdef extern from "Python.h":
    int PyIter_Send(PyObject *running, PyObject *value, PyObject **given)
    int PyErr_ExceptionMatches(object kind)
    const int _RETURNED "PYGEN_RETURN"
    const int _FAILED "PYGEN_ERROR"

cdef object _OSERROR = OSError


cdef object _steps_of(object awaitable):
    if type(awaitable) is CoroutineType:
        return awaitable
    try:
        wait = type(awaitable).__await__
    except AttributeError:
        if type(awaitable) is GeneratorType:
            # Made by ``types.coroutine``.
            return awaitable
        raise TypeError(
            f"object {type(awaitable).__name__} can't be used in 'await' expression"
        ) from None
    return wait(awaitable)


cdef int _leave() except -1:
    # The exception is set already.
    return -1


@cython.final
@cython.freelist(64)
cdef class HandOn:
    """A coroutine: see ``hand_on``."""

    cdef object _send
    cdef object _message
    cdef object _then
    cdef object _answer
    # What is waited for, once it has begun.
    cdef object _running

    def __await__(self):
        return self

    cdef bint _step(self, object value, PyObject **given) except -1:
        """Go on; whether something was given that has to be waited for."""
        cdef int came
        while True:
            if self._running is None:
                if self._message is None:
                    return False
                message, self._message, self._then = self._message, self._then, None
                try:
                    self._running = _steps_of(self._send(message))
                except OSError:
                    self._fail()
                    return False
            came = PyIter_Send(<PyObject *>self._running, <PyObject *>value, given)
            if came == _RETURNED:
                Py_DECREF(<object>given[0])
                self._running = None
                value = None
            elif came == _FAILED:
                self._running = None
                if not PyErr_ExceptionMatches(_OSERROR):
                    self._message = self._then = None
                    return _leave()
                try:
                    _leave()
                except OSError:
                    self._fail()
                return False
            else:
                return True

    cdef object _fail(self):
        """Called while an error is handled."""
        self._running = self._message = self._then = None
        if not self._answer.goes_on():
            raise

    def __next__(self):
        cdef PyObject *given = NULL
        if self._step(None, &given):
            taken = <object>given
            Py_DECREF(taken)
            return taken
        raise StopIteration

    def send(self, value):
        cdef PyObject *given = NULL
        if self._step(value, &given):
            taken = <object>given
            Py_DECREF(taken)
            return taken
        raise StopIteration

    def throw(self, kind, value=None, trace=None):
        cdef PyObject *given = NULL
        if self._running is None:
            self._message = self._then = None
            raise kind if value is None else value
        try:
            if value is None and trace is None:
                return self._running.throw(kind)
            return self._running.throw(kind, value, trace)
        except StopIteration:
            self._running = None
        except OSError:
            self._fail()
        except BaseException:
            self._running = self._message = self._then = None
            raise
        if self._step(None, &given):
            taken = <object>given
            Py_DECREF(taken)
            return taken
        raise StopIteration

    def close(self):
        running, self._running = self._running, None
        self._message = self._then = None
        if running is not None and hasattr(running, "close"):
            running.close()


cpdef object hand_on(object send, object message, object then, object answer):
    cdef HandOn one = HandOn.__new__(HandOn)
    one._send = send
    one._message = message
    one._then = then
    one._answer = answer
    return one


@cython.final
cdef class _Done:
    def __await__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        raise StopIteration

    def throw(self, kind, value=None, trace=None):
        raise kind if value is None else value

    def close(self):
        pass


DONE = _Done()
