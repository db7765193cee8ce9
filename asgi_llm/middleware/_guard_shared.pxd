cimport cython

from asgi_llm.state cimport State


@cython.final
cdef class Settings:
    cdef public object threads, max_answer_bytes, max_held_characters, digest_key, placeholders
    cdef public bint tell_header, stream_error_event, reversible, has_audit


@cython.final
cdef class Guards:
    cdef public object app, input, output, max_body_bytes, body_timeout_seconds
    cdef public Settings settings
    cdef public bint parallel, enforce


cdef class Guarded:
    cdef object _asked
    cdef public Guards guards
    cdef public str path
    cdef public Settings settings
    cdef public State state
    cdef public object panel, document, notes_if_any, vault_if_any
