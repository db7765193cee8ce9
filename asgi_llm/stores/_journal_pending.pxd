from asgi_llm.stores._clock cimport read_clock
from asgi_llm.stores._journal_sync cimport GroupSync
from asgi_llm.stores._journal_waiting cimport WaitingOutcomes
from asgi_llm.stores._journal_writer cimport LaneWriter
from asgi_llm.stores._thread_lock cimport ThreadLock


cdef class PendingRows:
    cdef object _lanes
    cdef object _max_unwritten_rows
    cdef object _clock
    cdef ThreadLock _lock
    cdef readonly LaneWriter _writer
    cdef GroupSync _group
    cdef long long _written_rows
    cdef object _oldest
    cdef WaitingOutcomes _waiting
    cdef bint _failing

    cdef LaneWriter _lane(self)
    cdef _refused(self, object error)
    cdef _write_waiting(self)
