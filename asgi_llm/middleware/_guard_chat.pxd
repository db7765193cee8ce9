cimport cython

cdef frozenset _WORD_FIELDS, _NUMBER_FIELDS, _STREAM_OPTIONS
cdef Py_ssize_t _LONGEST_WORD
cdef object _LEAST_LONG, _MOST_NEGATIVE
cdef dict _SHORT_ROLE

@cython.locals(
    texts=list, roles=list, messages=list, message=dict, key=str, word=str, role=str, text=str
)
cpdef tuple read_simple_request(dict document)
cdef bint _is_setting(object value) except -1
