cimport cython

from asgi_llm.middleware._cache_answer cimport AnswerHead, judge_answer, read_head
from asgi_llm.middleware._cache_counts cimport CacheCounts
from asgi_llm.middleware._cache_drive cimport drive, hand_on
from asgi_llm.middleware._cache_flight cimport Flight, Flights
from asgi_llm.middleware._cache_headers cimport values_of
from asgi_llm.middleware._cache_request cimport CacheRequest
from asgi_llm.middleware._cache_settings cimport ExactSettings
from asgi_llm.state cimport State
from asgi_llm.stores._kept_answer cimport KeptAnswer
from asgi_llm.stores.cache_memory cimport MemoryCache


@cython.final
cdef class LedAnswer(Flight):
    cdef readonly object scope
    cdef readonly object kept
    cdef public bint has_left
    cdef readonly bint failed
    cdef bint _has_stale
    cdef AnswerHead _recorded
    cdef ExactSettings _settings
    cdef object _key
    cdef object _data
    cdef object _receive
    cdef object _send
    cdef State _state

    cdef object _set_off(
        self, ExactSettings settings, CacheRequest request, key, data, scope, receive, send,
        State state
    )

    cpdef object receive(self)

    @cython.locals(settings=ExactSettings, flights=Flights)
    cpdef object run(self)

    @cython.locals(told=dict, headers=list, head=AnswerHead)
    cpdef object send(self, message)

    cdef object _record(self, AnswerHead head, bytes chunk, message)

    @cython.locals(settings=ExactSettings, request=CacheRequest)
    cpdef KeptAnswer _judge(self, AnswerHead head, bytes body)

    @cython.locals(settings=ExactSettings)
    cdef object _settle(self, KeptAnswer judged)
