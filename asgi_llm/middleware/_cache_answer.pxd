cimport cython

from asgi_llm.middleware._cache_headers cimport values_of
from asgi_llm.middleware._cache_plain cimport peek_answer
from asgi_llm.middleware._cache_request cimport CacheRequest
from asgi_llm.state cimport State
from asgi_llm.stores._kept_answer cimport KeptAnswer, entry_size


cdef int _PASSED_OVER
cdef int _MEDIA
cdef int _KEPT
cdef int _ENCODING
cdef int _CONTROL
cdef int _VARY
cdef int _OF_CACHES
cdef dict _MEANINGS
cdef bint _READS_BYTES


@cython.final
cdef class AnswerHead:
    cdef readonly bint is_stream
    cdef readonly tuple headers
    cdef readonly bint may_be_stored
    cdef readonly bint tells_of_caches


@cython.locals(
    kept=list, may_be_stored=cython.bint, tells_of_caches=cython.bint, meaning=cython.int,
    is_stream=cython.bint,
)
cpdef AnswerHead read_head(status, headers)


cdef int _NO_ANSWER
cdef int _TELLS_USAGE
cdef int _ENDS_BADLY


@cython.locals(
    said=dict, found=cython.int, told=cython.int, may_be_stored=cython.bint, kept=KeptAnswer,
)
cpdef KeptAnswer judge_answer(
    CacheRequest request, AnswerHead head, body, State state, double fresh_seconds,
    double keep_seconds
)


@cython.locals(ends_well=cython.bint, tells_usage=cython.bint)
cpdef int read_whole(body, bint is_embedding) except -2


cdef int _found(bint ends_well, bint tells_usage) except -2


cdef bint _all_end_well(list choices) except -1
