cimport cython
from asgi_llm.middleware._cost_kinds cimport Kind
from asgi_llm.stores._journal_short cimport ShortCall


@cython.no_gc
cdef class Asked:
    cdef public object id
    cdef public object request_id
    cdef public double seconds
    cdef public long long microseconds
    cdef public Kind kind
    cdef public object plan
    cdef public object document
    cdef public bint streamed
    cdef public object input_tokens
    cdef public bint is_plain
    cdef public ShortCall call
