cimport cython

from asgi_llm.transports._connection cimport Connection


@cython.final
cdef class Pool:
    cdef object _clock
    cdef object _context
    cdef double _expiry
    cdef list _idle
    cdef object _keeper
    cdef Py_ssize_t _max_idle
    cdef object _origin
    cdef Py_ssize_t _places
    cdef object _waiters

    @cython.locals(connection=Connection, age=cython.double, idle=list)
    cpdef Connection take(self)
    cpdef lost(self, connection)
    @cython.locals(idle=list)
    cpdef release(self, Connection connection)
    cpdef forget(self, Connection connection)
    cdef _free_place(self)
    cdef _next_waiter(self)
