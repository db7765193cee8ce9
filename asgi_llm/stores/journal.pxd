from asgi_llm.stores._journal_sync cimport GroupSync
from asgi_llm.stores._journal_writer cimport LaneWriter


cdef class FileJournal:
    cdef object __weakref__
    cdef public object folder
    cdef object _worker
    cdef object _max_segment_bytes
    cdef object _fsync
    cdef object _fsync_interval_seconds
    cdef public object on_full
    cdef object _map_segments
    cdef object _max_unwritten_rows
    cdef object _clock
    cdef object _listener
    cdef object _lock
    cdef object _acquire
    cdef object _release
    cdef object _fork
    cdef readonly LaneWriter _writer
    cdef GroupSync _group
    cdef long long _written_rows
    cdef object _oldest
    cdef object _unwritten
    cdef long long _unwritten_rows
    cdef bint _failing
    cdef public object unwritten_intents
    cdef public object lost_rows

    cpdef intend_packed(self, object intent, bytes row)
    cpdef intend_short(
        self,
        object intent,
        bytes ids,
        object at,
        bint streamed,
        object tokens_in,
        bytes head,
        bytes ending,
    )
    cpdef settle_short(
        self,
        object intent,
        bytes ids,
        object at,
        bint streamed,
        object tokens_in,
        object tokens_out,
        object latency_seconds,
        object first_seconds,
        bytes head,
        bytes ending,
    )
    cdef _not_intended(self, object error)
    cdef LaneWriter _lane(self)
    cdef _leave_to_parent(self)
    cdef _refused(self, object error)
    cdef _write_kept(self)
