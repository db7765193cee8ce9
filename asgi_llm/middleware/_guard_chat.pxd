cimport cython

cdef frozenset _WORD_FIELDS, _NUMBER_FIELDS, _STREAM_OPTIONS
cdef Py_ssize_t _LONGEST_WORD
cdef object _LEAST_LONG
cdef dict _SHORT_ROLE

@cython.locals(texts=list, roles=list)
cpdef object read_simple_request(dict document)
cdef bint _is_setting(object value) except -1
