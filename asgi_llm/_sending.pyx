# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
cimport cython
from cpython.exc cimport PyErr_ExceptionMatches, PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from types import CoroutineType, GeneratorType

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef PySendResult (*sendfunc)(PyObject* iterator, PyObject* value, PyObject** result)

    ctypedef struct PyAsyncMethods:
        sendfunc am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async

    PySendResult PyIter_Send(PyObject* running, PyObject* value, PyObject** given)

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
    """What a coroutine would be: see ``hand_on``, and ``send_both`` where nobody is to be asked."""

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
        cdef PySendResult came
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
            if came == PYGEN_RETURN:
                Py_DECREF(<object>given[0])
                self._running = None
                value = None
            elif came == PYGEN_ERROR:
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
        if self._answer is None or not self._answer.goes_on():
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


cdef PySendResult _am_send(PyObject* one, PyObject* value, PyObject** result) noexcept:
    result[0] = NULL
    try:
        if (<HandOn>one)._step(<object>value, result):
            return PYGEN_NEXT
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return PYGEN_ERROR
    Py_INCREF(None)
    result[0] = <PyObject*>None
    return PYGEN_RETURN


# To end without an exception is what C alone can do.
(<PyTypeObject*>HandOn).tp_as_async.am_send = _am_send


cpdef object send_both(object send, object first, object second):
    return hand_on(send, first, second, None)


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
