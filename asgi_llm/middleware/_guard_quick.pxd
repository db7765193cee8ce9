cimport cython

cdef Py_ssize_t _MOST


@cython.final
cdef class PanelLook:
    cdef object _match
    cdef Py_ssize_t _near, _near_of_several
    cdef Py_ssize_t _disguised
    cdef list _owners, _roles, _rules
    cdef frozenset _all
    cdef dict _group_of
    cdef object _of_several
    cdef bint _is_for_pieces

    cpdef str judge(self, str text)
    cpdef str judge_request(self, object texts, object roles, object chains=*)
    @cython.locals(first=str, last=str, start=str, end=str, near=Py_ssize_t, place=Py_ssize_t)
    cdef str _in_two(self, object texts, object roles)
    @cython.locals(number=Py_ssize_t)
    cdef bint _is_quiet(
        self, object guard, frozenset of_roles, object texts, object roles, object chains
    ) except -1
    @cython.locals(tail=str, data=bytes)
    cpdef bint passes(self, str text) except -1
    cpdef bint concerns(self, str text, str role) except -1
    @cython.locals(asked=list)
    cdef bint _are_false_alarms(self, object hits, bytes data) except -1


@cython.locals(number=Py_ssize_t)
cdef str _role_of(object chain, object roles)
