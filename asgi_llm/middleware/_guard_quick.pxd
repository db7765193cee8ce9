cimport cython

from asgi_llm.guards._injection_scan cimport Ceiling
from asgi_llm.guards._plain_words cimport is_plain_words
from asgi_llm.middleware._guard_lines cimport ascii_of, is_ascii, join_two

cdef Py_ssize_t _MOST
cdef tuple _OF_TWO


@cython.final
cdef class PanelLook:
    cdef object _match
    cdef Py_ssize_t _near, _near_of_several
    cdef Py_ssize_t _disguised
    cdef list _ceilings, _owners, _roles, _rules, _wordy
    cdef frozenset _all
    cdef dict _group_of
    cdef object _of_several
    cdef bint _is_for_pieces, _reads_words

    @cython.locals(data=bytes)
    cpdef str judge(self, str text)
    @cython.locals(hits=list, hit=Py_ssize_t)
    cpdef str judge_line(self, bytes data)
    @cython.locals(
        data=bytes, hits=list, hit=Py_ssize_t, count=Py_ssize_t, near=Py_ssize_t
    )
    cpdef str judge_request(self, list texts, list roles, object chains=*)
    cdef bint _says_nothing(self, bytes data) except -1
    @cython.locals(number=Py_ssize_t, of_roles=frozenset, ceiling=Ceiling, text=str, at=Py_ssize_t)
    cdef bint _is_quiet(
        self, Py_ssize_t hit, bytes data, list texts, list roles, object chains
    ) except -1
    @cython.locals(ceiling=Ceiling)
    cdef bint _is_false_alarm(self, Py_ssize_t hit, bytes data) except -1
    @cython.locals(tail=str, data=bytes)
    cpdef bint passes(self, str text) except -1
    cpdef bint concerns(self, str text, str role) except -1
    @cython.locals(hit=Py_ssize_t)
    cdef bint _are_false_alarms(self, object hits, bytes data) except -1


@cython.locals(number=Py_ssize_t)
cdef str _role_of(object chain, object roles)
