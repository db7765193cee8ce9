from asgi_llm.stores._journal_format cimport pack_short_intent, pack_short_outcome
from asgi_llm.stores._journal_sync cimport GroupSync


cdef class LaneWriter:
    cdef long long _max_segment_bytes
    cdef long long _half_segment
    cdef bint _maps
    cdef bint _always
    cdef GroupSync _group
    cdef int _file
    cdef object _map
    cdef long long _capacity
    cdef public object acknowledged
    cdef long long _number
    cdef long long _offset
    cdef long long _first
    cdef long long _reserved
    cdef dict _shared
    cdef long long _span_end
    cdef dict _open
    cdef dict _told
    cdef object _sync
    cdef readonly object path
    cdef readonly int _lock

    cpdef append_intent(
        self,
        object intent,
        bytes ids,
        object at,
        bint streamed,
        object tokens_in,
        bytes head,
        bytes ending,
    )
    cpdef append_outcome(
        self,
        object intent,
        bytes ids,
        object at,
        bint streamed,
        object tokens_in,
        object tokens_out,
        object latency_seconds,
        object first_seconds,
        object written,
        bytes head,
        bytes ending,
    )
    cdef long long _keep(self, long long room) except? -1
    cdef _close(self, object intent)
    cdef _share(self, bytes head, bytes ending, long long needed)
    cdef _begin_span(self)
    cdef _append(self, bytes record, long long keep)
    cdef _put(self, bytes record)
    cdef _note_written(self, GroupSync group)
    cdef _write(self, bytes record)
    cdef _begin_segment(self, long long needed)
    cdef _carry(self, long long number)
