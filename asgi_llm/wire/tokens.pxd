cimport cython
from asgi_llm.wire._plain_texts cimport measure_texts

cdef Py_ssize_t _ANSWER_TOKENS
cdef Py_ssize_t _MESSAGE_TOKENS
cdef Py_ssize_t _BYTES_A_TOKEN


@cython.locals(size=Py_ssize_t, text_tokens=Py_ssize_t)
cpdef long long estimate_messages(messages)
