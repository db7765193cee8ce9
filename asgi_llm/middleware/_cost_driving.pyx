# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from asgi_llm.middleware._cost_answer cimport CostedAnswer

from types import CoroutineType

cdef extern from "Python.h":
    int PyIter_Send(PyObject *running, PyObject *value, PyObject **given)
    const int _RETURNED "PYGEN_RETURN"
    const int _FAILED "PYGEN_ERROR"


async def _general(object running, CostedAnswer answer):
    """``drive`` for an app that gives no coroutine, but something else to await."""
    try:
        await running
    except BaseException as error:
        await answer.finish(error)
        raise
    if not answer.is_over():
        await answer.finish(None)


async def _failed(object answer, object error):
    try:
        raise error
    except BaseException:
        await answer.finish(error)
        raise


cdef int _leave() except -1:
    # The exception is set already.
    return -1


@cython.final
@cython.freelist(64)
cdef class Drive:
    """A coroutine: see ``drive``."""

    # None: it is over.
    cdef object _running
    # None: it was told of the end, or is being told.
    cdef CostedAnswer _answer

    def __await__(self):
        return self

    cdef bint _step(self, object value, PyObject **given) except -1:
        """Go on; whether something was given that has to be waited for."""
        cdef int came
        if self._running is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        while True:
            came = PyIter_Send(<PyObject *>self._running, <PyObject *>value, given)
            if came == _RETURNED:
                Py_DECREF(<object>given[0])
                if not self._returned():
                    return False
            elif came == _FAILED:
                if self._answer is None:
                    self._running = None
                    return _leave()
                try:
                    _leave()
                except BaseException as error:
                    self._raised(error)
            else:
                return True
            value = None

    cdef bint _returned(self) except -1:
        """Whether there is more to do."""
        answer, self._answer, self._running = self._answer, None, None
        if answer is None or answer.is_over():
            return False
        self._running = answer.finish(None)
        return True

    cdef object _raised(self, error):
        answer, self._answer = self._answer, None
        self._running = _failed(answer, error)

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
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            if value is None and trace is None:
                return self._running.throw(kind)
            return self._running.throw(kind, value, trace)
        except StopIteration:
            if not self._returned():
                raise StopIteration from None
        except BaseException as error:
            if self._answer is None:
                self._running = None
                raise
            self._raised(error)
        if self._step(None, &given):
            taken = <object>given
            Py_DECREF(taken)
            return taken
        raise StopIteration

    def close(self):
        cdef PyObject *given = NULL
        if self._running is None:
            return
        end = GeneratorExit()
        try:
            self._running.close()
        except BaseException as error:
            end = error
        if self._answer is None:
            self._running = None
            if type(end) is not GeneratorExit:
                raise end
            return
        self._raised(end)
        try:
            waits = self._step(None, &given)
        except GeneratorExit:
            return
        if waits:
            Py_DECREF(<object>given)
            self._running.close()
            self._running = None
            raise RuntimeError("coroutine ignored GeneratorExit")


cpdef object drive(object app, object scope, CostedAnswer answer):
    cdef Drive one
    cdef object running
    # As an object of Python, so that its method is the one that there is, and is not wrapped anew.
    cdef object sender = answer
    try:
        running = app(scope, answer.receive, sender.send)
    except BaseException as error:
        return _failed(answer, error)
    if type(running) is not CoroutineType:
        return _general(running, answer)
    one = Drive.__new__(Drive)
    one._running = running
    one._answer = answer
    return one
