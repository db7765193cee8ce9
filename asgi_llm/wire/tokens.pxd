cimport cython


cdef str _plain_text(dict message)
@cython.locals(size=Py_ssize_t, text_tokens=Py_ssize_t, text=str)
cpdef long long estimate_messages(messages)
