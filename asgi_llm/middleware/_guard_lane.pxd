cimport cython

from asgi_llm.middleware._guard_guarding cimport Guarding


@cython.final
cdef class Lane:
    cdef Guarding _guarding
    cdef object _place
    cdef str _context
    cdef bint _inside, _escaped, _sealed
    cdef public object parts
    cdef public str text
    cdef public long long due
    cdef public tuple own

    cpdef bint is_clean(self, str more) except -1
    @cython.locals(cut=Py_ssize_t, length=Py_ssize_t, parts=object)
    cpdef Py_ssize_t let_go(self, Py_ssize_t limit) except -1
    cpdef object go_on(self, Py_ssize_t cut, str more, Py_ssize_t passed)
