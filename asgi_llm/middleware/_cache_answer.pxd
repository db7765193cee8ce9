cimport cython

from asgi_llm.middleware._cache_request cimport CacheRequest
from asgi_llm.state cimport State
from asgi_llm.stores.cache_memory cimport entry_size


cdef int _PASSED_OVER
cdef int _MEDIA
cdef int _KEPT
cdef int _ENCODING
cdef int _CONTROL
cdef int _VARY
cdef int _OF_CACHES
cdef dict _MEANINGS


@cython.final
cdef class AnswerHead:
    cdef readonly bint is_stream
    cdef readonly tuple headers
    cdef readonly bint may_be_stored
    cdef readonly bint tells_of_caches


@cython.final
@cython.freelist(8)
cdef class Verdict:
    cdef readonly object answer
    cdef readonly bint may_be_stored
    cdef readonly long long size


@cython.locals(
    kept=list, may_be_stored=cython.bint, tells_of_caches=cython.bint, meaning=cython.int,
    is_stream=cython.bint,
)
cpdef AnswerHead read_head(status, headers)


@cython.locals(said=dict, tells_usage=cython.bint, ends_well=cython.bint, verdict=Verdict)
cpdef Verdict judge_answer(
    CacheRequest request, AnswerHead head, body, State state, fresh_seconds, keep_seconds
)


cdef bint _all_end_well(list choices) except -1
