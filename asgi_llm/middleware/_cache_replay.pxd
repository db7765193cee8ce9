cimport cython

from asgi_llm.middleware._cache_counts cimport CacheCounts
from asgi_llm.middleware._cache_headers cimport client_id_of, decimal
from asgi_llm._sending cimport send_both
from asgi_llm.state cimport State
from asgi_llm.stores._kept_answer cimport KeptAnswer


@cython.locals(out=list)
cpdef object start_message(
    State state, tuple headers, bint streams, bint in_its_form, cache_type, double age_seconds,
    Py_ssize_t length
)


@cython.locals(body=bytes, streams=cython.bint, length=Py_ssize_t)
cpdef object replay_kept(
    send, State state, KeptAnswer kept, CacheCounts counts, double age_seconds
)
