cimport cython

cdef bint _IS_COMPILED

cpdef object decode(data)

@cython.locals(fields=dict, items=list)
cdef bint _has_below(container, int depth) except -1
