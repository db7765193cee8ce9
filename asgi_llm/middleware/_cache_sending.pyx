"""What C is made from in place of ``_cache_sending.py``: an awaitable that is no coroutine.

It has what coroutines have (``send``, ``throw``, ``close``), and is stepped by Python as fast.
"""

cimport cython
from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

__all__ = ["send_both"]

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

    PySendResult PyIter_Send(PyObject* iterator, PyObject* value, PyObject** result)
    bint PyCoro_CheckExact(object value)


@cython.final
@cython.freelist(64)
cdef class Sending:
    """Two messages, of which the second one is sent when the first one was."""

    cdef object to
    cdef object first
    cdef object second
    cdef object running

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        while self.goes_on():
            try:
                return self.running.send(value)
            except StopIteration:
                self.running = None
                value = None
        raise StopIteration

    def throw(self, *error):
        running = self.running
        if running is None:
            # Nothing has begun, and nothing will.
            self.first = self.second = None
            running = _whole(None)
        try:
            return running.throw(*error)
        except StopIteration:
            self.running = None
        return self.send(None)

    def close(self):
        self.first = self.second = None
        if self.running is not None:
            self.running.close()

    cdef bint goes_on(self) except -1:
        """Have something that runs; whether there is anything."""
        if self.running is None:
            if self.first is not None:
                message, self.first = self.first, None
            elif self.second is not None:
                message, self.second = self.second, None
            else:
                return False
            sent = self.to(message)
            self.running = sent if PyCoro_CheckExact(sent) else _whole(sent)
        return True


cdef PySendResult _send(PyObject* one, PyObject* value, PyObject** result) noexcept:
    cdef Sending sending = <Sending> one
    cdef PySendResult came
    result[0] = NULL
    while True:
        try:
            if not sending.goes_on():
                result[0] = <PyObject*> None
                _keep(None)
                return PYGEN_RETURN
        except BaseException as error:
            PyErr_SetObject(type(error), error)
            return PYGEN_ERROR
        came = PyIter_Send(<PyObject*> sending.running, value, result)
        if came != PYGEN_RETURN:
            if came == PYGEN_ERROR:
                sending.second = None
            return came
        sending.running = None
        if sending.second is None:
            return PYGEN_RETURN
        Py_DECREF(<object> result[0])
        result[0] = NULL
        value = <PyObject*> None


cdef extern from "Python.h":
    void _keep "Py_INCREF"(object value)


cpdef object send_both(send, first, second):
    cdef Sending made = Sending.__new__(Sending)
    made.to = send
    made.first = first
    made.second = second
    return made


async def _whole(awaitable):
    return await awaitable


(<PyTypeObject*> Sending).tp_as_async.am_send = _send
