cimport cython

from asgi_llm.middleware._cache_counts cimport CacheCounts
from asgi_llm.middleware._cache_flight cimport Flights
from asgi_llm.stores.cache_memory cimport MemoryCache


@cython.final
cdef class ExactSettings:
    cdef readonly object app
    cdef readonly object refresh_app
    cdef readonly object calls
    cdef readonly MemoryCache memory
    cdef readonly CacheCounts counts
    cdef readonly Flights flights
    cdef readonly object refreshes
    cdef readonly object ttl_seconds
    cdef readonly object revalidate_seconds
    cdef readonly object if_error_seconds
    cdef readonly object longest_stale_seconds
    cdef readonly object keep_seconds
    cdef readonly object max_entry_bytes
    cdef readonly object at_once_bytes
    cdef readonly bint shares
    cdef readonly object wait_seconds
    cdef readonly object event_seconds
    cdef readonly object clock
    cdef readonly object sleep
