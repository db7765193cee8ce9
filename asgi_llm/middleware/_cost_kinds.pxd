cimport cython
from asgi_llm.middleware._cost_quick cimport slot_of


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
    cdef public str path
    cdef public object operation
    cdef public bint by_tokens
    cdef public bint is_chat
    cdef public str model
    cdef public object tags
    cdef public object resolved
    cdef public Place first
    cdef public object made
    cdef public Place made_place
    cdef public object own
    cdef public object plan
    cdef public bint spends
    cdef public double since
    cdef public double until
    cdef public tuple most
    cdef public long long most_input
    cdef public long long most_output
    cdef public long long most_request
    cdef public bint is_small
    cdef object _pricer
    cdef dict _places

    cpdef object renew(self, double seconds)
    cpdef Place place(self, provider, model)
    @cython.locals(place=Place)
    cpdef Place place_made(self, made)


cdef class Kinds:
    cdef object _pricer
    cdef object _planner
    cdef object _tag_names
    cdef bint _has_own
    cdef dict _kinds
    cdef list _recent

    @cython.locals(kind=Kind, slot=Py_ssize_t)
    cpdef Kind settled(self, asker, str path, str model)
    cpdef Kind _make(self, asker, path, model, document)
