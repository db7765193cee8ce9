cimport cython

from asgi_llm.middleware._guard_quick cimport PanelLook


@cython.final
cdef class Guarding:
    cdef public object panel, asked, notes, vault, threads, hold, scan, context
    cdef public PanelLook look
    cdef public Py_ssize_t far, step
    cdef public bint is_fast, restores
