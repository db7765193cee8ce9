from asgi_llm.stores._kept_answer cimport KeptAnswer


cdef class RecentTable:
    cdef dict _by_key
    # Of the dictionary's, not owned.
    cdef void* _oldest
    cdef void* _newest

    cpdef KeptAnswer get(self, key)
    cpdef object use(self, key, KeptAnswer kept)
    cpdef object add(self, key, KeptAnswer kept)
    cpdef KeptAnswer remove(self, key)
    cpdef object oldest(self)
    cpdef list in_order(self)
    cpdef object clear(self)
    cdef void _append(self, KeptAnswer kept) noexcept
    cdef void _unlink(self, KeptAnswer kept) noexcept
