cimport cython

from asgi_llm.middleware._guard_quick cimport PanelLook


@cython.final
cdef class Panel:
    cdef object _quick
    cdef Panel _acting, _noting
    cdef readonly tuple rails, fused, inline, slow
    cdef readonly object scanner, hold
    cdef readonly PanelLook look
    cdef readonly bint acts, retries
