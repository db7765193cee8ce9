cimport cython
from asgi_llm.stores._journal_segment cimport Segment
from asgi_llm.stores._journal_short cimport ShortCall, new_call
from asgi_llm.stores._journal_sync cimport GroupSync


cdef long long _long_bytes
cdef long long _more_bytes


cdef class LaneWriter:
    cdef long long _max_segment_bytes
    cdef long long _half_segment
    cdef bint _maps
    cdef GroupSync _group
    cdef Segment _segment
    cdef public object acknowledged
    cdef long long _first
    cdef long long _reserved
    cdef dict _open
    cdef dict _told
    cdef set _damaged
    cdef object _sync
    cdef readonly object path
    cdef readonly int _lock

    @cython.locals(room="long long")
    cpdef bint append_intent(self, ShortCall call, bytes head, bytes ending) except -1
    cpdef bint append_outcome(
        self, ShortCall call, bytes head, bytes ending, double written
    ) except -1
    cpdef share(self, bytes head, bytes ending, bint is_intent)
    cdef long long _keep(self, long long room) except? -1
    @cython.locals(call=ShortCall)
    cdef _close(self, object intent)
    cdef _append(self, bytes record, long long keep)
    cdef _note_place(self, ShortCall call, long long length)
    cdef _note_written(self, Segment segment, GroupSync group)
    cdef Segment _begin_segment(self, long long needed)
    cdef _carry(self, long long number)
