cimport cython


@cython.final
@cython.freelist(64)
cdef class CacheRequest:
    cdef readonly object key
    cdef readonly object operation
    cdef readonly object route
    cdef readonly object query
    cdef readonly dict document
    cdef readonly object model
    cdef readonly bint streams
    cdef readonly bint tells_usage
    cdef readonly object partition
    cdef readonly object controls
    cdef readonly object deployment


@cython.locals(head=bytes, document=dict)
cpdef bytes digest_request(CacheRequest request, bytes content=*, purpose=*)


@cython.locals(fields=dict, streams=cython.bint, tells_usage=cython.bint)
cpdef CacheRequest read_request(document, route, query, partition, controls, deployment)
