cimport cython

from asgi_llm._asgi cimport route_path
from asgi_llm._body cimport ArrivingBody, BufferedBody, take_body
from asgi_llm.middleware._cache_counts cimport CacheCounts
from asgi_llm.middleware._cache_flight cimport Flights
from asgi_llm.middleware._cache_lead cimport LedAnswer
from asgi_llm.middleware._cache_headers cimport are_plain_headers, values_of
from asgi_llm.middleware._cache_plain cimport read_bytes
from asgi_llm.middleware._cache_replay cimport replay_kept
from asgi_llm.middleware._cache_request cimport CacheRequest, digest_request, read_request
from asgi_llm.middleware._cache_scope cimport Partitioner
from asgi_llm.middleware._cache_settings cimport ExactSettings
from asgi_llm.state cimport State, enter
from asgi_llm.stores._kept_answer cimport KeptAnswer
from asgi_llm.stores.cache_memory cimport MemoryCache


cdef int _ALL
cdef int _STEADY
cdef int _OTHER


@cython.final
cdef class Intake:
    cdef ExactSettings _settings
    cdef Partitioner _partitioner
    cdef object _cacheable
    cdef bint _client_controls
    cdef object _max_ttl
    cdef Py_ssize_t _max_body_bytes
    cdef Py_ssize_t _most_plain_bytes
    cdef int _rule
    cdef object _body_timeout

    @cython.locals(headers=dict, told=dict)
    cpdef object take(self, scope, receive, send)

    @cython.locals(
        request=CacheRequest, settings=ExactSettings, memory=MemoryCache, led=LedAnswer,
        kept=KeptAnswer, age=cython.double,
    )
    cdef object _begin(self, data, path, controls, scope, receive, send, State state)

    @cython.locals(request=CacheRequest, said=dict, told=dict, is_of_items=cython.bint)
    cdef CacheRequest _read(self, path, data, scope, State state, controls)

    cdef object _bypass(self, scope, receive, send, State state)
