from asgi_llm.state cimport State


cpdef bint are_plain_headers(State state, Py_ssize_t max_body_bytes) except -1
cpdef dict values_of(State state)
cpdef bytes decimal(long long number)
cpdef object client_id_of(State state)
cpdef object credentials_of(headers, names, unsigned long long lengths)
