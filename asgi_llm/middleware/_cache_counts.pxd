cimport cython


@cython.final
cdef class CacheCounts:
    cdef public long long hits
    cdef public long long misses
    cdef public long long bypasses
    cdef public long long shared
    cdef public long long stale
    cdef public long long refreshes
    cdef public long long writes
    cdef public long long items_found
    cdef public long long items_asked
    cdef public object saved_input_tokens
    cdef public object saved_output_tokens

    cpdef object note_hit(self, report)
