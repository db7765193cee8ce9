from asgi_llm.middleware._cache_headers cimport credentials_of


cdef class Partitioner:
    cdef object _fields
    cdef object _find
    cdef object _headers
    cdef unsigned long long _lengths
    cdef bint _shared
    cdef object _without

    cpdef object partition(self, scope, principal)
    cdef object _of_stranger(self, scope)
