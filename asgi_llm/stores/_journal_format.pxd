cdef class _Parser:
    cdef int _file
    cdef dict _shared
    cdef long long _shared_bytes

    cpdef object parse(self, bytes window, Py_ssize_t index, long long base)
    cdef object _short(self, int kind, bytes checked, long long start, long long end)
    cdef bytes _find(self, long long place)
    cdef object _note(self, long long place, bytes data)
