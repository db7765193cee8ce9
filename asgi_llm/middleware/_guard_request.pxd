cimport cython

from asgi_llm.middleware._guard_answer cimport GuardedAnswer
from asgi_llm.middleware._guard_shared cimport Guarded, Guards


@cython.final
cdef class GuardedRequest(Guarded):
    pass
