from asgi_llm.middleware._cache_request cimport CacheRequest

ctypedef unsigned char byte


cdef bytes digest_of(const byte* data, Py_ssize_t length)
cpdef bytes digest(bytes data)
cpdef CacheRequest read_bytes(
    data, route, operation, query, partition, controls, namespace, deployment, bint deterministic
)
cpdef int peek_answer(body) except -2
