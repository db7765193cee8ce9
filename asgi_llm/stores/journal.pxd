from asgi_llm.stores._clock cimport read_clock
from asgi_llm.stores._journal_pending cimport PendingRows
from asgi_llm.stores._journal_short cimport ShortCall


cdef long long _forks


cdef class FileJournal(PendingRows):
    cdef object __weakref__
    cdef public object folder
    cdef public object on_full
    cdef object _listener
    cdef long long _fork
    cdef bint _is_ending
    cdef public object unwritten_intents

    cpdef intend_packed(self, object intent, bytes row)
    cpdef intend_short(self, ShortCall call, bytes head, bytes ending)
    cpdef bint write_intent(self, ShortCall call, bytes head, bytes ending) except -1
    cpdef settle_short(self, ShortCall call, bytes head, bytes ending)
    cpdef bint write_outcome(self, ShortCall call, bytes head, bytes ending) except -1
    cdef _not_intended(self, object error)
    cpdef _leave_to_parent(self)
    cdef _give_up(self)
