from asgi_llm.stores._clock cimport read_clock
from asgi_llm.stores._journal_short cimport ShortCall
from asgi_llm.stores._journal_sync cimport GroupSync
from asgi_llm.stores._journal_waiting cimport WaitingOutcomes
from asgi_llm.stores._journal_writer cimport LaneWriter
from asgi_llm.stores._thread_lock cimport ThreadLock


cdef long long _forks


cdef class FileJournal:
    cdef object __weakref__
    cdef public object folder
    cdef object _lanes
    cdef public object on_full
    cdef object _max_unwritten_rows
    cdef object _clock
    cdef object _listener
    cdef ThreadLock _lock
    cdef long long _fork
    cdef readonly LaneWriter _writer
    cdef GroupSync _group
    cdef long long _written_rows
    cdef object _oldest
    cdef WaitingOutcomes _waiting
    cdef bint _failing
    cdef bint _is_ending
    cdef public object unwritten_intents

    cpdef intend_packed(self, object intent, bytes row)
    cpdef intend_short(self, ShortCall call, bytes head, bytes ending)
    cpdef bint write_intent(self, ShortCall call, bytes head, bytes ending) except -1
    cpdef settle_short(self, ShortCall call, bytes head, bytes ending)
    cpdef bint write_outcome(self, ShortCall call, bytes head, bytes ending) except -1
    cdef _not_intended(self, object error)
    cdef LaneWriter _lane(self)
    cpdef _leave_to_parent(self)
    cdef _refused(self, object error)
    cdef _write_waiting(self)
    cdef _give_up(self)
