cdef class Place:
    cdef public object provider
    cdef public object model
    cdef public object price
    cdef public bytes shared
    cdef public bytes head
    cdef public double since
    cdef public double until
    cdef public object rates
    cdef public object source
    cdef public bytes ending

    cpdef object renew(self, double seconds)


cdef class Kind:
    cdef public object asker
    cdef public object principal
    cdef public object path
    cdef public object operation
    cdef public bint by_tokens
    cdef public bint is_chat
    cdef public object model
    cdef public object tags
    cdef public object resolved
    cdef public Place first
    cdef public object own
    cdef public object plan
    cdef public bint spends
    cdef public double since
    cdef public double until
    cdef public tuple most
    cdef object _pricer
    cdef dict _places

    cpdef object renew(self, double seconds)
    cpdef Place place(self, provider, model)


cdef class Kinds:
    cdef object _pricer
    cdef object _planner
    cdef object _tag_names
    cdef bint _has_own
    cdef dict _kinds

    cpdef Kind settled(self, asker, path, model)
    cpdef Kind _make(self, asker, path, model, document)
