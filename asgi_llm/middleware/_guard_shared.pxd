cimport cython

from asgi_llm.middleware._guard_panel cimport Panel
from asgi_llm.state cimport State

cdef Panel NOBODY


@cython.final
cdef class Settings:
    cdef public object threads, max_answer_bytes, max_held_characters, digest_key, placeholders
    cdef public bint tell_header, stream_error_event, reversible, has_audit


@cython.final
cdef class Guards:
    cdef public object app, input, output, max_body_bytes, body_timeout_seconds
    cdef public Panel every_input, every_output
    cdef public frozenset paths
    cdef public Settings settings
    cdef public bint parallel, enforce


cdef class Guarded:
    cdef object _asked
    cdef public Guards guards
    cdef public str path
    cdef public Settings settings
    cdef public State state
    cdef public Panel panel
    cdef public object document, notes_if_any, vault_if_any

    cdef object _set_up(self, Guards guards, State state, str path)
