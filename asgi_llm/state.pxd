cimport cython


cdef class State:
    cdef object _headers
    cdef object _header_map
    cdef dict _values
    cdef dict _deferred
    cdef object _request_id
    cdef object _document_source
    cdef object _document
    cdef object _event_log

    @cython.locals(forked=State)
    cpdef State fork(self)
    @cython.locals(branched=State)
    cpdef State branch(self)
    cpdef void adopt(self, State branched)
    cpdef object document(self, data)
    cpdef object get(self, key)
    cpdef object set(self, key, value)
    cpdef object defer(self, key, make)


cpdef tuple enter(object scope)
