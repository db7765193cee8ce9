"""What C is made from in place of ``_cache_drive.py``: awaitables that are no coroutines.

They have what coroutines have (``send``, ``throw``, ``close``), so that they can be made tasks of,
and are stepped by Python as fast as its own.
"""

cimport cython
from cpython.exc cimport PyErr_Fetch, PyErr_Restore, PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from asgi_llm.middleware._cache_flight cimport Flight, Flights

__all__ = ["drive", "hand_on"]

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


cdef dict _MESSAGE = {"type": "http.request", "body": b"", "more_body": False}


@cython.final
@cython.freelist(64)
cdef class Handing:
    """A body on its way to an app."""

    cdef Flight flight
    cdef object data
    cdef object later
    cdef bint is_over

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        if self.is_here():
            raise StopIteration(self.take())
        return self.later.send(value)

    def throw(self, *error):
        if self.later is not None:
            return self.later.throw(*error)
        self.is_over = True
        _raise(error)

    def close(self):
        if self.later is not None:
            self.later.close()
        self.is_over = True

    cdef bint is_here(self) except -1:
        if self.is_over:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.later is None and self.flight._given:
            # Somebody else was faster.
            self.later = (<object> self.flight).receive()
        return self.later is None

    cdef dict take(self):
        cdef dict message = _MESSAGE.copy()
        message["body"] = self.data
        self.flight._given = self.is_over = True
        return message


cdef PySendResult _send_body(PyObject* one, PyObject* value, PyObject** result) noexcept:
    cdef Handing handing = <Handing> one
    cdef dict message
    result[0] = NULL
    try:
        if handing.is_here():
            message = handing.take()
            Py_INCREF(message)
            result[0] = <PyObject*> message
            return PYGEN_RETURN
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return PYGEN_ERROR
    return PyIter_Send(<PyObject*> handing.later, value, result)


cpdef object hand_on(Flight flight, data):
    cdef Handing made = Handing.__new__(Handing)
    made.flight = flight
    made.data = data
    return made


@cython.final
@cython.freelist(64)
cdef class Drive:
    """An app that answers, and the flight that ends with it."""

    cdef object running
    cdef Flights flights
    cdef object key
    cdef Flight flight

    def __await__(self):
        return self

    def __next__(self):
        return self.step(None)

    def send(self, value):
        return self.step(value)

    def throw(self, *error):
        try:
            return self.running.throw(*error)
        except BaseException:
            self.end()
            raise

    def close(self):
        try:
            self.running.close()
        finally:
            self.end()

    cdef object step(self, value):
        try:
            return self.running.send(value)
        except BaseException:
            # Also where it has come to its end.
            self.end()
            raise

    cdef object end(self):
        self.flights.end(self.key, self.flight)


cdef PySendResult _send_drive(PyObject* one, PyObject* value, PyObject** result) noexcept:
    cdef Drive driven = <Drive> one
    cdef PySendResult came = PyIter_Send(<PyObject*> driven.running, value, result)
    if came == PYGEN_RETURN:
        driven.flights.end(driven.key, driven.flight)
    elif came == PYGEN_ERROR:
        _end_with_error(driven)
    return came


cdef void _end_with_error(Drive driven) noexcept:
    cdef PyObject* kind = NULL
    cdef PyObject* error = NULL
    cdef PyObject* traceback = NULL
    PyErr_Fetch(&kind, &error, &traceback)
    driven.flights.end(driven.key, driven.flight)
    PyErr_Restore(kind, error, traceback)


cpdef object drive(running, Flights flights, key, Flight flight):
    cdef Drive made = Drive.__new__(Drive)
    made.running = running if PyCoro_CheckExact(running) else _whole(running)
    made.flights = flights
    made.key = key
    made.flight = flight
    return made


async def _whole(awaitable):
    return await awaitable


cdef object _raise(tuple error):
    kind = error[0]
    if isinstance(kind, type):
        given = error[1] if len(error) > 1 else None
        if not isinstance(given, BaseException):
            given = kind() if given is None else kind(given)
        kind = given
    if len(error) > 2 and error[2] is not None:
        kind = kind.with_traceback(error[2])
    raise kind


cdef void _set(type kind, sendfunc send) noexcept:
    (<PyTypeObject*> kind).tp_as_async.am_send = send


_set(Handing, _send_body)
_set(Drive, _send_drive)
